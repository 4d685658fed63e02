"""The systemd unit: systemd understands it, and its command stores audio with its variables."""

from __future__ import annotations

import configparser
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from codec.entry import partition_of
from tests.examples.stage import EXAMPLES
from tests.support.oracle import Talk
from tests.support.secret import TEST_SECRET
from worker.settings import Settings

if TYPE_CHECKING:
    from tests.examples.stage import Stage

UNIT = EXAMPLES / "systemd" / "audio-batch-worker.service"
INSTALLED = Path("/opt/audio-batch-worker/bin/audio-batch-worker")
COMMAND = Path(sys.prefix) / "bin" / "audio-batch-worker"


class Unit(configparser.RawConfigParser):
    """A unit's sections; keys are case-sensitive and come more than once."""

    def __init__(self, text: str) -> None:
        super().__init__(strict=False)
        self.optionxform = str  # type: ignore[assignment, method-assign]
        self.read_string(text)
        self.environment = dict(
            pair.split("=", 1) for line in text.splitlines() if line.startswith("Environment=") for pair in [line[12:]]
        )


def variables(text: str) -> dict[str, str]:
    """An EnvironmentFile's."""
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return dict(line.split("=", 1) for line in lines)


def test_systemd_understands_every_line(tmp_path: Path) -> None:
    unit = tmp_path / UNIT.name
    unit.write_text(UNIT.read_text().replace(str(INSTALLED), str(shutil.which("true"))))
    checked = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", unit],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (checked.returncode, checked.stderr) == (0, "")


async def test_the_command_stores_audio_and_stops_in_time(stage: Stage) -> None:
    unit = Unit(UNIT.read_text())
    program, *arguments = shlex.split(unit["Service"]["ExecStart"])
    assert Path(program) == INSTALLED
    talk = Talk("c")
    with stage.redis.client() as client:
        for entry in (talk.say(3), talk.end()):
            client.xadd(f"pcm:{{{partition_of('c', 256)}}}", dict(entry.fields()))
    given = variables((UNIT.parent / "env").read_text())
    assert set(given) == {"REDIS_URL", "ENCRYPTION_SECRET"}
    store = {"STORE_URL": stage.environment["STORE_URL"]}  # the state directory is systemd's to make
    environment = unit.environment | given | store | {"REDIS_URL": stage.redis.url, "ENCRYPTION_SECRET": TEST_SECRET}
    async with stage.program(COMMAND, *arguments, environment=environment) as worker:
        await stage.until(lambda: stage.entries() == 0, "the worker stores it")
        worker.terminate()
        assert await stage.ended(worker) == 0
    assert stage.exported("user", "c") == talk.pcm


def test_its_times_and_places_fit_the_worker() -> None:
    unit = Unit(UNIT.read_text())
    service = unit["Service"]
    assert float(service["TimeoutStopSec"]) > Settings.model_fields["shutdown_grace"].default
    assert unit.environment["STORE_URL"] == f"file:///var/lib/{service['StateDirectory']}"
    assert service["EnvironmentFile"] in UNIT.read_text().partition("[Unit]")[0]
