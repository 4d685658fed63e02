"""Memory that a thread lends to libopus. It is prepared once, so that no preparation is left between two frames."""

from __future__ import annotations

import ctypes
import mmap
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from codec.libopus import CArg


class Scratch(threading.local):
    """`size` bytes per thread: `view` gives access to them, and `slots` divides them into slots of one size.

    Bytes that are never written cost no memory: the kernel gives a page at its first use. A bytearray would use all
    of them at once.
    """

    def __init__(self, size: int) -> None:
        # By default, forked processes would share it and decode into each other's audio.
        memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self.view = memoryview(memory)
        self._pinned = ctypes.c_char.from_buffer(memory)
        self._slots: dict[int, list[CArg]] = {}

    def slots(self, slot_bytes: int) -> list[CArg]:
        """The beginning of each whole slot of `slot_bytes` bytes, as an argument for libopus."""
        found = self._slots.get(slot_bytes)
        if found is None:
            starts = range(0, len(self.view) - slot_bytes + 1, slot_bytes)
            found = self._slots[slot_bytes] = [ctypes.byref(self._pinned, at) for at in starts]
        return found
