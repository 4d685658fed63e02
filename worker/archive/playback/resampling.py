"""Resampling: pieces of audio become one stream of PCM at one rate; pieces without a gap share one resampler."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from codec.entry import BYTES_PER_SAMPLE
from worker.archive.playback.pieces import Piece
from worker.archive.playback.timeline import Timeline
from worker.audio.rate_converter import RateConverter
from worker.audio.samples import FULL_SCALE, s16le

SILENCE_BLOCK = 1 << 20
"""Bytes of silence that are made at once: a gap may be hours long."""


class Resampler:
    """Gives s16le mono PCM at `sample_rate` Hz; `samples` counts the samples that it gave."""

    def __init__(self, timeline: Timeline, sample_rate: int) -> None:
        self._timeline = timeline
        self._rate = sample_rate
        self._converter: RateConverter | None = None
        self.samples = 0

    def add(self, piece: Piece) -> Iterator[bytes]:
        """Put a piece after what was added before."""
        audio = piece.audio
        placement = self._timeline.place(piece.start)
        if placement.silence:
            yield from self._finished()
            yield from self._silence(round(placement.silence * self._rate))
        self._timeline.trim(placement, audio.duration)
        pcm = audio.pcm[round(placement.cut * audio.sample_rate) * BYTES_PER_SAMPLE :]
        if not pcm:
            return
        if self._converter is None or self._converter.source_rate != audio.sample_rate:
            yield from self._finished()
            self._converter = RateConverter(audio.sample_rate, self._rate)
        self._timeline.append(len(pcm) // BYTES_PER_SAMPLE / audio.sample_rate)
        yield from self._counted(self._converted(self._converter, pcm))

    def finish(self) -> Iterator[bytes]:
        """The PCM that the resampler still holds."""
        yield from self._finished()

    def _finished(self) -> Iterator[bytes]:
        if self._converter is not None:
            yield from self._counted(s16le(self._converter.rest() * FULL_SCALE))
            self._converter = None

    def _converted(self, converter: RateConverter, pcm: bytes) -> bytes:
        if converter.source_rate == self._rate:
            return pcm
        samples = np.frombuffer(pcm, "<i2").astype(np.float32) / np.float32(FULL_SCALE)
        return s16le(converter.convert(samples) * FULL_SCALE)

    def _silence(self, samples: int) -> Iterator[bytes]:
        self._timeline.append(samples / self._rate)
        left = samples * BYTES_PER_SAMPLE
        while left:
            block = bytes(min(left, SILENCE_BLOCK))
            left -= len(block)
            yield from self._counted(block)

    def _counted(self, pcm: bytes) -> Iterator[bytes]:
        if pcm:
            self.samples += len(pcm) // BYTES_PER_SAMPLE
            yield pcm
