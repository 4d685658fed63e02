"""Less effort where there is no speech: the same bytes however the audio is cut, and no harm to speech."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pesq import pesq

from codec.container import packets
from codec.entry import SAMPLE_RATES
from codec.errors import EncodingFailed
from codec.opus import FRAMES_PER_SECOND, Encoder, decode
from codec.opus.effort import AS_SPEECH, Quiet
from tests.support.noises import RATE, coloured, s16, speech_to_level, to_level
from tests.support.speech import speech, speech_array

LOW = Quiet(complexity=1)
LOWEST = Quiet(complexity=1, bitrate=12000)
WIDE_BAND_SILK = 9  # the number of the configuration in a packet's first byte


def encoded(pcm: bytes, quiet: Quiet, rate: int = RATE, bitrate: int | None = None) -> bytes:
    encoder = Encoder(rate, complexity=6, bitrate=bitrate, quiet=quiet)
    encoder.encode(pcm)
    return encoder.finish()


def heard(container: bytes, samples: int) -> NDArray[np.int16]:
    return np.frombuffer(decode(container, pre_skip=104, samples=samples), "<i2")


def room(seconds: float, dbfs: float, slope: float = 0.5) -> NDArray[np.int16]:
    return s16(to_level(coloured(np.random.default_rng(1), slope, round(seconds * RATE)), dbfs))


def talk_in_room() -> bytes:
    """A second of a room, speech, and the room for five seconds, which makes every change that there is."""
    quiet = room(9, -58)
    quiet[2 * RATE : 4 * RATE] += speech_array(2)
    return quiet.tobytes()


@pytest.mark.slow
@given(st.lists(st.integers(0, 30_000), max_size=12), st.sampled_from([LOW, LOWEST]))
@settings(max_examples=15, deadline=None)
def test_any_cutting_gives_the_same_bytes(sizes: list[int], quiet: Quiet) -> None:
    pcm, position = talk_in_room(), 0
    encoder = Encoder(RATE, complexity=2, quiet=quiet)
    for size in sizes:
        encoder.encode(pcm[position : position + 2 * size])
        position += 2 * size
    encoder.encode(pcm[position:])
    whole = Encoder(RATE, complexity=2, quiet=quiet)
    whole.encode(pcm)
    assert encoder.finish() == whole.finish()


@pytest.mark.parametrize("rate", SAMPLE_RATES)
@pytest.mark.parametrize("quiet", [LOW, LOWEST])
def test_all_samples_come_back(rate: int, quiet: Quiet) -> None:
    for count in (1, rate // 10, 3 * rate + 77):
        encoder = Encoder(rate, complexity=2, quiet=quiet)
        encoder.encode(bytes(np.resize(room(4, -55), count)))
        decoded = decode(encoder.finish(), sample_rate=rate, pre_skip=encoder.pre_skip, samples=count)
        assert len(decoded) == 2 * count


def test_speech_is_encoded_as_ever() -> None:
    assert encoded(speech(20), LOWEST) == encoded(speech(20), AS_SPEECH)


@pytest.mark.parametrize("quiet", [AS_SPEECH, Quiet(complexity=6), Quiet(complexity=10), Quiet(6, 30_000)])
def test_what_is_not_less_than_speech_gets_changes_nothing(quiet: Quiet) -> None:
    pcm = talk_in_room()
    assert encoded(pcm, quiet) == encoded(pcm, AS_SPEECH)


def test_telephone_gets_no_more_bits_while_it_is_quiet() -> None:
    pcm = room(10, -55).tobytes()
    assert encoded(pcm, Quiet(1, 12_000), rate=8000) == encoded(pcm, LOW, rate=8000)  # libopus takes 11,000


def test_quiet_bitrate_saves_bytes_after_three_seconds() -> None:
    container = encoded(room(20, -55).tobytes(), LOWEST)
    sizes = np.array([len(packet) for packet in packets(container)])
    early, late = sizes[FRAMES_PER_SECOND : 4 * FRAMES_PER_SECOND], sizes[5 * FRAMES_PER_SECOND : -5]
    assert late.mean() < 0.75 * early.mean()
    assert encoded(room(3.9, -55).tobytes(), LOWEST) == encoded(room(3.9, -55).tobytes(), LOW)


@pytest.mark.parametrize("bitrate", [None, 12_000])
def test_speech_comes_back_wide_at_once(bitrate: int | None) -> None:
    pcm = np.concatenate([room(8, -58), speech_array(4) + room(4, -58)]).tobytes()
    container = encoded(pcm, Quiet(1, 6000), bitrate=bitrate)
    assert {packet[0] >> 3 for packet in packets(container)} == {WIDE_BAND_SILK}


@pytest.mark.slow
@pytest.mark.parametrize("slope", [0, 0.5, 1], ids=["white", "pink", "brown"])
def test_the_room_sounds_as_loud_with_less_effort(slope: float) -> None:
    samples = room(20, -50, slope)
    spans = [
        np.square(heard(encoded(samples.tobytes(), quiet), len(samples))[2 * RATE :], dtype=float).mean()
        for quiet in (AS_SPEECH, LOW)
    ]
    assert abs(10 * np.log10(spans[1] / spans[0])) < 1.0


@pytest.mark.slow
def test_soft_speech_in_noise_hardly_suffers() -> None:
    losses = [_loss(level, ratio, slope) for level in (-44, -50) for ratio in (10, 5, 0) for slope in (0.5, 1)]
    assert np.mean(losses) <= 0.07
    assert max(losses) <= 0.45


def _loss(level: float, ratio: float, slope: float) -> float:
    """WB-PESQ that speech in noise loses by the gate, after the noise alone has closed it."""
    samples = room(11, level - ratio, slope)
    samples[5 * RATE :] += s16(speech_to_level(speech_array(6, offset=1).astype(float), level))
    full, less = (heard(encoded(samples.tobytes(), quiet), len(samples))[5 * RATE :] for quiet in (AS_SPEECH, LOW))
    return float(pesq(RATE, samples[5 * RATE :], full, "wb") - pesq(RATE, samples[5 * RATE :], less, "wb"))


@pytest.mark.parametrize("quiet", [Quiet(complexity=-1), Quiet(bitrate=0), Quiet(bitrate=-5)])
def test_settings_that_libopus_refuses_are_refused_before_the_first_sample(quiet: Quiet) -> None:
    with pytest.raises(EncodingFailed, match="refused the encoder's settings: invalid argument"):
        Encoder(RATE, complexity=6, quiet=quiet)
