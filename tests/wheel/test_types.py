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


@pytest.fixture
def check(installed: Path, application_with: Callable[[str], Path]) -> Callable[..., str]:
    """Run mypy as a program that uses the wheel does, beside its own `worker.py` and `codec.py`."""
    directory = application_with("modules")
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

    assert 'Revealed type is "audio_batch_worker.producer.sender.Trouble | None"' in shown
    assert 'Revealed type is "bytes"' in shown or 'Revealed type is "builtins.bytes"' in shown
    assert 'Missing positional argument "redis_url" in call to "Producer"' in shown
    assert 'Argument 4 to "Chunk" has incompatible type "str"; expected "bytes"' in shown
