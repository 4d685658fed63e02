"""Frame headers of MPEG audio (MP3) and ADTS (AAC).

Neither format has a magic number: only frames that follow each other tell it from other bytes.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Literal

from worker.audio.reading.formats.tags import HARMLESS

if TYPE_CHECKING:
    from collections.abc import Callable

FRAMES_IN_A_ROW = 3
RATES = (44100, 48000, 32000)

# Kilobits per second by bit rate index, for MPEG 1 and for MPEG 2 and 2.5, by layer.
BIT_RATES = {
    (1, 1): (0, 32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (1, 2): (0, 32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (1, 3): (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (2, 1): (0, 32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (2, 2): (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (2, 3): (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}

# A first frame without audio, which says how many frames follow: header, side information, then this mark.
COUNTED = re.compile(rb"\xff[\xe2-\xff]..(?:.{9}|.{17}|.{32})(?:(?:Xing|Info)\x00\x00\x00[\x00-\x0f])", re.DOTALL)
FRAMES_KNOWN = 1

MpegFormat = Literal["mp3", "aac"]


def mpeg_format(head: bytes) -> MpegFormat | None:
    """The format of frames in these first bytes of a file; None if no three of them follow each other.

    Fewer than three count if they end exactly where the bytes end.
    """
    start = head.find(b"\xff")
    while start >= 0:
        if _in_a_row(head, start, frame_bytes):
            return "mp3"
        if _in_a_row(head, start, _adts_bytes):
            return "aac"
        start = head.find(b"\xff", start + 1)
    return None


def claimed_seconds(head: bytes) -> float | None:
    """The length that the first frame of an MP3 tells, in seconds; None if it tells nothing."""
    found = COUNTED.match(head)
    if found is None or not head[found.end() - 1] & FRAMES_KNOWN:
        return None
    version, _, rate = _facts(head)
    frames = int.from_bytes(head[found.end() : found.end() + 4], "big")
    return frames * (1152 if version == 1 else 576) / rate if frames and rate else None


def _in_a_row(head: bytes, start: int, length: Callable[[bytes], int]) -> bool:
    for _ in range(FRAMES_IN_A_ROW):
        size = length(head[start : start + 7])
        if not size:
            return False
        start += size
        if start == len(head):
            return True
    return start < len(head)


def _facts(header: bytes) -> tuple[int, int, int]:
    """Version (1, or 2 also for 2.5), layer and sample rate; the rate is 0 for other bytes."""
    if len(header) < 4 or header[0] != 0xFF or header[1] & 0xE0 != 0xE0:
        return 0, 0, 0
    version, layer, rate = header[1] >> 3 & 3, 4 - (header[1] >> 1 & 3), header[2] >> 2 & 3
    if version == 1 or layer == 4 or rate == 3:
        return 0, 0, 0
    return (1, layer, RATES[rate]) if version == 3 else (2, layer, RATES[rate] // (2 if version == 2 else 4))


def surplus(packet: bytes) -> int:
    """Bytes of an MP3's packet that are in no frame; those that are missing are negative."""
    size = frame_bytes(packet)
    rest = packet[size:]
    if not size or rest.startswith(HARMLESS) or (rest and not any(rest)):
        return 0
    return len(packet) - size


def frame_bytes(header: bytes) -> int:
    """Length of the frame that begins with this header; 0 if it is none, or does not tell."""
    version, layer, rate = _facts(header)
    index = header[2] >> 4 if rate else 0
    if not rate or index in {0, 15}:
        return 0
    bits, padding = BIT_RATES[version, layer][index] * 1000, header[2] >> 1 & 1
    if layer == 1:
        return (12 * bits // rate + padding) * 4
    return (72 if (version, layer) == (2, 3) else 144) * bits // rate + padding


def _adts_bytes(header: bytes) -> int:
    if len(header) < 7 or header[0] != 0xFF or header[1] & 0xF6 != 0xF0 or header[2] >> 2 & 15 > 12:
        return 0
    size = (header[3] & 3) << 11 | header[4] << 3 | header[5] >> 5
    return size if size > 7 else 0
