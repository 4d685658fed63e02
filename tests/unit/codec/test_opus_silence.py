"""Digital silence: exact zeros, as a muted microphone and a filled gap give them."""

from __future__ import annotations

import ctypes

import numpy as np
import pesq
import pytest
from numpy.typing import NDArray

from codec.container import packets
from codec.libopus import library
from codec.opus import Encoder, decode
from codec.opus.encoder import SETTLING_FRAMES
from tests.support.speech import speech

RATES = (8000, 16000, 48000)
AUDIBLE = 4  # units of the last place; the quietest step of 16 bits is 1


def encode(*pieces: bytes, rate: int) -> tuple[bytes, int]:
    encoder = Encoder(rate, complexity=7)
    for piece in pieces:
        encoder.encode(piece)
    return encoder.finish(), encoder.pre_skip


def seconds(count: float, rate: int) -> bytes:
    return bytes(2 * round(count * rate))


@pytest.mark.slow
@pytest.mark.parametrize("rate", [16000, 48000])
def test_minute_of_silence_takes_a_twentieth_of_a_minute_of_speech(rate: int) -> None:
    silent, _ = encode(seconds(60, rate), rate=rate)
    spoken, _ = encode(speech(60, rate), rate=rate)
    assert len(silent) * 20 <= len(spoken)


@pytest.mark.parametrize("rate", RATES)
def test_minute_of_silence_takes_little_more_than_its_packet_lengths(rate: int) -> None:
    silent, _ = encode(seconds(60, rate), rate=rate)
    assert len(silent) < 3001 * 2 + SETTLING_FRAMES * 65


@pytest.mark.parametrize("rate", RATES)
def test_libopus_works_only_while_the_silence_settles(rate: int, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = 0
    real = library().encode

    def counted(*args: int) -> int:
        nonlocal calls
        calls += 1
        return int(real(*args))

    encoder = Encoder(rate, complexity=7)
    monkeypatch.setattr(encoder, "_library", _Counting(encoder._library, counted))
    encoder.encode(seconds(60, rate))
    encoder.finish()
    assert calls == SETTLING_FRAMES


class _Counting:
    def __init__(self, real: object, encode: object) -> None:
        self._real = real
        self.encode = encode

    def __getattr__(self, name: str) -> object:
        return getattr(self._real, name)


@pytest.mark.parametrize("rate", RATES)
def test_silence_inside_speech_is_inaudible_in_a_plain_decoder(rate: int) -> None:
    container, pre_skip = encode(speech(3, rate), seconds(5, rate), speech(3, rate, offset=4), rate=rate)
    heard = _plain_decoder(container, rate)
    settled = (3 * rate) + pre_skip + SETTLING_FRAMES * rate // 50
    assert np.abs(heard[settled : 8 * rate - rate // 50]).max() <= AUDIBLE


@pytest.mark.slow
def test_speech_after_silence_sounds_as_if_the_silence_had_been_encoded(monkeypatch: pytest.MonkeyPatch) -> None:
    source = speech(4, 16000), seconds(10, 16000), speech(6, 16000, offset=5)
    skipping, pre_skip = encode(*source, rate=16000)
    monkeypatch.setattr("codec.opus.encoder.SETTLING_FRAMES", 10**9)
    encoding, _ = encode(*source, rate=16000)
    original = np.frombuffer(source[2], "<i2")
    scores = []
    for container in (skipping, encoding):
        pcm = decode(container, sample_rate=16000, pre_skip=pre_skip, samples=20 * 16000)
        scores.append(pesq.pesq(16000, original, np.frombuffer(pcm, "<i2")[14 * 16000 :], "wb"))
    assert scores[0] >= scores[1] - 0.05


def test_pieces_that_end_inside_silent_frames_give_the_same_bytes() -> None:
    pcm = speech(1, 16000) + seconds(2, 16000) + speech(1, 16000)
    whole, _ = encode(pcm, rate=16000)
    pieces = [pcm[start : start + 5002] for start in range(0, len(pcm), 5002)]
    assert encode(*pieces, rate=16000)[0] == whole


def test_one_sample_that_is_not_zero_ends_the_silence() -> None:
    pcm = bytearray(seconds(2, 16000))
    pcm[2 * 16000] = 1
    container, _ = encode(bytes(pcm), rate=16000)
    sizes = [len(packet) for packet in packets(container)]
    assert sizes[49] == 0
    assert sizes[50] > 0


def _plain_decoder(container: bytes, rate: int) -> NDArray[np.int32]:
    """libopus' own loss concealment, one call per packet, no knowledge of ours."""
    binding = library()
    state = binding.decoder.create_state(rate, 1)
    room = rate // 50
    pcm = (ctypes.c_int16 * room)()
    heard = []
    for packet in packets(container):
        count = binding.decode(state, bytes(packet), len(packet), pcm, room, 0)
        heard.append(np.array(pcm[:count], dtype=np.int32))
    binding.decoder.destroy(state)
    return np.concatenate(heard)
