"""Peaks of audio, from which a waveform is drawn."""

from __future__ import annotations

from array import array

PER_SECOND = 20
"""Peaks of one second of audio."""

LOOKED_AT = 4
"""Of so many samples one is looked at: a picture does not show the difference, and it takes a quarter of the time."""

FULL_SCALE = 32768


def peaks(pcm: bytes, sample_rate: int) -> bytes:
    """One byte per 50 ms of s16le mono PCM: its highest level, 255 for full scale. Blocks for some ms per minute."""
    samples = array("h", pcm)
    step = sample_rate // PER_SECOND
    return bytes(_level(samples[first : first + step : LOOKED_AT]) for first in range(0, len(samples), step))


def _level(samples: array[int]) -> int:
    highest, lowest = max(samples), min(samples)
    return min(255, max(highest, -lowest) * 256 // FULL_SCALE)
