"""MP4, M4A and MOV: boxes, of which the index may come last. So they are the one format in which FFmpeg has to seek."""

from __future__ import annotations

import os
import re
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
BOX_NAME = re.compile(rb"[\xa9 -~]{4}")


class BoxLink:
    """A part of a seekable file as a file of its own."""

    format = "mov"
    claimed: float | None = None

    def __init__(self, file: BinaryIO, start: int, end: int, complaint: str | None = None) -> None:
        self.complaint = complaint
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
    rest = (
        "bytes follow it that are no part of it, and were not taken"
        if _is_foreign(_head_at(file, starts[-1]))
        else None
    )
    *starts, boxes_end = starts
    for first, last in zip(starts, [*starts[1:], end], strict=True):
        yield BoxLink(file, first, last, rest if last == end and boxes_end > first else None)


def _is_foreign(head: bytes) -> bool:
    """Whether bytes where a box should begin are something else, and not only zeros."""
    return bool(head.strip(b"\0")) and not BOX_NAME.fullmatch(head[4 : BOX.size])


def _starts(file: BinaryIO, position: int) -> Iterator[int]:
    """Where each file begins, and at last where the last known box ends."""
    yield position
    other = False
    while len(head := _head_at(file, position)) >= BOX.size and not _is_foreign(head):
        size, name = BOX.unpack_from(head)
        if name == b"ftyp" and other:
            yield position
            other = False
        other = other or name in {b"moov", b"mdat"}
        if size == 1 and len(head) == LONG_BOX.size:
            size = LONG_BOX.unpack(head)[2]
        if size < BOX.size:  # the last box goes to the end, or this is not a box
            break
        position += size
    yield position


def _head_at(file: BinaryIO, position: int) -> bytes:
    file.seek(position)
    return file.read(LONG_BOX.size)
