"""Whether a part can be heard in a whole: found where it is, whatever lies under it, and never where it is not."""

from __future__ import annotations

import numpy as np
import pytest
import soxr
from numpy.typing import NDArray

from codec.blob import Audio
from codec.opus import Encoder, decode
from tests.support.speech import speech
from tests.support.stored_blobs import noise
from worker.archive.blobs.similarity import holds

RATE = 16000
RECORDING = speech(24)  # of which nothing is repeated
HUM = 1500 * np.sin(np.arange(24 * RATE) * 2 * np.pi * 50 / RATE)


def audio(pcm: bytes) -> Audio:
    return Audio(pcm, RATE)


def cut(pcm: bytes, first: float, last: float) -> bytes:
    return pcm[round(first * RATE) * 2 : round(last * RATE) * 2]


def as_production_reads(pcm: bytes) -> bytes:
    """Through Opus, 6.5 ms late."""
    encoder = Encoder(RATE, complexity=5)
    encoder.encode(pcm)
    return decode(encoder.finish())


def changed(pcm: bytes, factor: float, added: float | NDArray[np.float64]) -> bytes:
    return np.clip(np.frombuffer(pcm, "<i2") * factor + added, -32768, 32767).astype("<i2").tobytes()


BACKGROUNDS = {
    "speech": RECORDING,
    "quiet speech": changed(RECORDING, 0.02, 0),
    "speech over hum": changed(RECORDING, 0.3, HUM),
    "noise with an offset": changed(noise(24), 1, 150),
}


@pytest.mark.slow
@pytest.mark.parametrize("background", BACKGROUNDS)
@pytest.mark.parametrize(("first", "last"), [(0, 5), (9.3, 14.3), (19, 24), (3, 22), (0, 24), (6, 6.5)])
def test_a_part_is_found_exactly_and_through_opus(background: str, first: float, last: float) -> None:
    whole = BACKGROUNDS[background]
    part = cut(whole, first, last)

    assert holds(audio(whole), audio(part))
    assert holds(audio(as_production_reads(whole)), audio(part))
    assert holds(audio(whole), audio(as_production_reads(part)))


@pytest.mark.slow
@pytest.mark.parametrize("background", BACKGROUNDS)
@pytest.mark.parametrize(("first", "last"), [(0, 5), (9, 14), (19, 24), (3, 4)])
def test_a_part_that_was_taken_out_is_missed(background: str, first: float, last: float) -> None:
    source = BACKGROUNDS[background]
    lacking = cut(source, 0, first) + cut(source, last, 24)

    assert not holds(audio(lacking), audio(cut(source, first, last)))


def test_a_part_that_goes_on_after_the_whole_is_not_held() -> None:
    assert not holds(audio(cut(RECORDING, 0, 15)), audio(cut(RECORDING, 10, 22)))
    assert not holds(audio(cut(RECORDING, 8, 24)), audio(cut(RECORDING, 2, 14)))


def test_a_part_of_which_the_middle_is_missing_is_not_held() -> None:
    whole = cut(RECORDING, 0, 6) + bytes(5 * RATE * 2) + cut(RECORDING, 11, 24)

    assert not holds(audio(whole), audio(cut(RECORDING, 2, 20)))


def test_silence_is_held_only_by_silence() -> None:
    silence = bytes(5 * RATE * 2)

    assert not holds(audio(speech(5)), audio(silence))
    assert holds(audio(cut(RECORDING, 0, 5) + silence + cut(RECORDING, 5, 9)), audio(silence))
    assert not holds(audio(silence), audio(speech(5)))
    assert holds(audio(as_production_reads(silence)), audio(silence))
    assert holds(audio(silence), audio(b""))


def test_a_part_that_begins_with_silence_is_found() -> None:
    part = bytes(8 * RATE * 2) + cut(RECORDING, 5, 9)

    assert holds(audio(cut(RECORDING, 0, 5) + part), audio(part))
    assert not holds(audio(RECORDING), audio(part))


@pytest.mark.slow
@pytest.mark.parametrize("rate", [8000, 48000])
def test_rates_may_differ(rate: int) -> None:
    resampled = soxr.resample(np.frombuffer(RECORDING, "<i2"), RATE, rate).tobytes()
    part = cut(RECORDING, 7, 12)

    assert holds(Audio(resampled, rate), audio(part))
    assert holds(audio(RECORDING), Audio(resampled[rate * 4 : rate * 14], rate))
    assert not holds(Audio(resampled[: rate * 14], rate), audio(part))
