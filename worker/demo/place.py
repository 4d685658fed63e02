"""The demo's directory: it holds the store and the exported recordings. The next run deletes what is stored in it."""

from __future__ import annotations

import shutil
from pathlib import Path

from worker.errors import DemoFailed

MARKER = ".demo"
NOTE = "audio-batch-worker demo made this directory, and deletes chunks/ and .metadata/ in it when it runs again.\n"
STORED = ("chunks", ".metadata")
WORKER_LOG = "worker.log"


def prepare(directory: Path) -> str:
    """Make the directory, or delete what an earlier demo has stored in it; returns its STORE_URL.

    Raises:
        DemoFailed: it is not empty and no demo made it, or it can't be made.
    """
    marker = directory / MARKER
    try:
        directory.mkdir(parents=True, exist_ok=True)
        if not marker.exists() and any(directory.iterdir()):
            raise DemoFailed(f"{directory} is not empty and no demo made it: choose another directory with --out")
        marker.write_text(NOTE)
        for name in STORED:
            if (directory / name).exists():
                shutil.rmtree(directory / name)
        (directory / WORKER_LOG).unlink(missing_ok=True)
        return directory.resolve().as_uri()
    except OSError as error:
        raise DemoFailed(f"{directory}: {error.strerror or error}") from error
