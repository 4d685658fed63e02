"""Standard output and standard error: every text can be written to them, and a failed write ends the command at once.

An error of standard output must not look like the error of another file or socket. So the file behind it raises errors
of its own.
"""

from __future__ import annotations

import io
import os
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from typing_extensions import Buffer


class ReaderGone(Exception):
    """The program that read standard output has ended, as `head` does: nothing is wrong."""


class OutputFailed(Exception):
    """Standard output can't be written; the message is that of the system."""


def prepare() -> None:
    """Guard both streams. What their encoding does not have is escaped; a closed stream takes everything."""
    sys.stdout = _guarded(sys.stdout, _Output)
    sys.stderr = _guarded(sys.stderr, _Errors)


def flush() -> None:
    """Write what is still in memory. Raises `ReaderGone`, `OutputFailed`."""
    sys.stdout.flush()


def discard() -> None:
    """Drop what can't be written: Python would try it again at its exit."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    with suppress(OSError, ValueError):
        os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


class _Output(io.FileIO):
    def write(self, data: Buffer, /) -> int:
        try:
            return super().write(data)
        except BrokenPipeError:
            raise ReaderGone from None
        except OSError as error:
            raise OutputFailed(error.strerror or str(error)) from error


class _Errors(io.FileIO):
    def write(self, data: Buffer, /) -> int:
        with suppress(OSError):  # the exit code tells it all the same
            return super().write(data)
        return memoryview(data).nbytes


def _guarded(stream: TextIO | None, kind: type[io.FileIO]) -> TextIO:
    if stream is None:  # the caller has closed it
        return open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123 -- for the rest of the process
    if not isinstance(stream, io.TextIOWrapper):
        return stream
    stream.flush()
    return io.TextIOWrapper(
        io.BufferedWriter(kind(stream.fileno(), "wb", closefd=False)),
        encoding=stream.encoding,
        errors="backslashreplace",
        line_buffering=stream.line_buffering or stream.write_through,
    )
