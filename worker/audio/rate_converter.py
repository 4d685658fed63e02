"""Converts the sample rate of audio without gaps, piece by piece."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import soxr

from worker.audio.samples import FULL_SCALE, s16le

if TYPE_CHECKING:
    from numpy.typing import NDArray


class RateConverter:
    """Audio of one rate in Hz comes out at another one; its length is exact to half a sample."""

    def __init__(self, source_rate: int, rate: int) -> None:
        self.source_rate = source_rate
        self._rate = rate
        self._taken = 0
        self._given = 0
        self._stream: Any = None if source_rate == rate else soxr.ResampleStream(source_rate, rate, 1, "float32")

    def convert(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        """Take a piece of audio; give what can be computed so far."""
        if self._stream is None:
            return samples
        self._taken += len(samples)
        converted: NDArray[np.float32] = self._stream.resample_chunk(samples)
        self._given += len(converted)
        return converted

    def rest(self) -> NDArray[np.float32]:
        """What it still holds, at the end."""
        if self._stream is None:
            return np.empty(0, np.float32)
        rest: NDArray[np.float32] = self._stream.resample_chunk(np.empty(0, np.float32), last=True)
        missing = round(self._taken * self._rate / self.source_rate) - self._given - len(rest)
        return rest[:missing] if missing < 0 else np.pad(rest, (0, missing))


class PcmRateConverter:
    """The same for s16le mono PCM, with 16 bits in and out."""

    def __init__(self, source_rate: int, rate: int) -> None:
        self.source_rate = source_rate
        self._converter = RateConverter(source_rate, rate)

    def convert(self, pcm: bytes) -> bytes:
        """Take a piece of audio; give what can be computed so far."""
        samples = np.frombuffer(pcm, "<i2").astype(np.float32) / np.float32(FULL_SCALE)
        return s16le(self._converter.convert(samples) * FULL_SCALE)

    def rest(self) -> bytes:
        """What it still holds, at the end."""
        return s16le(self._converter.rest() * FULL_SCALE)
