"""The Opus container: u32 packet count | u32 PCM bytes | per packet: u16 length + packet. All little-endian.

The PCM bytes are those of the audio at 16 kHz, at any rate of the encoder: readers in production decode at 16 kHz.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

from codec.arguments import check_types
from codec.entry import BYTES_PER_SAMPLE
from codec.errors import BadBlob

if TYPE_CHECKING:
    from collections.abc import Iterator

HEADER = struct.Struct("<II")
PACKET_LENGTH = struct.Struct("<H")
RENDITION_RATE = 16000


@dataclass(frozen=True, slots=True)
class Header:
    """The first 8 bytes; `pcm_bytes` counts 16-bit samples at 16 kHz and is 0 where it is not known."""

    packet_count: int
    pcm_bytes: int

    @property
    def seconds(self) -> float:
        """Length of the audio in seconds."""
        return self.pcm_bytes / BYTES_PER_SAMPLE / RENDITION_RATE

    def pack(self) -> bytes:
        """The 8 bytes."""
        return HEADER.pack(self.packet_count, self.pcm_bytes)


def rendition_bytes(samples: int, sample_rate: int) -> int:
    """Bytes of 16 kHz PCM that last as long as `samples` samples at `sample_rate` Hz."""
    return samples * RENDITION_RATE // sample_rate * BYTES_PER_SAMPLE


def read_header(container: bytes) -> Header:
    """The header of a container, of which the first 8 bytes are enough.

    Raises:
        BadBlob: it has fewer than 8 bytes.
        WrongType: it is not bytes.
    """
    check_types(bytes, container=container)
    if len(container) < HEADER.size:
        raise BadBlob(f"Opus data too short: {len(container)} bytes (need at least {HEADER.size} for header)")
    return Header(*HEADER.unpack_from(container))


def packets(container: bytes) -> Iterator[bytes]:
    """Every packet in order; bytes after the last one are ignored.

    Raises:
        BadBlob: the container ends before its last packet does; the packets before that have been yielded already.
    """
    count = read_header(container).packet_count
    end, offset = len(container), HEADER.size
    for number in range(count):
        start = offset + PACKET_LENGTH.size
        if start > end:
            raise BadBlob(f"Truncated Opus data: expected packet {number}/{count} length at offset {offset}")
        (size,) = PACKET_LENGTH.unpack_from(container, offset)
        offset = start + size
        if offset > end:
            left = end - start
            raise BadBlob(
                f"Truncated Opus data: packet {number} needs {size} bytes at offset {start}, only {left} available"
            )
        yield container[start:offset]
