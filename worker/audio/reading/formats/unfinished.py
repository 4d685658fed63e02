"""Headers whose sizes were never filled in, because the recorder died or wrote into a pipe.

FFmpeg takes such sizes at their word. Here they become so large that the audio goes on to the end of the file.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from worker.audio.reading.formats.riff import UNKNOWN_SIZES, W64_AUDIO, W64_HEADER_BYTES, W64_UNKNOWN

if TYPE_CHECKING:
    from collections.abc import Callable

AIFF_BYTES = 12
AIFF_CHUNK = struct.Struct(">4sI")
SSND_HEADER_BYTES = 8
"""AIFF counts these in the size of its audio."""

AIFF_WITHOUT_END = struct.pack(">I", 0xFFFFFFFE)
AU_UNKNOWN = struct.pack(">I", 0xFFFFFFFF)
W64_WITHOUT_END = struct.pack("<Q", W64_UNKNOWN)


def filled_in(name: str, head: bytes) -> bytes:
    """The first bytes of a file of this format, with sizes that FFmpeg can work with; else as they were."""
    fill = _FILLS.get(name)
    return head if fill is None else fill(head)


def _aiff(head: bytes) -> bytes:
    place = AIFF_BYTES
    while len(head) >= place + AIFF_CHUNK.size:
        name, size = AIFF_CHUNK.unpack_from(head, place)
        if name == b"SSND":
            whole = int.from_bytes(head[4:8], "big")
            is_known = size > SSND_HEADER_BYTES and not _is_unknown(size) and not _is_unknown(whole)
            return head if is_known else _replaced(head, AIFF_WITHOUT_END, 4, place + 4)
        place += AIFF_CHUNK.size + size + size % 2
    return head


def _au(head: bytes) -> bytes:
    return _replaced(head, AU_UNKNOWN, 8) if _is_unknown(int.from_bytes(head[8:12], "big")) else head


def _w64(head: bytes) -> bytes:
    place = head.find(W64_AUDIO) + 16
    size = int.from_bytes(head[place : place + 8], "little")
    whole = int.from_bytes(head[16:24], "little")
    is_known = place < 16 or (W64_HEADER_BYTES < size < W64_UNKNOWN and whole > W64_HEADER_BYTES)
    return head if is_known else _replaced(head, W64_WITHOUT_END, 16, place)


def _is_unknown(size: int) -> bool:
    return any(size in unknown for unknown in UNKNOWN_SIZES)


def _replaced(head: bytes, size: bytes, *places: int) -> bytes:
    changed = bytearray(head)
    for place in places:
        changed[place : place + len(size)] = size
    return bytes(changed)


_FILLS: dict[str, Callable[[bytes], bytes]] = {"aiff": _aiff, "au": _au, "w64": _w64}
