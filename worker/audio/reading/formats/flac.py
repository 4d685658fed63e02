"""What FLAC frames tell beyond what FFmpeg reads: where each belongs, and whether other bytes follow the last one.

FFmpeg only counts the frames that it finds, and takes all bytes to the end of a file for a part of the last frame.
"""

from __future__ import annotations

from worker.audio.reading.formats.tags import HARMLESS, tag_bytes

STREAMINFO_BYTES = 34
HEADER_BYTES = 16
CRC_POLYNOMIAL = 0x8005
CRC_OF_BYTE: list[int] = []
"""The CRC-16 of each byte, made when it is first needed."""


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


def has_surplus(last: bytes) -> bool:
    """Whether the last frame, as FFmpeg cuts it, has other bytes behind its end than zeros and tags."""
    tags = {place for tag in HARMLESS if (place := last.find(tag)) > 0}
    id3 = last.find(b"ID3")
    if id3 > 0 and not last[id3 + tag_bytes(last[id3:]) :].strip(b"\0"):
        tags.add(id3)
    return all(_crc(last[:end]) for end in (len(last), *tags))


def _crc(frame: bytes) -> int:
    """0 if the frame ends with the CRC-16 of all bytes before."""
    if not CRC_OF_BYTE:
        CRC_OF_BYTE.extend(map(_crc_of_byte, range(256)))
    value = 0
    for byte in frame:
        value = value << 8 & 0xFFFF ^ CRC_OF_BYTE[value >> 8 ^ byte]
    return value


def _crc_of_byte(byte: int) -> int:
    value = byte << 8
    for _ in range(8):
        value = value << 1 & 0xFFFF ^ (CRC_POLYNOMIAL if value & 0x8000 else 0)
    return value
