"""The bytes of a file or a pipe, read once from front to back, with a look ahead."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from io import RawIOBase

BLOCK_BYTES = 1 << 16


class ByteSource:
    """Bytes in their order; `position` counts those that were taken. It seeks never, so that a pipe is a file."""

    def __init__(self, file: RawIOBase, head: bytes = b"") -> None:
        self._file = file
        self._held = bytearray(head)
        self.position = 0

    def peek(self, size: int) -> bytes:
        """The next bytes, which stay; fewer than `size` only at the end. Raises `OSError`."""
        while len(self._held) < size and (block := self._file.read(BLOCK_BYTES)):
            self._held += block
        return bytes(self._held[:size])

    def take(self, size: int) -> bytes:
        """The next bytes; fewer than `size` only at the end. Raises `OSError`."""
        taken = self.peek(size)
        del self._held[: len(taken)]
        self.position += len(taken)
        return taken

    def skip(self, size: int) -> None:
        """Pass over bytes. Raises `OSError`."""
        while size > 0 and (passed := self.take(min(size, BLOCK_BYTES))):
            size -= len(passed)
