"""Resampling: pieces of audio become one stream of PCM at one rate; pieces without a gap share one resampler."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import soxr
from numpy.typing import NDArray

from codec.blob import Audio
from codec.entry import BYTES_PER_SAMPLE
from worker.archive.playback.timeline import Timeline
from worker.audio.samples import FULL_SCALE, s16le

SILENCE_BLOCK = 1 << 20
"""Bytes of silence that are made at once: a gap may be hours long."""


class Resampler:
    """Gives s16le mono PCM at `sample_rate` Hz; `samples` counts the samples that it gave."""

    def __init__(self, timeline: Timeline, sample_rate: int) -> None:
        self._timeline = timeline
        self._rate = sample_rate
        self._run: _Run | None = None
        self.samples = 0

    def add(self, start: float, audio: Audio) -> Iterator[bytes]:
        """Put audio that began at `start` (Unix seconds) after what was added before."""
        placement = self._timeline.place(start)
        if placement.silence:
            yield from self._finished()
            yield from self._silence(round(placement.silence * self._rate))
        self._timeline.trim(placement, audio.duration)
        pcm = audio.pcm[round(placement.cut * audio.sample_rate) * BYTES_PER_SAMPLE :]
        if not pcm:
            return
        if self._run is None or self._run.source_rate != audio.sample_rate:
            yield from self._finished()
            self._run = _Run(audio.sample_rate, self._rate)
        self._timeline.append(len(pcm) // BYTES_PER_SAMPLE / audio.sample_rate)
        yield from self._counted(self._run.convert(pcm))

    def finish(self) -> Iterator[bytes]:
        """The PCM that the resampler still holds."""
        yield from self._finished()

    def _finished(self) -> Iterator[bytes]:
        if self._run is not None:
            yield from self._counted(self._run.rest())
            self._run = None

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


class _Run:
    """Audio of one rate without gaps, converted to another rate; its length is exact to half a sample."""

    def __init__(self, source_rate: int, rate: int) -> None:
        self.source_rate = source_rate
        self._rate = rate
        self._taken = 0
        self._given = 0
        self._stream: Any = None if source_rate == rate else soxr.ResampleStream(source_rate, rate, 1, "float32")

    def convert(self, pcm: bytes) -> bytes:
        if self._stream is None:
            return pcm
        samples = np.frombuffer(pcm, "<i2").astype(np.float32) / FULL_SCALE
        self._taken += len(samples)
        return self._as_pcm(self._stream.resample_chunk(samples))

    def rest(self) -> bytes:
        if self._stream is None:
            return b""
        pcm = self._as_pcm(self._stream.resample_chunk(np.empty(0, np.float32), last=True))
        missing = round(self._taken * self._rate / self.source_rate) - self._given
        if missing < 0:
            return pcm[: missing * BYTES_PER_SAMPLE]
        return pcm + bytes(missing * BYTES_PER_SAMPLE)

    def _as_pcm(self, samples: NDArray[np.float32]) -> bytes:
        self._given += len(samples)
        return s16le(samples * FULL_SCALE)
