"""Pages of Ogg (RFC 3533): a header, the lacing values, and up to 255 segments of packets."""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass

CAPTURE = b"OggS"
HEADER = struct.Struct("<4sBBqIIIB")  # capture, version, flags, granule position, serial, number, CRC, segments
CRC_OFFSET = 22
MOST_SEGMENTS = 255
CONTINUED, FIRST, LAST = 1, 2, 4
"""Flags: it begins inside a packet; it begins a stream; it ends the stream."""

ALL_ONES = 0xFFFFFFFF
BITS_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


@dataclass(frozen=True, slots=True)
class Page:
    """A page of whole packets; `granule` is the position at the end of its last packet."""

    packets: tuple[bytes, ...]
    granule: int
    serial: int
    number: int
    flags: int = 0

    def pack(self) -> bytes:
        """The bytes. Raises `ValueError` if the packets need more than 255 segments."""
        lacing = b"".join(map(lacing_values, self.packets))
        if len(lacing) > MOST_SEGMENTS:
            raise ValueError(f"{len(lacing)} segments do not fit into a page")
        header = HEADER.pack(CAPTURE, 0, self.flags, self.granule, self.serial, self.number, 0, len(lacing))
        page = bytearray(b"".join([header, lacing, *self.packets]))
        struct.pack_into("<I", page, CRC_OFFSET, crc(page))
        return bytes(page)


@dataclass(frozen=True, slots=True)
class PageHeader:
    """What a reader needs to know of a page: its flags, and its length with the header in bytes."""

    flags: int
    size: int


def read_page_header(data: bytes) -> PageHeader | None:
    """The header of a page that begins with these bytes (282 are enough); None if they do not begin one."""
    if len(data) < HEADER.size or not data.startswith(CAPTURE):
        return None
    segments = data[HEADER.size - 1]
    lacing = data[HEADER.size : HEADER.size + segments]
    return PageHeader(data[5], HEADER.size + segments + sum(lacing))


def is_whole(page: bytes) -> bool:
    """Whether the bytes are a page whose CRC is right."""
    header = read_page_header(page)
    if header is None or len(page) < header.size:
        return False
    said = int.from_bytes(page[CRC_OFFSET : CRC_OFFSET + 4], "little")
    cleared = bytearray(page[: header.size])
    struct.pack_into("<I", cleared, CRC_OFFSET, 0)
    return crc(cleared) == said


def lacing_values(packet: bytes) -> bytes:
    """The lengths of a packet's segments: 255 for each full one, then the rest, also if that is 0."""
    full, rest = divmod(len(packet), 255)
    return b"\xff" * full + bytes((rest,))


def crc(data: bytes | bytearray) -> int:
    """The CRC-32 of Ogg: that of zlib with all bits in the other order, without a start value and a final XOR."""
    reflected = zlib.crc32(data.translate(BITS_REVERSED), ALL_ONES) ^ ALL_ONES
    return int.from_bytes(reflected.to_bytes(4, "little").translate(BITS_REVERSED), "big")
