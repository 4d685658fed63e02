"""The public API as a strict type checker sees it in an installed wheel."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from tests.wheel.conftest import TOP, run

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

API = TOP / "tests" / "typing" / "api.py"
MISTAKES = """
from audio_batch_worker.codec.entry import Chunk
from audio_batch_worker.producer import Producer

reveal_type(Producer("").stats().trouble)
reveal_type(Chunk("alice", "lunch", 0.0, b"").pcm)
Producer(partitions=64)
Chunk("alice", "lunch", 0.0, "text")
"""


BOTH_NAMES = """
import worker
from audio_batch_worker.producer import Producer as InstalledProducer
from codec.entry import Chunk
from worker.producer import Producer

producer: InstalledProducer = Producer("")
reveal_type(worker.__version__)
reveal_type(Chunk("alice", "lunch", 0.0, b"").pcm)
Chunk("alice", "lunch", 0.0, "text")
"""


@pytest.fixture
def check(
    request: pytest.FixtureRequest, installed: Path, tmp_path: Path, application_with: Callable[[str], Path]
) -> Callable[..., str]:
    """Run mypy as a program does that uses the wheel, and may have a `worker` and a `codec` of its own."""
    kind = getattr(request, "param", "modules")
    directory = application_with(kind) if kind else tmp_path
    cache = TOP / ".mypy_cache" / "wheel"  # what the wheel depends on is long to read, and stays the same

    def check(program: str, *, fails: bool = False) -> str:
        (directory / "program.py").write_text(program)
        command = ["-m", "mypy", "--strict", "--cache-dir", str(cache), "--python-executable", str(installed)]
        return run(sys.executable, *command, "program.py", cwd=directory, code=int(fails))

    return check


def test_the_public_api_has_the_types_that_programs_rely_on(check: Callable[..., str]) -> None:
    assert check(API.read_text()) == "Success: no issues found in 1 source file\n"


def test_mistakes_are_found(check: Callable[..., str]) -> None:
    shown = check(MISTAKES, fails=True)

    assert 'Revealed type is "audio_batch_worker.producer.trouble.Trouble | None"' in shown
    assert 'Revealed type is "bytes"' in shown or 'Revealed type is "builtins.bytes"' in shown
    assert 'Missing positional argument "redis_url" in call to "Producer"' in shown
    assert 'Argument 4 to "Chunk" has incompatible type "str"; expected "bytes"' in shown


@pytest.mark.parametrize("check", [None], indirect=True)
def test_both_names_have_the_same_types(check: Callable[..., str]) -> None:
    shown = check(BOTH_NAMES, fails=True)

    assert 'Revealed type is "str"' in shown or 'Revealed type is "builtins.str"' in shown
    assert 'Argument 4 to "Chunk" has incompatible type "str"; expected "bytes"' in shown
    assert "Found 1 error" in shown


@pytest.mark.parametrize("check", ["modules", "packages", "folders"], indirect=True)
def test_an_applications_own_worker_and_codec_keep_their_types(
    request: pytest.FixtureRequest, check: Callable[..., str]
) -> None:
    program = {
        "modules": "import codec, worker\nreveal_type(worker.OWNER + codec.OWNER)",
        "packages": "import codec, worker.tasks\nreveal_type(worker.tasks.OWNER + codec.OWNER)",
        "folders": "import codec.tables, worker.tasks\nreveal_type(worker.tasks.OWNER + codec.tables.OWNER)",
    }[request.node.callspec.params["check"]]

    shown = check(program)

    assert 'Revealed type is "str"' in shown or 'Revealed type is "builtins.str"' in shown
