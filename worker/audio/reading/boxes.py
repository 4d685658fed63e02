"""MP4, M4A and MOV: boxes, of which the index may come last. So they are the one format in which FFmpeg has to seek."""

from __future__ import annotations

import os
import struct
import tempfile
from contextlib import contextmanager
from typing import TYPE_CHECKING, BinaryIO

from worker.audio.reading.source import BLOCK_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from worker.audio.reading.source import ByteSource

BOX = struct.Struct(">I4s")
LONG_BOX = struct.Struct(">I4sQ")


class BoxLink:
    """A part of a seekable file as a file of its own."""

    format = "mov"
    claimed: float | None = None
    complaint: str | None = None

    def __init__(self, file: BinaryIO, start: int, end: int) -> None:
        self._file = file
        self._start = start
        self._end = end
        file.seek(start)

    def read(self, size: int) -> bytes:
        """The next bytes; none at its end. Raises `OSError`."""
        return self._file.read(max(0, min(size, self._end - self._file.tell())))

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to a place in it, and tell which one."""
        base = {os.SEEK_SET: self._start, os.SEEK_CUR: self._file.tell(), os.SEEK_END: self._end}[whence]
        return self._file.seek(max(self._start, base + offset)) - self._start

    def tell(self) -> int:
        """The place in it."""
        return self._file.tell() - self._start


@contextmanager
def seekable(file: BinaryIO, source: ByteSource) -> Iterator[tuple[BinaryIO, int]]:
    """A file that can seek, and where the rest of `source` begins in it; a pipe is copied to an unnamed file.

    Raises:
        OSError: the disk has no room for the copy.
    """
    if file.seekable():
        yield file, source.position
        return
    with tempfile.TemporaryFile() as copy:
        while block := source.take(BLOCK_BYTES):
            copy.write(block)
        yield copy, 0


def box_links(file: BinaryIO, start: int) -> Iterator[BoxLink]:
    """The files of one `ftyp` box each that are in a file. Raises `OSError`."""
    starts = list(_starts(file, start))
    end = file.seek(0, os.SEEK_END)
    for first, last in zip(starts, [*starts[1:], end], strict=True):
        yield BoxLink(file, first, last)


def _starts(file: BinaryIO, position: int) -> Iterator[int]:
    yield position
    other = False
    while len(head := _head_at(file, position)) >= BOX.size:
        size, name = BOX.unpack_from(head)
        if name == b"ftyp" and other:
            yield position
            other = False
        other = other or name in {b"moov", b"mdat"}
        if size == 1 and len(head) == LONG_BOX.size:
            size = LONG_BOX.unpack(head)[2]
        if size < BOX.size:  # the last box goes to the end, or this is not a box
            return
        position += size


def _head_at(file: BinaryIO, position: int) -> bytes:
    file.seek(position)
    return file.read(LONG_BOX.size)
