"""A day of an always-on microphone in ten minutes: recorded speech in rooms whose noise is made, at set levels.

The mix is fixed: 28 % of the time somebody speaks, as loud as a wearer of the microphone or as soft as somebody across
the room.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from tests.support.noises import Samples, babble, coloured, s16, speech_to_level, to_level
from tests.support.speech import speech_array
from tests.tools.bench.audio import RATE

SECONDS = 60
SAMPLES = SECONDS * RATE


@dataclass(frozen=True, slots=True)
class Span:
    """Somebody speaks from `start`, in seconds, for `seconds`."""

    start: float
    seconds: float


@dataclass(frozen=True, slots=True)
class Scene:
    """A minute: the room's noise and its level, the level of speech and when it is heard; levels in dBFS."""

    name: str
    noise: str
    noise_level: float
    speech_level: float = 0
    spans: tuple[Span, ...] = ()


DAY = (
    Scene("office, a talk", "fan", -55, -26, (Span(8, 9), Span(21, 6), Span(31, 5))),
    Scene("office, typing", "typing", -56),
    Scene("café", "babble", -46, -22, (Span(5, 8), Span(16, 9), Span(40, 8))),
    Scene("street", "street", -45, -28, (Span(30, 10),)),
    Scene("coat pocket", "rustle", -52, -40, (Span(20, 10),)),
    Scene("at home", "fan", -60, -30, (Span(3, 7), Span(15, 10), Span(45, 8))),
    Scene("night", "hiss", -60),
    Scene("car", "rumble", -47, -24, (Span(10, 8), Span(25, 12))),
    Scene("kitchen, across the room", "dishes", -57, -44, (Span(12, 10), Span(35, 10))),
    Scene("meeting", "fan", -52, -32, (Span(2, 12), Span(16, 14), Span(36, 14))),
)


@dataclass(frozen=True, slots=True)
class Minute:
    """A scene's samples."""

    scene: Scene
    samples: NDArray[np.int16]

    @property
    def pcm(self) -> bytes:
        """As a pusher sends it."""
        return self.samples.tobytes()


@cache
def day() -> tuple[Minute, ...]:
    """All scenes; the same in every run."""
    return tuple(_minute(scene, number) for number, scene in enumerate(DAY))


def speech_share() -> float:
    """The share of the day in which somebody speaks."""
    return sum(span.seconds for scene in DAY for span in scene.spans) / (SECONDS * len(DAY))


def _minute(scene: Scene, number: int) -> Minute:
    random = np.random.default_rng(number)
    samples = to_level(NOISES[scene.noise](random), scene.noise_level)
    for span in scene.spans:
        spoken = speech_array(span.seconds, RATE, offset=number * 3.7 + span.start).astype(np.float64)
        start = round(span.start * RATE)
        samples[start : start + len(spoken)] += speech_to_level(spoken, scene.speech_level)
    return Minute(scene, s16(samples))


def _fan(random: np.random.Generator) -> Samples:
    time = np.arange(SAMPLES) / RATE
    hum = sum(np.sin(2 * np.pi * 50 * harmonic * time) / harmonic for harmonic in (1, 2, 3, 5))
    noise: Samples = coloured(random, 0.7, SAMPLES) + 0.5 * hum
    return noise


def _wandering(random: np.random.Generator, slope: float, swing: float) -> Samples:
    """Noise whose level wanders by `swing` dB up and down within some seconds."""
    points = random.uniform(-swing, swing, SECONDS // 3 + 1)
    level = np.interp(np.arange(SAMPLES), np.linspace(0, SAMPLES, len(points)), points)
    noise: Samples = coloured(random, slope, SAMPLES) * 10 ** (level / 20)
    return noise


def _with_clicks(random: np.random.Generator, a_second: float, seconds: float, loudness: float) -> Samples:
    """Soft noise and, so often a second, something hard that is heard for so long."""
    noise = coloured(random, 0.7, SAMPLES)
    length = round(seconds * RATE)
    decay = np.exp(-6 * np.arange(length) / length)
    busy = np.nonzero(random.uniform(size=SECONDS // 10) < 0.5)[0]  # it comes in bouts of ten seconds
    for bout in busy:
        for start in random.integers(bout * 10 * RATE, (bout + 1) * 10 * RATE - length, round(10 * a_second)):
            noise[start : start + length] += loudness * random.uniform(0.3, 1) * decay * random.normal(size=length)
    return noise


NOISES: Mapping[str, Callable[[np.random.Generator], Samples]] = {
    "fan": _fan,
    "hiss": lambda random: coloured(random, 0, SAMPLES),
    "rumble": lambda random: coloured(random, 1, SAMPLES),
    "street": lambda random: _wandering(random, 0.8, 4),
    "rustle": lambda random: _wandering(random, 0.5, 6),
    "babble": lambda random: babble(random, SAMPLES),
    "typing": lambda random: _with_clicks(random, 5, 0.03, 6),
    "dishes": lambda random: _with_clicks(random, 0.7, 0.2, 8),
}
