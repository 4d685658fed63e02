"""Measures how well stored audio came back: length, alignment, and its sound compared with the original."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import soxr
from numpy.typing import NDArray

Samples = NDArray[np.int16]
Signal = NDArray[np.float64]
Measure = Literal["WB-PESQ", "NB-PESQ", "spectral distance"]

MAX_LAG_SECONDS = 0.05
SHORTEST_SECONDS = 0.25
"""The shortest blob whose lag can be measured."""

EXACT_RATE = 16000
LATE_SAMPLES = 3
"""Above 16 kHz, the delay of libopus depends on the audio: noise takes up to this many samples longer."""

SLICE_SECONDS = 8
"""The length that PESQ (ITU-T P.862) is made for: a few sentences."""

SLICES = 5
"""Slices that are compared per recording, evenly spread."""

WIDEBAND_RATE = 16000
NARROWBAND_RATE = 8000
FRAMES_PER_SECOND = 50
BANDS = 17
LOWEST_HERTZ, HIGHEST_HERTZ = 200, 8000
"""The range of speech: bands of equal ratio divide it."""

AUDIBLE = 100.0
"""Root mean square, of 32768, above which a frame counts."""


@dataclass(frozen=True, slots=True)
class Fidelity:
    """A comparison of decoded audio with its original.

    `lags` are the samples by which each blob comes late, very short ones left out. `score` is on the scale of
    `measure`: PESQ goes up to 4.6, the spectral distance is in dB; None if there is nothing to compare, because the
    recording is silent or very short.
    """

    rate: int
    pushed_samples: int
    heard_samples: int
    lags: tuple[int, ...]
    measure: Measure
    score: float | None

    @property
    def exact(self) -> bool:
        """Whether every sample is there, at its place."""
        late = 0 if self.rate <= EXACT_RATE else LATE_SAMPLES
        return self.pushed_samples == self.heard_samples and all(abs(lag) <= late for lag in self.lags)


def compare(original: Samples, decoded: Samples, rate: int, blobs: Sequence[int]) -> Fidelity:
    """Compare recordings at `rate` Hz; `blobs` are the samples that each blob holds."""
    length = min(len(original), len(decoded))
    pairs = original[:length].astype(np.float64), decoded[:length].astype(np.float64)
    most, shortest = round(MAX_LAG_SECONDS * rate), round(SHORTEST_SECONDS * rate)
    lags = tuple(_lag(*blob, most) for blob in _blobs(*pairs, blobs) if len(blob[0]) >= shortest)
    measure, score = _pesq(*pairs, rate) if importlib.util.find_spec("pesq") else _spectral_distance(*pairs, rate)
    return Fidelity(rate, len(original), len(decoded), lags, measure, score)


def _blobs(original: Signal, decoded: Signal, blobs: Iterable[int]) -> Iterator[tuple[Signal, Signal]]:
    start = 0
    for samples in blobs:
        span = slice(start, start + samples)
        yield original[span], decoded[span]
        start += samples


def _lag(original: Signal, decoded: Signal, most: int) -> int:
    """Where the cross-correlation peaks; 0 if one of them is silent."""
    size = len(original) + most
    spectrum = np.fft.rfft(decoded, size) * np.conj(np.fft.rfft(original, size))
    correlation = np.fft.irfft(spectrum, size)
    around_zero = np.concatenate([correlation[-most:], correlation[: most + 1]])
    return int(np.argmax(around_zero)) - most if np.any(around_zero > 0.5) else 0


def _pesq(original: Signal, decoded: Signal, rate: int) -> tuple[Measure, float | None]:
    from pesq import NoUtterancesError, pesq  # noqa: PLC0415 -- only tests and developers have it

    narrow = rate == NARROWBAND_RATE
    target = NARROWBAND_RATE if narrow else WIDEBAND_RATE
    scores = []
    for first, second in _slices(_resampled(original, rate, target), _resampled(decoded, rate, target), target):
        try:
            scores.append(float(pesq(target, first, second, "nb" if narrow else "wb")))
        except NoUtterancesError:  # PESQ finds no speech there
            continue
    return "NB-PESQ" if narrow else "WB-PESQ", _mean(scores)


def _slices(original: Signal, decoded: Signal, rate: int) -> Iterator[tuple[Samples, Samples]]:
    size = min(SLICE_SECONDS * rate, len(original))
    if size < rate // 2:  # PESQ needs some hundred milliseconds
        return
    count = min(SLICES, len(original) // size)
    for first in np.linspace(0, len(original) - size, count).astype(int):
        span = slice(first, first + size)
        if np.any(original[span]):  # PESQ divides by the loudest sample
            yield original[span].astype(np.int16), decoded[span].astype(np.int16)


def _resampled(signal: Signal, rate: int, target: int) -> Signal:
    if rate == target:
        return signal
    resampled: Signal = np.clip(soxr.resample(signal, rate, target), -32768, 32767)
    return resampled


def _spectral_distance(original: Signal, decoded: Signal, rate: int) -> tuple[Measure, float | None]:
    """By how much the levels of all bands differ, on average over the audible frames."""
    levels, others = _band_levels(original, rate), _band_levels(decoded, rate)
    audible = (_frames(original, rate) ** 2).mean(axis=1) > AUDIBLE**2
    return "spectral distance", float(np.abs(levels - others)[audible].mean()) if audible.any() else None


def _band_levels(signal: Signal, rate: int) -> Signal:
    """In dB, a row per frame."""
    frames = _frames(signal, rate)
    power = np.abs(np.fft.rfft(frames * np.hanning(frames.shape[1]), axis=1)) ** 2
    edges = np.geomspace(LOWEST_HERTZ, min(HIGHEST_HERTZ, rate / 2), BANDS + 1) / FRAMES_PER_SECOND
    levels: Signal = 10 * np.log10(np.add.reduceat(power, np.unique(edges.astype(int))[:-1], axis=1) + 1)
    return levels


def _frames(signal: Signal, rate: int) -> Signal:
    size = rate // FRAMES_PER_SECOND
    return signal[: len(signal) // size * size].reshape(-1, size)


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None
