"""Memory that a thread lends to libopus: prepared once, so that between two frames nothing is left to prepare."""

from __future__ import annotations

import ctypes
import mmap
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from codec.libopus import CArg


class Scratch(threading.local):
    """So many bytes of each thread's own, to be looked at through `view` and cut into slots of any one size.

    What is never written costs no memory: the kernel gives a page at its first use, where a bytearray uses all at once.
    """

    def __init__(self, size: int) -> None:
        # By default it would be shared with forked processes, which would decode into each other's audio.
        memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self.view = memoryview(memory)
        self._pinned = ctypes.c_char.from_buffer(memory)
        self._slots: dict[int, list[CArg]] = {}

    def slots(self, slot_bytes: int) -> list[CArg]:
        """Where each whole slot begins, as an argument for libopus."""
        found = self._slots.get(slot_bytes)
        if found is None:
            starts = range(0, len(self.view) - slot_bytes + 1, slot_bytes)
            found = self._slots[slot_bytes] = [ctypes.byref(self._pinned, at) for at in starts]
        return found
