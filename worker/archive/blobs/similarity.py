"""The similarity of audio: whether one piece contains another, exactly or through a lossy codec."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import soxr
from numpy.typing import NDArray

from codec.blob import Audio

Samples = NDArray[np.int16]

COMPARED_SECONDS = 2.5
"""Seconds of a part that are compared at once: where a chunk of 5 s is missing, some such block is missing entirely."""

ALIKE = 0.4
"""The correlation of a block with its Opus rendition is about 0.85 for speech, 0.6 for noise, 0.1 with other audio."""

EDGE_SECONDS = 0.02
"""Seconds by which a part may extend past the whole: readers that know no pre-skip get Opus 6.5 ms late."""

SILENT = 2.0
"""Standard deviation of s16 samples up to which audio is inaudible and can't be found again."""

QUIET = 50.0
"""Standard deviation up to which audio may stand for silence: Opus leaves out inaudible sound."""

FRAMES_PER_SECOND = 50


def holds(whole: Audio, part: Audio) -> bool:
    """Whether `whole` contains all of `part`; it contains silence only if it is quiet for as long somewhere."""
    rate = min(whole.sample_rate, part.sample_rate)
    wanted, searched = _samples(part, rate), _samples(whole, rate)
    edge = round(EDGE_SECONDS * rate)
    room = len(searched) + 2 * edge - len(wanted)
    if room < 0 or not len(wanted):
        return not len(wanted)
    size = min(len(wanted), round(COMPARED_SECONDS * rate))
    firsts = [*range(0, len(wanted) - size, size), len(wanted) - size]
    blocks = {first: wanted[first : first + size] for first in firsts}
    loudest = max(blocks, key=lambda first: float(np.std(blocks[first])))
    if np.std(blocks[loudest]) <= SILENT:
        return _longest_quiet(searched, rate) >= len(wanted) - 2 * edge
    searched = np.pad(searched, edge, mode="edge")
    return any(
        all(_alike(block, searched[place + first :][:size]) for first, block in blocks.items())
        for place in _places(blocks[loudest], searched[loudest : loudest + room + size])
    )


def level(audio: Audio) -> float:
    """The standard deviation of its s16 samples: how loud it is."""
    return float(np.std(np.frombuffer(audio.pcm, "<i2").astype(np.float32)))


def _alike(wanted: Samples, there: Samples) -> bool:
    if np.std(wanted) <= SILENT:
        return bool(np.std(there) <= QUIET)
    one, other = _steps(wanted), _steps(there)
    return bool(one @ other > ALIKE * np.linalg.norm(one) * np.linalg.norm(other))


def _places(wanted: Samples, searched: Samples) -> Iterator[int]:
    """The indices where `wanted` may begin in `searched`: the best one in each block of its own length."""
    steps = _steps(wanted)
    size = 1 << (3 * len(wanted)).bit_length()
    spectrum = np.conj(np.fft.rfft(steps, size))
    for first in range(0, len(searched) - len(wanted) + 1, len(wanted)):
        block = _steps(searched[first : first + 2 * len(wanted)])
        matches = np.fft.irfft(np.fft.rfft(block, size) * spectrum, size)[: len(block) - len(steps) + 1]
        energy = np.concatenate([[0.0], np.cumsum(block**2)])
        there = np.sqrt(np.maximum(energy[len(steps) :] - energy[: len(matches)], 1.0))
        best = int(np.argmax(matches / there))
        if matches[best] > ALIKE * there[best] * np.linalg.norm(steps):
            yield first + best


def _steps(samples: Samples) -> NDArray[np.float64]:
    """Steps from sample to sample: without them, a DC offset or mains hum would make all audio correlate."""
    return np.diff(samples.astype(np.float64))


def _longest_quiet(samples: Samples, rate: int) -> int:
    """Length of the longest quiet part in samples."""
    frame = rate // FRAMES_PER_SECOND
    frames = samples[: len(samples) // frame * frame].reshape(-1, frame)
    loud = np.flatnonzero(frames.std(axis=1, dtype=np.float32) > QUIET)
    ends = np.concatenate([[-1], loud, [len(frames)]])
    return int(np.max(np.diff(ends)) - 1) * frame


def _samples(audio: Audio, rate: int) -> Samples:
    samples: Samples = np.frombuffer(audio.pcm, "<i2")
    if audio.sample_rate != rate:
        samples = soxr.resample(samples, audio.sample_rate, rate)
    return samples
