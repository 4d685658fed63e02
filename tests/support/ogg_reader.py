"""Reads Ogg Opus files, written from RFC 3533 and RFC 7845 and sharing no code with the writer."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

from tests.support.second_decoder import opus_pcm


@dataclass
class OpusLink:
    """One logical stream: its packets, and what its headers and granule positions say."""

    serial: int
    pre_skip: int = 0
    input_rate: int = 0
    granules: list[int] = field(default_factory=list)
    packets: list[bytes] = field(default_factory=list)
    ended: bool = False

    @property
    def samples(self) -> int:
        """Samples that are heard, at 48 kHz."""
        return self.granules[-1] - self.pre_skip

    def pcm(self, rate: int) -> bytes:
        """What libopus makes of it, trimmed, at a rate in Hz."""
        packets = [struct.pack("<H", len(packet)) + packet for packet in self.packets]
        decoded = opus_pcm(struct.pack("<II", len(packets), 0) + b"".join(packets), rate)
        first, count = self.pre_skip * rate // 48000, self.samples * rate // 48000
        return decoded[2 * first : 2 * (first + count)]


def read_ogg_opus(data: bytes) -> list[OpusLink]:
    """All links, of pages that are whole, in order, and right by their checksums."""
    links: list[OpusLink] = []
    position = 0
    while position < len(data):
        _, version, flags, granule, serial, number, crc, segments = struct.unpack_from("<4sBBqIIIB", data, position)
        lacing = data[position + 27 : position + 27 + segments]
        body = position + 27 + segments
        end = body + sum(lacing)
        page = data[position:end]
        assert (page[:4], version) == (b"OggS", 0)
        assert crc == slow_crc(page[:22] + bytes(4) + page[26:])
        packets = _packets(lacing, data[body:end])
        position = end
        if flags & 2:
            assert number == 0
            assert all(link.ended for link in links)
            links.append(_opened(serial, packets))
            continue
        link = links[-1]
        assert (serial, link.ended) == (link.serial, False)
        assert number == 1 + len(link.granules)
        if number > 1:
            link.packets += packets
        else:
            assert packets[0].startswith(b"OpusTags")
        link.granules.append(granule)
        link.ended = bool(flags & 4)
    return links


def _opened(serial: int, packets: list[bytes]) -> OpusLink:
    (head,) = packets
    magic, version, channels, pre_skip, rate, gain, family = struct.unpack("<8sBBHIhB", head)
    assert (magic, version, channels, gain, family) == (b"OpusHead", 1, 1, 0, 0)
    return OpusLink(serial, pre_skip, rate)


def _packets(lacing: bytes, body: bytes) -> list[bytes]:
    packets, start, size = [], 0, 0
    for value in lacing:
        size += value
        if value < 255:
            packets.append(body[start : start + size])
            start, size = start + size, 0
    assert size == 0
    return packets


def slow_crc(data: bytes) -> int:
    """Bit by bit, as RFC 3533 describes it."""
    value = 0
    for byte in data:
        value ^= byte << 24
        for _ in range(8):
            value = (value << 1) & 0xFFFFFFFF ^ (0x04C11DB7 if value >> 31 else 0)
    return value
