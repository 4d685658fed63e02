"""Noise as rooms have it, made at 16 kHz, and levels in dBFS, of which 0 is that of a full-scale square wave."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tests.support.speech import speech_array

RATE = 16000
FULL_SCALE = 32768
BLOCK = RATE // 50

Samples = NDArray[np.float64]


def coloured(random: np.random.Generator, slope: float, count: int, *, lowest: float = 40) -> Samples:
    """Noise whose amplitude falls with the frequency to the power of `slope` above `lowest` Hz; mean square 1."""
    spectrum = np.fft.rfft(random.normal(size=count))
    frequencies = np.maximum(np.fft.rfftfreq(count, 1 / RATE), lowest)
    return _normal(np.fft.irfft(spectrum / frequencies**slope, count))


def babble(random: np.random.Generator, count: int, *, voices: int = 8) -> Samples:
    """Many people who talk at once; mean square 1."""
    talk = [speech_array(count / RATE, RATE, offset=random.uniform(0, 25)).astype(np.float64) for _ in range(voices)]
    return _normal(np.sum(talk, axis=0))


def to_level(samples: Samples, dbfs: float) -> Samples:
    """Scaled, so that its mean square has this level."""
    scaled: Samples = _normal(samples) * FULL_SCALE * 10 ** (dbfs / 20)
    return scaled


def speech_to_level(samples: Samples, dbfs: float) -> Samples:
    """Scaled by the level of what is spoken: 20 ms that are 30 dB softer than the loudest do not count."""
    blocks = samples[: len(samples) // BLOCK * BLOCK].reshape(-1, BLOCK)
    power = np.square(blocks).mean(axis=1)
    active = power[power > power.max() / 1000].mean()
    scaled: Samples = samples * (FULL_SCALE * 10 ** (dbfs / 20) / np.sqrt(active))
    return scaled


def s16(samples: Samples) -> NDArray[np.int16]:
    """As 16-bit samples, cut at full scale."""
    return np.clip(np.rint(samples), -FULL_SCALE, FULL_SCALE - 1).astype("<i2")


def _normal(samples: Samples) -> Samples:
    scaled: Samples = samples / np.sqrt(np.square(samples).mean())
    return scaled
