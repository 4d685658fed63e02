"""The demo's directory: it holds the store and the exported recordings. The next run deletes what is stored in it."""

from __future__ import annotations

import fcntl
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TextIO

from worker.errors import DemoFailed

MARKER = ".demo"
NOTE = "audio-batch-worker demo made this directory, and deletes chunks/ and .metadata/ in it when it runs again.\n"
STORED = ("chunks", ".metadata")
WORKER_LOG = "worker.log"


@contextmanager
def prepared(directory: Path) -> Iterator[str]:
    """Make the directory, or delete what an earlier demo has stored in it; gives its STORE_URL.

    Until the block ends, no other demo takes the directory.

    Raises:
        DemoFailed: it is not empty and no demo made it, another demo runs in it, or it can't be made.
    """
    marker = directory / MARKER
    with ExitStack() as stack:
        yield _prepare(directory, marker, stack)


def _prepare(directory: Path, marker: Path, stack: ExitStack) -> str:
    try:
        directory.mkdir(parents=True, exist_ok=True)
        if not marker.exists() and any(directory.iterdir()):
            raise DemoFailed(f"{directory} is not empty and no demo made it: choose another directory with --out")
        file = stack.enter_context(marker.open("a+"))
        _lock(file, directory)
        file.truncate(0)
        file.write(NOTE)
        file.flush()
        for name in STORED:
            if (directory / name).exists():
                shutil.rmtree(directory / name)
        (directory / WORKER_LOG).unlink(missing_ok=True)
        return directory.resolve().as_uri()
    except OSError as error:
        raise DemoFailed(f"{directory}: {error.strerror or error}") from error


def _lock(file: TextIO, directory: Path) -> None:
    """The lock ends with the process that holds it, however that ends."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise DemoFailed(
            f"another demo runs in {directory}: wait until it has ended, or choose another directory with --out"
        ) from None
