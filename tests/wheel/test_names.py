"""`audio_batch_worker` beside an application that has a `worker` and a `codec` of its own."""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING

import pytest

from tests.wheel.conftest import TOP, run
from worker import __version__

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

PROGRAM = """
import pickle
import sys

import audio_batch_worker
from audio_batch_worker import codec
from audio_batch_worker.archive import Archive, StoreError
from audio_batch_worker.codec.entry import Chunk
from audio_batch_worker.producer import BufferFull, Producer
from audio_batch_worker.stream.scripting import script

try:
    Chunk("", "", 0.0, b"")
except codec.errors.BadEntry as error:
    print(type(error).__module__, pickle.loads(pickle.dumps(type(error))) is type(error))
print(audio_batch_worker.__version__, len(script("seal")) > 0)
"""

OWN = """
import codec
import worker

print(getattr(worker, "OWNER", None) or worker.tasks.OWNER)
print(getattr(codec, "OWNER", None) or codec.tables.OWNER)
"""

EVERY_MODULE = """
import importlib
import pkgutil

import audio_batch_worker

for module in pkgutil.walk_packages(audio_batch_worker.__path__, "audio_batch_worker."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
"""

BOTH_NAMES = """
import codec.entry
import worker.archive
import worker.errors
import worker.producer
import worker.stream.client
from audio_batch_worker import archive, codec as our_codec, producer, stream
from audio_batch_worker.codec.entry import Chunk
from audio_batch_worker.producer import BufferFull
from audio_batch_worker.stream import client

assert Chunk is codec.entry.Chunk
assert our_codec is codec and archive is worker.archive and producer is worker.producer
assert client is worker.stream.client and client.__spec__.name == "worker.stream.client"
try:
    raise BufferFull(2, 1)
except worker.errors.PushRefused as error:
    assert isinstance(error, worker.producer.BufferFull)
"""


def test_a_wheel_works_beside_an_applications_own_worker_and_codec(installed: Path, application: Path) -> None:
    own = "import worker.tasks\nimport codec.tables\n" if (application / "codec/tables.py").exists() else ""

    printed = run(installed, "-c", f"{own}{OWN}{PROGRAM}{OWN}", cwd=application).splitlines()

    assert printed[:2] == printed[-2:] == ["the application"] * 2
    assert printed[2:-2] == ["audio_batch_worker.codec.errors True", f"{__version__} True"]


def test_the_commands_of_a_wheel_start_beside_an_applications_own_worker(installed: Path, application: Path) -> None:
    for command in ([installed, "-m", "audio_batch_worker"], [installed.parent / "audio-batch-worker"]):
        assert run(*command, "--version", cwd=application).split()[0] == __version__


def test_every_module_of_a_wheel_can_be_imported(installed: Path, application_with: Callable[[str], Path]) -> None:
    run(installed, "-W", "error", "-c", EVERY_MODULE, cwd=application_with("modules"))


@pytest.mark.parametrize("kind", ["modules", "packages"])
def test_an_editable_install_works_beside_an_applications_own_worker(
    application_with: Callable[[str], Path], kind: str
) -> None:
    printed = run(sys.executable, "-c", f"{OWN}{PROGRAM}{OWN}", cwd=application_with(kind)).splitlines()

    assert printed[:2] == printed[-2:] == ["the application"] * 2
    assert printed[2:-2] == ["audio_batch_worker.codec.errors True", f"{__version__} True"]


def test_an_editable_install_has_the_same_objects_under_both_names(tmp_path: Path) -> None:
    run(sys.executable, "-c", BOTH_NAMES, cwd=tmp_path)
    run(sys.executable, "-c", BOTH_NAMES, cwd=TOP)


def test_the_tests_own_process_has_the_same_objects_under_both_names() -> None:
    for name in ("producer", "archive", "stream.client", "cli"):
        assert importlib.import_module(f"audio_batch_worker.{name}") is importlib.import_module(f"worker.{name}")
    assert importlib.import_module("audio_batch_worker.codec.blob") is importlib.import_module("codec.blob")


def test_the_commands_of_an_editable_install_start(tmp_path: Path) -> None:
    assert run(sys.executable, "-m", "audio_batch_worker", "--version", cwd=tmp_path).split()[0] == __version__
