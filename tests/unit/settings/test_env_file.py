"""Settings from a file: what is set already stays, and what is no variable is told without its text."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import pytest

from tests.support.process import environment, outcome
from worker.errors import SettingsError
from worker.settings.env_file import add_env_file

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from worker.settings import Settings

TEXT = """\
# a comment
REDIS_URL=redis://there
export STREAM_PREFIX='pcm2'   # with a comment behind it
ENCRYPTION_SECRET="a $ecret of ${HOME} and = signs"

PARTITIONS=
GAP_TOLERANCE=3
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "settings.env"


def test_variables_of_the_file_are_added_and_those_that_are_set_stay(file: Path) -> None:
    file.write_text(TEXT)
    variables = {"GAP_TOLERANCE": "1", "REDIS_URL": "", "HOME": "/home"}
    add_env_file(file, variables)
    assert variables == {
        "GAP_TOLERANCE": "1",
        "REDIS_URL": "redis://there",
        "HOME": "/home",
        "STREAM_PREFIX": "pcm2",
        "ENCRYPTION_SECRET": "a $ecret of ${HOME} and = signs",
    }


@pytest.mark.parametrize("line", ["ENCRYPTION_SECRET", "SECRET: words", "='secret'", "A='secret"])
def test_a_line_that_is_no_variable_is_told_by_its_number_only(file: Path, line: str) -> None:
    file.write_text(f"A=1\nB=2\n{line}\n")
    with pytest.raises(SettingsError, match=r"settings\.env, line 3 is not NAME=value") as caught:
        add_env_file(file, {})
    assert "ecret" not in str(caught.value).replace(str(file), "").lower()


@pytest.mark.parametrize("content", [None, b"A=\xff\n"])
def test_a_file_that_can_not_be_read_is_named(file: Path, content: bytes | None) -> None:
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(SettingsError, match=rf"--env-file {re.escape(str(file))} can't be read"):
        add_env_file(file, {})


@pytest.fixture
def whole(settings: Callable[..., Settings], file: Path) -> Path:
    """A file with all that a command needs."""
    file.write_text("".join(f"{name}={value}\n" for name, value in environment(settings()).items()))
    return file


@pytest.mark.slow
async def test_every_command_takes_a_file(whole: Path, tmp_path: Path) -> None:
    status, printed, complaints = await outcome({}, "--env-file", str(whole), "ls", "--uid", "u", "--json")
    assert (status, json.loads(printed)["blobs"]) == (0, []), complaints
    status, _, complaints = await outcome({}, "--env-file", str(tmp_path / "none"), "ls", "--uid", "u")
    assert status == 2
    assert "can't be read" in complaints
