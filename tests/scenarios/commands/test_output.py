"""What commands do with a standard output that is cut off, full, closed or not UTF-8, as real processes."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import pytest

from tests.support.paths import ROOT
from tests.support.process import environment
from tests.support.stored_blobs import T0
from worker.settings import Settings

COMMAND = (sys.executable, "-m", "worker")
ASCII = {"PYTHONIOENCODING": "ascii", "LC_ALL": "C"}
LONG = "talk-" + "ü" * 100
BLOBS = 600
LISTING = ("ls", "--uid", "user")
PRINTING = {
    "ls": LISTING,
    "ls of users": ("ls",),
    "ls as JSON": (*LISTING, "--json"),
    "files": ("files", "--uid", "user", "--conversation", LONG),
    "verify": ("verify", "--uid", "user"),
    "convert": ("convert", "--uid", "user"),
    "copy": ("copy", "--uid", "user", "--from", LONG, "--to", "other", "--dry-run"),
    "rm": ("rm", "--uid", "user", "--dry-run"),
    "audit": ("audit", "--uid", "user", "--conversation", LONG),
    "status": ("status",),
    "dead-letters": ("dead-letters", "ls"),
    "help": ("--help",),
    "help of a command": ("run", "--help"),
    "version": ("--version",),
}


@pytest.fixture
def variables(environment_of_files: Settings) -> dict[str, str]:
    return {**os.environ, **environment(environment_of_files), "COLUMNS": "80"}


@pytest.fixture
def environment_of_files(settings: object, tmp_path: Path) -> Settings:
    """A store whose names no ASCII terminal has; a list of its blobs is larger than the buffer of a pipe."""
    made: Settings = settings()  # type: ignore[operator]
    folder = tmp_path / "store" / "chunks" / "user" / LONG
    folder.mkdir(parents=True)
    for number in range(BLOBS):
        (folder / f"{T0 + number / 1000:.3f}.bin").write_bytes(b"\1\0" * 16)
    return made


def run(
    variables: dict[str, str], *arguments: str, stdout: int = subprocess.PIPE
) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        (*COMMAND, *arguments), env=variables, cwd=ROOT, stdout=stdout, stderr=subprocess.PIPE, check=False, timeout=60
    )


@pytest.mark.parametrize("name", ["ls", "ls as JSON", "convert", "rm"])
def test_output_that_is_cut_off_ends_the_command_quietly(variables: dict[str, str], name: str) -> None:
    words = " ".join(f"'{argument}'" for argument in (*COMMAND, *PRINTING[name]))
    piped = subprocess.run(
        ("bash", "-c", f"set -o pipefail; {words} | head -n 1"),
        env=variables,
        cwd=ROOT,
        capture_output=True,
        check=False,
        timeout=60,
    )

    assert (piped.returncode, piped.stderr) == (141, b"")  # as of a program that SIGPIPE has ended
    assert piped.stdout.count(b"\n") == 1


@pytest.mark.slow
@pytest.mark.parametrize("name", PRINTING)
def test_output_that_can_not_be_written_is_one_sentence(variables: dict[str, str], name: str) -> None:
    with open("/dev/full", "wb") as full:  # noqa: PTH123 -- a device
        result = run(variables, *PRINTING[name], stdout=full.fileno())

    *_, last = result.stderr.decode().splitlines()
    assert last == "audio-batch-worker: standard output can't be written: No space left on device"
    assert "Traceback" not in result.stderr.decode()
    assert result.returncode == (2 if name == "audit" else 1)  # its 1 says that audio is missing


@pytest.mark.slow
@pytest.mark.parametrize("name", PRINTING)
def test_terminal_that_is_not_utf_8_gets_all_text_in_ascii(variables: dict[str, str], name: str) -> None:
    result = run(variables | ASCII, *PRINTING[name])

    assert (result.returncode, b"Traceback" in result.stderr) == (0, False), result.stderr
    assert result.stdout.isascii()


def test_closed_output_and_closed_errors_change_no_exit_code(variables: dict[str, str]) -> None:
    words = " ".join((*COMMAND, *LISTING))
    for closed in (">&-", "2>&-", ">&- 2>&-"):
        result = subprocess.run(
            ("bash", "-c", f"{words} {closed}"), env=variables, cwd=ROOT, capture_output=True, check=False, timeout=60
        )
        assert (result.returncode, b"Traceback" in result.stderr) == (0, False)


@pytest.mark.parametrize("name", ["ls", "audit"])
def test_names_are_whole_in_a_narrow_terminal(variables: dict[str, str], name: str) -> None:
    lines = run(variables, *PRINTING[name]).stdout.decode().splitlines()

    rows = [line for line in lines if f"{T0 + 0.5:.3f}.bin" in line]
    assert len(rows) == 1
    assert name == "audit" or LONG in rows[0]
    assert not any("\x1b" in line or "─" in line for line in lines)


class Terminal:
    """Runs a command in a terminal, and tells what it shows line by line."""

    def __init__(self, variables: dict[str, str], *arguments: str, stdout: int | None = None) -> None:
        self._main, side = pty.openpty()
        self.process = subprocess.Popen(
            (*COMMAND, *arguments), env=variables | {"TERM": "xterm"}, cwd=ROOT, stdout=stdout or side, stderr=side
        )
        os.close(side)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._main)

    def shown(self) -> list[str]:
        """The lines in the end: what follows the last erasure of the line, without colours."""
        text = b"".join(self._read()).decode()
        lines = [re.split(r"\x1b\[2K|\r(?!\n|$)", line)[-1] for line in text.replace("\r\n", "\n").split("\n")]
        return [re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", line).strip("\r") for line in lines]

    def _read(self) -> Iterator[bytes]:
        while True:
            try:
                block = os.read(self._main, 65536)
            except OSError:  # EIO: the command has ended
                return
            if not block:
                return
            yield block


def test_bar_and_lines_do_not_mix(variables: dict[str, str]) -> None:
    with Terminal(variables, *PRINTING["convert"]) as terminal:
        lines = [line for line in terminal.shown() if ".bin" in line]

    folder = f"chunks/user/{LONG}"
    stems = [f"{T0 + number / 1000:.3f}" for number in range(BLOBS)]
    assert lines == [f"{folder}/{stem}.bin → {folder}/{stem}.opus" for stem in stems]


def test_bar_takes_nothing_from_the_file_beside_it(variables: dict[str, str], tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    with out.open("wb") as file, Terminal(variables, *PRINTING["convert"], "--json", stdout=file.fileno()) as terminal:
        shown = terminal.shown()

    assert len([json.loads(line) for line in out.read_text().splitlines()]) == BLOBS
    assert not any("source" in line for line in shown)
