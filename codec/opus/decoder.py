"""A decoder from a container to PCM at any of Opus' rates."""

from __future__ import annotations

import ctypes
from itertools import islice, repeat
from typing import TYPE_CHECKING, Self

from codec.arguments import NOTHING, check_types
from codec.container import RENDITION_RATE, read_header
from codec.entry import BYTES_PER_SAMPLE, SAMPLE_RATES
from codec.errors import BadBlob
from codec.libopus import library
from codec.libopus.repacketizer import MAX_FRAMES, repacketized
from codec.libopus.scratch import Scratch
from codec.opus.frames import CHANNELS, FRAMES_PER_SECOND, SECOND_BYTES

if TYPE_CHECKING:
    from collections.abc import Sequence

SECONDS_AT_ONCE = 64
"""Seconds of audio decoded between two copies out of the scratch memory, at the highest rate; at 16 kHz three times as
many. It is best to decode a minute in one go: only one Python thread at a time can prepare packets or copy audio."""

MAX_DECODED_SECONDS = 3600
"""Batches hold a minute; without a limit, every 2 bytes of a hostile blob become 120 ms."""

_audio = Scratch(SECONDS_AT_ONCE * SECOND_BYTES)  # decoded PCM


def decode(
    container: bytes, *, sample_rate: int = RENDITION_RATE, pre_skip: int = 0, samples: int | None = None
) -> bytes:
    """Decode a container to s16le mono PCM at `sample_rate` Hz, without its first `pre_skip` samples.

    The result is cut to `samples`, or else to the length in the header if it gives one. It is never padded.

    Raises:
        BadBlob: the container is truncated, a packet is not Opus, the rate is not one of `SAMPLE_RATES`, or it holds
            more than an hour of audio.
        LibopusMissing: libopus can't be loaded.
        WrongType: an argument is not what it should be.
    """
    check_types(bytes, container=container)
    check_types(int, sample_rate=sample_rate, pre_skip=pre_skip)
    check_types(int, NOTHING, samples=samples)
    stop = _stop(container, sample_rate, pre_skip, samples)
    limit = MAX_DECODED_SECONDS * sample_rate * BYTES_PER_SAMPLE
    packets, parts, size = repacketized(container), [], 0
    skip = pre_skip * BYTES_PER_SAMPLE
    with _Decoder(sample_rate) as decoder:
        while some := list(islice(packets, decoder.packets_at_once)):
            if stop is None or size < stop:
                part = decoder.decode(some)
                parts.append(bytes(part[max(0, skip - size) : None if stop is None else stop - size]))
                size += len(part)
            if size > limit:
                raise BadBlob(f"the Opus data holds more than {MAX_DECODED_SECONDS} s of audio")
    return b"".join(parts)


def _stop(container: bytes, sample_rate: int, pre_skip: int, samples: int | None) -> int | None:
    pcm_bytes = read_header(container).pcm_bytes
    if samples is None:
        if not pcm_bytes:
            return None
        samples = pcm_bytes // BYTES_PER_SAMPLE * sample_rate // RENDITION_RATE
    return (pre_skip + samples) * BYTES_PER_SAMPLE


class _Decoder:
    """One libopus decoder, from entering the with-block to leaving it."""

    def __init__(self, sample_rate: int) -> None:
        if sample_rate not in SAMPLE_RATES:
            raise BadBlob(f"Opus can't be decoded at {sample_rate} Hz")
        self._library = library()
        self._sample_rate = sample_rate
        self._frame_samples = sample_rate // FRAMES_PER_SECOND
        self._room = self._frame_samples * MAX_FRAMES
        self._slots = _audio.slots(self._room * BYTES_PER_SAMPLE)
        self.packets_at_once = len(self._slots)

    def __enter__(self) -> Self:
        self._state = self._library.decoder.create_state(self._sample_rate, CHANNELS)
        return self

    def __exit__(self, *_: object) -> None:
        self._library.decoder.destroy(self._state)

    def decode(self, numbered: Sequence[tuple[int, bytes]]) -> memoryview | bytes:
        """PCM of at most `packets_at_once` packets, each with its number; valid until the next call in this thread."""
        # As in encoding, Python runs only the call itself between two packets.
        packets = [packet for _, packet in numbered]
        # An empty packet stands for a lost one: libopus conceals exactly the time that it is asked for.
        rooms = [self._room if packet else self._frame_samples for packet in packets]
        state = repeat(ctypes.byref(self._state.contents))
        counts = list(map(self._library.decode, state, packets, map(len, packets), self._slots, rooms, repeat(0)))
        if min(counts) < 0:
            number, samples = next((n, count) for (n, _), count in zip(numbered, counts, strict=True) if count < 0)
            raise BadBlob(f"packet {number} is not valid Opus: {self._library.describe(samples)}")
        if sum(counts[:-1]) == self._room * (len(counts) - 1):  # the usual case: full slots leave no holes
            return _audio.view[: sum(counts) * BYTES_PER_SAMPLE]
        starts = range(0, len(counts) * self._room * BYTES_PER_SAMPLE, self._room * BYTES_PER_SAMPLE)
        slots = zip(starts, counts, strict=True)
        return b"".join([_audio.view[at : at + samples * BYTES_PER_SAMPLE] for at, samples in slots])
