"""What the README says is so: its tables follow the code, its examples run, and what it names exists."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import wave
from typing import TYPE_CHECKING

import pytest

from tests.command import command
from tests.readme import README, commands_table, example, written
from tests.speech import speech
from worker.metrics import Metrics
from worker.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.redis_server import RedisServer

TEXT = README.read_text()
MAKEFILE = (README.parent / "Makefile").read_text()
FOREIGN_VARIABLES = {"GOOGLE_APPLICATION_CREDENTIALS", "MALLOC_ARENA_MAX"}
SHELL = 'set -euo pipefail\nredis-cli() {{ command redis-cli -p {port} "$@"; }}\n'
PATIENCE = 60


@pytest.fixture
def environment(own_redis: Callable[..., RedisServer], tmp_path: Path) -> dict[str, str]:
    """What the reader has exported, for a Redis and a store of this test alone."""
    return dict(os.environ) | {
        "REDIS_URL": own_redis().url,
        "STORE_URL": (tmp_path / "recordings").as_uri(),
        "ENCRYPTION_SECRET": "the reader's secret of at least 32 bytes",
        "HTTP_HOST": "127.0.0.1",
        "HTTP_PORT": "0",
        "PATH": f"{README.parent / '.venv/bin'}{os.pathsep}{os.environ['PATH']}",
    }


@pytest.fixture
def run(environment: dict[str, str], tmp_path: Path) -> Callable[..., str]:
    """Run a program in a directory of its own; its standard output."""

    def run(*arguments: str) -> str:
        finished = subprocess.run(
            arguments, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=PATIENCE, check=False
        )
        assert finished.returncode == 0, finished.stderr
        return finished.stdout

    return run


def test_tables_follow_the_code() -> None:
    assert written(TEXT) == TEXT, "run `make readme`"


def test_links_lead_somewhere() -> None:
    headings = {heading.lower().replace(" ", "-") for heading in re.findall(r"^#+ (.+)$", TEXT, re.MULTILINE)}
    links = re.findall(r"\]\(([^)]+)\)", TEXT)
    assert links
    for link in links:
        path, _, heading = link.partition("#")
        assert (README.parent / path).exists(), link
        assert not heading or heading in headings, link


def test_variables_exist() -> None:
    named = set(re.findall(r"\b[A-Z]+(?:_[A-Z]+)+\b", TEXT))
    assert named <= {name.upper() for name in Settings.model_fields} | FOREIGN_VARIABLES


def test_metrics_exist() -> None:
    families = list(Metrics().registry.collect())  # one with labels has no samples yet
    named = {f"{family.name}_total" if family.type == "counter" else family.name for family in families}
    known = {sample.name for family in families for sample in family.samples} | named
    assert set(re.findall(r"\baudio_batch_(?!worker\b)\w+", TEXT)) <= known


def test_make_targets_and_commands_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", MAKEFILE, re.MULTILINE))
    assert set(re.findall(r"(?:`|\$ )make ([a-z-]+)", TEXT)) <= targets
    commands = set(re.findall(r"\| `([a-z-]+)` \|", commands_table()))
    assert set(re.findall(r"audio-batch-worker ([a-z][a-z-]*)", TEXT)) <= commands


def test_pushing_by_hand_stores_the_very_audio_and_tells_the_backend(
    run: Callable[..., str], environment: dict[str, str], tmp_path: Path
) -> None:
    with wave.open(str(tmp_path / "speech.wav"), "wb") as file:
        file.setparams((1, 2, 16000, 0, "NONE", ""))
        file.writeframes(speech(7))
    shell = SHELL.format(port=environment["REDIS_URL"].rpartition(":")[2].partition("/")[0])
    run("bash", "-c", shell + example("pushing"))
    run(sys.executable, "-m", "worker", "run", "--drain")
    events = run("bash", "-c", shell + example("pushing").partition("\n")[0] + "\n" + example("events"))
    (blob,) = json.loads(run(sys.executable, "-m", "worker", "ls", "--uid", "alice", "--json"))["blobs"]
    assert (blob["conversation_id"], blob["duration"], blob["protection"]) == ("breakfast", 5.0, "enhanced")
    assert (blob["metadata"]["samples"], blob["metadata"]["seqs"]) == ("80000", "0")
    assert blob["name"] in events
    (fields,) = re.findall(r"The fields are (.*?) if the pusher", TEXT)
    assert set(re.findall(r"`(\w+)`", fields)) <= set(events.split())


def test_python_examples_push_a_conversation_and_read_it_back(run: Callable[..., str], tmp_path: Path) -> None:
    run(sys.executable, "-c", example("producer"))
    run(sys.executable, "-m", "worker", "run", "--drain")
    assert run(sys.executable, "-c", example("reading")).strip() == "3.0 s, 0 blobs could not be read"
    with wave.open(str(tmp_path / "lunch.wav")) as file:
        assert (file.getframerate(), file.getnframes()) == (16000, 48000)


def test_help_names_every_variable(settings: Callable[..., Settings]) -> None:
    shown = command(settings(), "run", "--help").output
    assert all(name.upper() in shown for name in Settings.model_fields)
