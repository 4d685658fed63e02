"""What the gate takes for speech. These bounds fail when it gets bolder, and when it is too timid to save anything."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from codec.entry import SAMPLE_RATES
from codec.opus.speech_gate import BLOCKS_PER_SECOND, HANGOVER_BLOCKS, SpeechGate
from tests.support.noises import FULL_SCALE, RATE, Samples, babble, coloured, s16, speech_to_level, to_level
from tests.support.speech import speech_array
from worker.demo.speech import NARROWBAND, recording

COLOURS = {"white": 0.0, "pink": 0.5, "brown": 1.0}
LEAD = 8
SPOKEN = 9


def quiet(samples: NDArray[np.int16], rate: int = RATE) -> NDArray[np.bool_]:
    """For every block, whether it is taken for quiet."""
    gate, step, view = SpeechGate(rate), rate // BLOCKS_PER_SECOND, samples.data
    return np.array([gate.quiet_blocks(view[at : at + step]) > 0 for at in range(0, len(view) - step + 1, step)])


def share(part: NDArray[np.bool_]) -> float:
    return float(part.mean())


def noise(kind: str, seconds: float, dbfs: float, seed: int = 1) -> Samples:
    random, count = np.random.default_rng(seed), round(seconds * RATE)
    return to_level(babble(random, count) if kind == "babble" else coloured(random, COLOURS[kind], count), dbfs)


def in_noise(kind: str, level: float, ratio: float) -> NDArray[np.int16]:
    """Noise, in which somebody speaks after some seconds; `ratio` is speech to noise in dB."""
    samples = noise(kind, LEAD + SPOKEN, level - ratio)
    samples[LEAD * RATE :] += speech_to_level(speech_array(SPOKEN).astype(float), level)
    return s16(samples)


@pytest.mark.parametrize("kind", ["white", "pink", "brown", "babble"])
@pytest.mark.parametrize(
    ("level", "ratio", "most"),
    [(-44, 10, 0.03), (-44, 5, 0.10), (-44, 0, 0.10), (-50, 10, 0.03), (-50, 5, 0.10), (-50, 0, 0.35)],
)
def test_soft_speech_in_noise_is_hardly_missed(kind: str, level: float, ratio: float, most: float) -> None:
    missed = share(quiet(in_noise(kind, level, ratio))[LEAD * BLOCKS_PER_SECOND :])
    assert missed <= most


@pytest.mark.parametrize("level", [-20, -30, -44, -50, -56])
def test_speech_in_a_quiet_room_is_not_missed(level: float) -> None:
    missed = share(quiet(in_noise("pink", level, 20))[LEAD * BLOCKS_PER_SECOND :])
    assert missed <= 0.03


def test_telephone_speech_gets_full_effort() -> None:
    calls = recording(NARROWBAND)
    assert share(quiet(calls, 8000)) <= 0.01


@pytest.mark.slow
@pytest.mark.parametrize("dbfs", [-10, -20])
def test_music_gets_full_effort(dbfs: float) -> None:
    assert share(quiet(s16(to_level(_music(30), dbfs)))) <= 0.01


def _music(seconds: int) -> Samples:
    """Plucked chords, with what the strings give after each."""
    time, beat = np.arange(seconds * RATE) / RATE, 1.5
    chords = [(110, 138.6, 164.8), (98, 123.5, 146.8), (130.8, 164.8, 196), (87.3, 110, 130.8)]
    music = np.zeros_like(time)
    for number in range(int(seconds / beat)):
        since = np.maximum(0, time - number * beat)
        pluck = np.where(time >= number * beat, np.exp(-2 * since), 0)
        for note in chords[number % len(chords)]:
            music += pluck * sum(np.sin(2 * np.pi * note * part * since) / part for part in (1, 2, 3, 4))
    return music


@pytest.mark.slow
@pytest.mark.parametrize("dbfs", [-45, -50, -60, -70])
@pytest.mark.parametrize("kind", COLOURS)
def test_steady_noise_is_quiet(kind: str, dbfs: float) -> None:
    heard = quiet(s16(noise(kind, 60, dbfs)))[HANGOVER_BLOCKS:]
    assert share(heard) >= 0.95


def test_every_batch_starts_loud() -> None:
    heard = quiet(s16(noise("pink", 5, -60)))
    assert not heard[:HANGOVER_BLOCKS].any()
    assert heard[HANGOVER_BLOCKS:].all()


def test_gate_stays_open_for_a_second_after_speech() -> None:
    samples = noise("pink", 10, -60)
    samples[5 * RATE : 6 * RATE] += noise("pink", 1, -30)
    heard = quiet(s16(samples))
    assert heard[40:50].all()
    assert not heard[50:69].any()
    assert heard[70:].all()


def test_loud_noise_counts_as_speech() -> None:
    assert not quiet(s16(noise("pink", 20, -40))).any()


def test_noise_that_grows_is_the_room_after_a_while() -> None:
    heard = quiet(s16(np.concatenate([noise("pink", 10, -60), noise("pink", 30, -45, seed=2)])))
    assert not heard[101:150].any()
    assert heard[250:].all()


def test_digital_silence_tells_nothing_of_the_room() -> None:
    room = noise("pink", 5, -50)
    heard = quiet(s16(np.concatenate([room, np.zeros(10 * RATE), room])))
    assert heard[HANGOVER_BLOCKS:].all()


@pytest.mark.parametrize("offset", [-3000, 300])
def test_constant_offset_changes_nothing(offset: int) -> None:
    samples = in_noise("pink", -44, 10)
    assert (quiet(samples + np.int16(offset)) == quiet(samples)).all()


@pytest.mark.parametrize("rate", SAMPLE_RATES)
@pytest.mark.parametrize("frequency", [50, 100, 400, 440, 697, 941, 1000, 1020, 1336, 2000, 3000])
def test_no_tone_passes_unheard(rate: int, frequency: int) -> None:
    tone = FULL_SCALE * 10 ** (-35 / 20) * np.sin(2 * np.pi * frequency * np.arange(10 * rate) / rate)
    assert not quiet(s16(tone), rate).any()


@pytest.mark.parametrize("rate", SAMPLE_RATES)
def test_the_rate_makes_no_difference(rate: int) -> None:
    random = np.random.default_rng(4)
    samples = random.normal(0, 60, 20 * rate)
    samples[10 * rate : 14 * rate] += speech_to_level(speech_array(4, rate).astype(float), -30)
    heard = quiet(s16(samples), rate)
    assert share(heard[HANGOVER_BLOCKS:100]) >= 0.85
    assert share(heard[100:140]) <= 0.05
    assert share(heard[155:]) >= 0.85


@pytest.mark.parametrize("count", [1, 7, 320, 1599])
def test_last_block_of_a_batch_may_be_short(count: int) -> None:
    gate = SpeechGate(RATE)
    assert gate.quiet_blocks(s16(np.full(count, 8.0)).data) == 0
