"""What the documents say is so: their tables follow the code, their examples run, and what they name exists."""

from __future__ import annotations

import inspect
import json
import os
import re
import subprocess
import sys
import textwrap
import wave
from typing import TYPE_CHECKING

import pytest

from codec.entry import (
    END_FIELDS,
    OPTIONAL_END_FIELDS,
    OPTIONAL_FIELDS,
    OWN_FIELDS,
    REQUIRED_FIELDS,
    TRACE_FIELDS,
)
from codec.manifest import KEYS
from codec.metadata import BlobMetadata
from codec.names import Kind
from tests.support.command import command
from tests.support.speech import speech
from tests.tools.readme import (
    ARCHITECTURE,
    CONTRACT,
    DOCUMENTS,
    README,
    TOP,
    all_documents,
    anchors,
    cells,
    commands_table,
    example,
    links,
    written,
)
from worker.delivery.recovery import TRIGGER_UNKNOWN
from worker.model import states
from worker.model.states import BatchState, Trigger
from worker.runtime.metrics import Metrics
from worker.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from tests.support.redis_server import RedisServer

MAKEFILE = (TOP / "Makefile").read_text()
MOST_BYTES, MOST_WORDS = 12 * 1024, 2_000
FOREIGN_VARIABLES = {"GOOGLE_APPLICATION_CREDENTIALS", "MALLOC_ARENA_MAX", "OTEL_EXPORTER_OTLP_ENDPOINT"}
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
        "PATH": f"{TOP / '.venv/bin'}{os.pathsep}{os.environ['PATH']}",
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


def named(pattern: str, documents: Sequence[Path] = DOCUMENTS) -> set[str]:
    """All that documents name by a pattern."""
    return {found for document in documents for found in re.findall(pattern, document.read_text())}


def test_the_readme_is_short() -> None:
    text = README.read_text()
    assert len(text.encode()) <= MOST_BYTES
    assert len(text.split()) <= MOST_WORDS


def test_tables_follow_the_code() -> None:
    text = ARCHITECTURE.read_text()
    assert written(text) == text, "run `make readme`"


@pytest.mark.parametrize("document", all_documents(), ids=lambda path: str(path.relative_to(TOP)))
def test_links_lead_somewhere(document: Path) -> None:
    for link in links(document.read_text()):
        path, _, heading = link.partition("#")
        target = document.parent / path if path else document
        assert target.exists(), link
        assert not heading or heading in anchors(target.read_text()), link


def test_variables_exist() -> None:
    known = {name.upper() for name in Settings.model_fields} | FOREIGN_VARIABLES
    assert named(r"\b[A-Z]+(?:_[A-Z]+)+\b") <= known


def test_metrics_exist() -> None:
    families = list(Metrics().registry.collect())  # one with labels has no samples yet
    names = {f"{family.name}_total" if family.type == "counter" else family.name for family in families}
    known = {sample.name for family in families for sample in family.samples} | names
    assert named(r"\baudio_batch_(?!worker\b)\w+") <= known


def test_make_targets_and_commands_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", MAKEFILE, re.MULTILINE))
    assert named(r"(?:`|\$ )make ([a-z-]+)") <= targets
    commands = set(re.findall(r"\| `([a-z-]+)` \|", commands_table()))
    called = r"(?m)(?:`abw|(?:`|^|-- |bin/)audio-batch-worker) ([a-z][a-z-]*)"
    assert named(called, [document for document in DOCUMENTS if document != CONTRACT]) <= commands


def test_the_contract_names_all_fields_of_entries() -> None:
    audio, end = cells(CONTRACT.read_text(), "### Audio entry"), cells(CONTRACT.read_text(), "### End entry")
    extensions = {*TRACE_FIELDS, f"{OWN_FIELDS}*"}
    assert set(audio) == {field.decode() for field in REQUIRED_FIELDS + OPTIONAL_FIELDS} | extensions
    assert set(end) == {field.decode() for field in END_FIELDS + OPTIONAL_END_FIELDS} | extensions


def test_the_contract_names_all_triggers() -> None:
    triggers = set(Trigger) | {TRIGGER_UNKNOWN}
    assert triggers <= set(cells(CONTRACT.read_text(), "## Done events"))


def test_the_architecture_draws_the_states_of_a_batch_as_the_code_does() -> None:
    text = ARCHITECTURE.read_text()
    drawing, _, table = inspect.cleandoc(states.__doc__ or "").partition("| state")
    drawn = textwrap.dedent(drawing[drawing.index("\n") :]).strip("\n").rstrip()
    assert f"```text\n{drawn}\n```" in text
    in_the_code = list(re.findall(r"^ *\| +([a-z]+) +\|", table, re.MULTILINE))
    told = cells(text, "## The states of a batch")
    assert told[: len(BatchState)] == in_the_code == list(BatchState)


def test_the_contract_names_all_metadata() -> None:
    facts = BlobMetadata(**dict.fromkeys(BlobMetadata.__dataclass_fields__, 0))  # type: ignore[arg-type]
    told = cells(CONTRACT.read_text(), "## Metadata") + cells(CONTRACT.read_text(), "## Manifest")
    assert {*facts.to_mapping(), *KEYS} <= set(told)


def test_the_contract_names_all_extensions() -> None:
    shown = named(r"`1000\.000(?:-1055\.000)?(\.[a-z.]+)`", [CONTRACT])
    assert shown == {kind.extension for kind in Kind}


def test_the_architecture_names_all_packages() -> None:
    packages = {path.parent.name for path in (TOP / "worker").glob("*/__init__.py")}
    assert packages <= set(cells(ARCHITECTURE.read_text(), "## Layers"))


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
    fields = (
        set(cells(CONTRACT.read_text(), "## Done events")) - set(Trigger) - {TRIGGER_UNKNOWN, "trigger", *TRACE_FIELDS}
    )
    assert fields <= set(events.split())


def test_python_examples_push_a_conversation_and_read_it_back(run: Callable[..., str], tmp_path: Path) -> None:
    run(sys.executable, "-c", example("producer"))
    run(sys.executable, "-m", "worker", "run", "--drain")
    assert run(sys.executable, "-c", example("reading")).strip() == "3.0 s, 0 blobs could not be read"
    with wave.open(str(tmp_path / "lunch.wav")) as file:
        assert (file.getframerate(), file.getnframes()) == (16000, 48000)


def test_help_names_every_variable(settings: Callable[..., Settings]) -> None:
    shown = command(settings(), "run", "--help").output
    assert all(name.upper() in shown for name in Settings.model_fields)
