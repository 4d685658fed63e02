"""Programs of this machine, and what they say."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path


class Failed(Exception):
    """A program failed; the text ends with what it said."""


def run(*command: str | Path) -> str:
    """What a program prints. Raises `Failed`."""
    words = [*map(str, command)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Failed(f"{shlex.join(words)[:300]}\n{done.stdout[-3000:]}{done.stderr[-3000:]}")
    return done.stdout


def say(line: str) -> None:
    """Tell the person at the terminal, at once."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()
