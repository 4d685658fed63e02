"""`worker` and `codec` where a wheel is installed: second names of ours, unless an application has its own."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from tests.wheel.conftest import OWN_MODULES, TOP, run
from worker import __version__

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SAME = """
import pickle
from importlib.resources import files

import audio_batch_worker.codec.errors
import audio_batch_worker.producer
import codec.errors
import worker
import worker.errors
import worker.stream.client as client
import worker.stream.scripting as scripting
from audio_batch_worker.codec.entry import Chunk
from audio_batch_worker.stream.scripting import script
from codec import entry
from worker.archive import Archive
from worker.producer import BufferFull

assert worker is audio_batch_worker and codec is audio_batch_worker.codec
assert entry.Chunk is Chunk and codec.entry is audio_batch_worker.codec.entry
assert Archive is audio_batch_worker.archive.Archive and worker.producer is audio_batch_worker.producer
assert scripting.script is script and client.__spec__.name == client.__name__ == "audio_batch_worker.stream.client"
assert pickle.loads(b"cworker.producer\\nBufferFull\\n.") is BufferFull
assert files("worker").joinpath("stream", "scripts", "seal.lua").is_file()
assert files("worker.stream").joinpath("scripts", "seal.lua").is_file()
try:
    raise audio_batch_worker.producer.BufferFull(2, 1)
except worker.errors.PushRefused as error:
    assert isinstance(error, BufferFull)
try:
    entry.Chunk("", "", 0.0, b"")
except audio_batch_worker.codec.errors.BadEntry:
    print(worker.__version__)
"""

EVERY_MODULE = """
import pkgutil
import sys
from importlib import import_module

import codec
import worker

for package in (worker, codec):
    for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        if not module.name.endswith("__main__"):
            import_module(module.name)
for name, module in list(sys.modules.items()):
    for alias, installed in (("worker", "audio_batch_worker"), ("codec", "audio_batch_worker.codec")):
        if f"{name}.".startswith(f"{installed}."):
            assert import_module(alias + name.removeprefix(installed)) is module, name
        if name.startswith(f"{alias}."):
            assert sys.modules[installed + name.removeprefix(alias)] is module, name
"""

ABSENT = """
import worker
from importlib.util import find_spec

assert find_spec("worker.absent") is find_spec("worker.stream.absent") is None
try:
    import worker.absent
except ModuleNotFoundError as error:
    print(error.name)
"""

PLACES = {
    "in its own folder": "sys.path.insert(0, {application!r})",
    "behind ours": "sys.path.append({application!r})",
    "beside ours": "sys.path.insert(0, {application!r})",
    "found by a finder of its own": """
from importlib.machinery import PathFinder

class Finder:
    @staticmethod
    def find_spec(name, path=None, target=None):
        return PathFinder.find_spec(name, [{application!r}]) if name in ("worker", "codec") else None

sys.meta_path.append(Finder)
""",
}
"""Where an application's `worker` can be: what makes it so."""

CASES = [(where, kind) for where in PLACES for kind in OWN_MODULES if (where, kind) != ("beside ours", "modules")]
"""One folder has one `worker.py`, whichever was installed last."""

OWN = """
import codec
import worker
if {folders}:
    import codec.tables
    import worker.tasks

print(getattr(worker, "OWNER", None) or worker.tasks.OWNER)
print(getattr(codec, "OWNER", None) or codec.tables.OWNER)
"""

INSTALLED = """
import audio_batch_worker.archive
import audio_batch_worker.codec.entry
import audio_batch_worker.stream.client
"""

BOTH_IN_ONE_NAME = """
import audio_batch_worker.archive
import audio_batch_worker.codec.blob
import audio_batch_worker.stream.client
import codec.blob
import codec.entry
import codec.tables
import worker.archive
import worker.producer
import worker.stream.handlers
import worker.tasks
from audio_batch_worker import archive, producer, stream

for own in (codec.blob, codec.tables, worker.archive, worker.stream.handlers, worker.tasks):
    assert own.OWNER == "the application", own
assert worker.producer is producer and codec.entry is audio_batch_worker.codec.entry
assert not hasattr(archive, "OWNER") and not hasattr(stream, "handlers")
"""


def test_both_names_of_a_wheel_have_the_same_objects(installed: Path, tmp_path: Path) -> None:
    assert run(installed, "-W", "error", "-c", SAME, cwd=tmp_path).strip() == __version__


def test_both_names_lead_to_the_same_modules_everywhere(installed: Path, tmp_path: Path) -> None:
    run(installed, "-W", "error", "-c", EVERY_MODULE, cwd=tmp_path)


def test_a_module_that_is_absent_is_absent_under_both_names(installed: Path, tmp_path: Path) -> None:
    assert run(installed, "-c", ABSENT, cwd=tmp_path).strip() == "worker.absent"


def test_the_worker_starts_under_its_second_name(installed: Path, tmp_path: Path) -> None:
    assert run(installed, "-W", "error", "-m", "worker", "--version", cwd=tmp_path).split()[0] == __version__
    run(installed, "-m", "codec", cwd=tmp_path, code=1)

    (tmp_path / "worker").mkdir()  # with nothing in it that could start
    assert run(installed, "-m", "worker", "--version", cwd=tmp_path).split()[0] == __version__
    (tmp_path / "worker" / "__main__.py").write_text("print('the application')")
    assert run(installed, "-m", "worker", "--version", cwd=tmp_path).strip() == "the application"


@pytest.mark.parametrize(("where", "kind"), CASES)
def test_an_applications_own_worker_and_codec_win(
    installed: Path,
    wheel: Path,
    application_with: Callable[[str], Path],
    tmp_path_factory: pytest.TempPathFactory,
    where: str,
    kind: str,
) -> None:
    application = application_with(kind)
    if where == "beside ours":
        shutil.unpack_archive(wheel, application, "zip")
    here = "import sys\n" + PLACES[where].format(application=str(application))
    own = OWN.format(folders=kind == "folders")

    for program in (own + INSTALLED, INSTALLED + own):
        printed = run(installed, "-c", here + program, cwd=tmp_path_factory.mktemp("elsewhere"))

        assert printed.splitlines() == ["the application"] * 2


def test_a_folder_without_init_can_have_names_of_ours_and_its_own(installed: Path, tmp_path: Path) -> None:
    for name in ("codec/blob", "codec/tables", "worker/archive", "worker/stream/handlers", "worker/tasks"):
        file = tmp_path / f"{name}.py"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text('OWNER = "the application"\n')

    run(installed, "-c", BOTH_IN_ONE_NAME, cwd=tmp_path)


@pytest.mark.parametrize("other", ["unpacked", "in its file", "repository"])
def test_a_second_installation_behind_ours_is_no_application(
    installed: Path, wheel: Path, tmp_path: Path, other: str
) -> None:
    shutil.unpack_archive(wheel, tmp_path / "unpacked", "zip")
    behind = {"unpacked": tmp_path / "unpacked", "in its file": wheel, "repository": TOP}[other]
    (tmp_path / "empty").mkdir()

    program = f"import sys\nsys.path.append({str(behind)!r})\n{SAME}"

    assert run(installed, "-c", program, cwd=tmp_path / "empty").strip() == __version__
