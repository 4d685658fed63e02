"""Where a FLAC frame belongs: its header tells, and FFmpeg only counts the frames that it finds."""

from __future__ import annotations

STREAMINFO_BYTES = 34
HEADER_BYTES = 16


class FlacNumbers:
    """Reads the numbers of frames (RFC 9639, section 9.1); `rate` in Hz is that of STREAMINFO."""

    def __init__(self, streaminfo: bytes | None) -> None:
        info = (streaminfo or b"").ljust(STREAMINFO_BYTES, b"\0")
        self._block_samples = int.from_bytes(info[:2], "big")
        self.rate = int.from_bytes(info[10:13], "big") >> 4

    def first_sample(self, frame: bytes) -> int | None:
        """The number of a frame's first sample; None if it does not begin with a header."""
        header = frame[:HEADER_BYTES]
        if len(header) < HEADER_BYTES or header[0] != 0xFF or header[1] & 0xFC != 0xF8 or not self.rate:
            return None
        number = _coded_number(header[4:])
        if number is None:
            return None
        return number if header[1] & 1 else number * self._block_samples


def _coded_number(coded: bytes) -> int | None:
    """As UTF-8 codes characters, but up to 36 bits."""
    first = coded[0]
    if first < 0x80:
        return first
    more = 6 if first == 0xFE else f"{first:08b}".find("0") - 1  # bytes that follow
    return _tail(first & (0x3F >> more), coded[1 : 1 + more]) if 1 <= more <= 6 else None


def _tail(number: int, rest: bytes) -> int | None:
    for byte in rest:
        if byte & 0xC0 != 0x80:
            return None
        number = number << 6 | byte & 0x3F
    return number
