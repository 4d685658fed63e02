"""Matroska and WebM: how long a file is, as its header says."""

from __future__ import annotations

EBML = b"\x1a\x45\xdf\xa3"
SEGMENT = b"\x18\x53\x80\x67"


def whole_bytes(head: bytes) -> int | None:
    """The bytes of a file that begins so; None if it does not say, as a live recording."""
    heading = _end_of_element(head, EBML, 0)
    return None if heading is None else _end_of_element(head, SEGMENT, heading)


def _end_of_element(head: bytes, name: bytes, at: int) -> int | None:
    """Where the element of this name that begins at `at` ends; None for another name, or for an unknown size."""
    start = at + len(name)
    if head[at:start] != name or not head[start : start + 1]:
        return None
    width = 9 - head[start].bit_length()  # the number of leading zeros tells the bytes of the size
    size = int.from_bytes(head[start : start + width], "big") & ((1 << 7 * width) - 1)
    if width > 8 or len(head) < start + width or size == (1 << 7 * width) - 1:
        return None
    return start + width + size
