"""Resampling: pieces of audio become one stream of PCM at one rate; pieces without a gap share one resampler."""

from __future__ import annotations

from collections.abc import Iterator

from codec.entry import BYTES_PER_SAMPLE
from worker.archive.playback.pieces import Piece
from worker.archive.playback.timeline import Timeline
from worker.audio.pcm_converter import PcmConverter, pcm_converter

SILENCE_BLOCK = 1 << 20
"""Bytes of silence that are made at once: a gap may be hours long."""


class Resampler:
    """Gives s16le mono PCM at `sample_rate` Hz; `samples` counts the samples that it gave."""

    def __init__(self, timeline: Timeline, sample_rate: int) -> None:
        self._timeline = timeline
        self._rate = sample_rate
        self._converter: PcmConverter | None = None
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
            self._converter = pcm_converter(audio.sample_rate, self._rate)
        self._timeline.append(len(pcm) // BYTES_PER_SAMPLE / audio.sample_rate)
        yield from self._counted(self._converter.convert(pcm))

    def finish(self) -> Iterator[bytes]:
        """The PCM that the resampler still holds."""
        yield from self._finished()

    def _finished(self) -> Iterator[bytes]:
        if self._converter is not None:
            yield from self._counted(self._converter.rest())
            self._converter = None

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
