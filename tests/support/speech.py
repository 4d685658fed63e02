"""Recorded human speech from Debian's packages, as PCM at any rate."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import numpy as np
import soxr

from worker.demo.speech import NARROWBAND, WIDEBAND, recording

if TYPE_CHECKING:
    from numpy.typing import NDArray


def speech(seconds: float, rate: int = 16000, *, offset: float = 0.0) -> bytes:
    """Speech as s16le mono, repeated as often as needed, `offset` seconds into the recording.

    At 8000 Hz a telephone recording, else a 16 kHz one, resampled where `rate` differs.
    """
    return speech_array(seconds, rate, offset=offset).tobytes()


def speech_array(seconds: float, rate: int = 16000, *, offset: float = 0.0) -> NDArray[np.int16]:
    """The same as samples."""
    rotated = np.roll(_recording(rate), -round(offset * rate))
    return np.resize(rotated, round(seconds * rate))


@cache
def _recording(rate: int) -> NDArray[np.int16]:
    if rate == 8000:
        return recording(NARROWBAND)
    wideband = recording(WIDEBAND)
    if rate == 16000:
        return wideband
    resampled: NDArray[np.float64] = soxr.resample(wideband.astype(np.float64), 16000, rate)
    return np.clip(np.rint(resampled), -32768, 32767).astype("<i2")
