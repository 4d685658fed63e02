"""Ogg Opus (RFC 7845) from Opus packets as they are, without decoding and encoding them again.

A decoder keeps a state from packet to packet, and every blob has an encoder of its own. So each blob becomes a link, a
logical stream of its own in the one Ogg file (a chain, RFC 3533): there a decoder begins anew, drops the pre-skip, and
ends at the granule position of the last page. No other way gives every sample at its place.
"""

from __future__ import annotations

import struct
from dataclasses import replace
from itertools import chain, repeat
from typing import TYPE_CHECKING, NamedTuple

from worker.audio.ogg import FIRST, LAST, MOST_SEGMENTS, Page, lacing_values

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

OPUS_RATE = 48000
"""Hz in which Ogg Opus counts samples, at any rate of the audio."""

HEAD = struct.Struct("<8sBBHIhB")
MAX_PRE_SKIP = 2**16 - 1

PRE_ROLL = OPUS_RATE
"""Samples that are decoded and dropped before a cut: RFC 7845 asks for at least 80 ms, until decoders agree."""

PAGE_SAMPLES = OPUS_RATE
"""A second a page, as RFC 7845 advises."""

SILENCE = bytes((9 << 3,))
"""A packet of 20 ms without a frame (wideband SILK, mono): a decoder conceals it, and after nothing with silence."""

SILENCE_SAMPLES = OPUS_RATE // 50
VENDOR = b"audio-batch-worker"

# Samples of a frame by the configuration in the first byte of a packet (RFC 6716, section 3.1): SILK, hybrid, CELT.
_FRAME_SAMPLES = (*(480, 960, 1920, 2880) * 3, *(480, 960) * 2, *(120, 240, 480, 960) * 4)


class Trim(NamedTuple):
    """The samples of decoded packets that are heard: `skip` are dropped, then `keep` kept, both at 48 kHz."""

    skip: int
    keep: int


class OggOpusWriter:
    """Writes links one after the other; the streams are numbered from 1. `samples` counts those heard, at 48 kHz."""

    def __init__(self) -> None:
        self._serial = 0
        self.samples = 0

    def link(self, packets: Iterable[bytes], trim: Trim, sample_rate: int) -> Iterator[bytes]:
        """The pages of one link; `sample_rate` (Hz) is that of the audio before it was encoded, for information.

        An empty packet becomes one that conceals 20 ms too. The link is shorter where the packets are too few.
        """
        self._serial += 1
        kept, skip = _without_lead(_spoken(packets), trim.skip)
        head = HEAD.pack(b"OpusHead", 1, 1, skip, sample_rate, 0, 0)
        tags = b"OpusTags" + struct.pack("<I", len(VENDOR)) + VENDOR + struct.pack("<I", 0)
        yield Page((head,), 0, self._serial, 0, FIRST).pack()
        page, position = Page((tags,), 0, self._serial, 1), 0
        for number, (some, position) in enumerate(_pages(kept, skip + trim.keep), start=2):
            yield page.pack()
            page = Page(some, position, self._serial, number)
        yield replace(page, flags=LAST).pack()
        self.samples += max(0, position - skip)

    def silence(self, samples: int, sample_rate: int) -> Iterator[bytes]:
        """The pages of a link of silence, of so many samples at 48 kHz."""
        count = -(-samples // SILENCE_SAMPLES)
        yield from self.link(repeat(SILENCE, count), Trim(0, samples), sample_rate)


def packet_samples(packet: bytes) -> int:
    """The samples that a packet decodes to at 48 kHz (RFC 6716, section 3.1)."""
    codes = packet[0] & 3
    frames = (1, 2, 2, packet[1] & 0x3F if len(packet) > 1 else 0)[codes]
    return _FRAME_SAMPLES[packet[0] >> 3] * frames


def _spoken(packets: Iterable[bytes]) -> Iterator[bytes]:
    """The packets; Ogg has no empty ones, so these get the first byte of the packet before, and no frame."""
    silence = SILENCE
    for packet in packets:
        if packet:
            silence = bytes((packet[0] & ~3,))
        yield packet or silence


def _without_lead(packets: Iterator[bytes], skip: int) -> tuple[Iterator[bytes], int]:
    """Leave out the packets that end more than PRE_ROLL before the first sample that is heard."""
    for packet in packets:
        if skip - packet_samples(packet) < PRE_ROLL:
            return chain((packet,), packets), skip
        skip -= packet_samples(packet)
    return iter(()), min(skip, MAX_PRE_SKIP)


def _pages(packets: Iterable[bytes], end: int) -> Iterator[tuple[tuple[bytes, ...], int]]:
    """The packets of each page, and the granule position at its end; nothing after `end`."""
    some: list[bytes] = []
    position = segments = held = 0
    for packet in packets:
        size = len(lacing_values(packet))
        if some and (segments + size > MOST_SEGMENTS or held >= PAGE_SAMPLES):
            yield tuple(some), position
            some, segments, held = [], 0, 0
        some.append(packet)
        segments += size
        held += packet_samples(packet)
        position += packet_samples(packet)
        if position >= end:
            break
    if some:
        yield tuple(some), min(position, end)
