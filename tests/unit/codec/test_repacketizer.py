"""Joined packets are decoded to the very samples that the single ones give.

But where decoded audio exceeds full scale: libopus then softens the peak within each packet, and there are fewer.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codec.container import HEADER, PACKET_LENGTH, packets
from codec.entry import SAMPLE_RATES
from codec.errors import BadBlob
from codec.libopus import library
from codec.libopus.repacketizer import MAX_PACKET_BYTES, repacketized
from codec.opus import Encoder, decode
from tests.support.speech import speech, speech_array

CONFIGURATIONS_OF_20_MS = (1, 5, 9, 13, 15, 19, 23, 27, 31)


def contained(contents: Sequence[bytes]) -> bytes:
    parts = [PACKET_LENGTH.pack(len(content)) + content for content in contents]
    return HEADER.pack(len(parts), 0) + b"".join(parts)


def decoded_one_by_one(contents: Sequence[bytes], rate: int) -> bytes:
    """By libopus alone, a call for each packet.

    Raises:
        BadBlob: a packet is not Opus; the message starts as the one of `decode`.
    """
    binding, pcm = library(), bytearray()
    state = binding.decoder.create_state(rate, 1)
    room = ctypes.create_string_buffer(rate * 120 // 1000 * 2)
    try:
        for number, content in enumerate(contents):
            most = len(room) // 2 if content else rate // 50
            samples = binding.decode(state, content, len(content), room, most, 0)
            if samples < 0:
                raise BadBlob(f"packet {number} is not valid Opus")
            pcm += room.raw[: samples * 2]
    finally:
        binding.decoder.destroy(state)
    return bytes(pcm)


def joined(contents: Sequence[bytes]) -> list[tuple[int, int]]:
    """Of each packet that comes out, the number of its first source and how many frames it holds."""
    return [
        (number, packet[1] & 63 if packet[:1] and packet[0] & 3 == 3 else 1)
        for number, packet in repacketized(contained(contents))
    ]


def full_scale(pcm: bytes) -> bool:
    return len(pcm) > 0 and int(np.abs(np.frombuffer(pcm, "<i2").astype(int)).max()) >= 32767


def both_ways(rate: int, loudness: int, bitrate: int | None = None) -> tuple[bytes, bytes]:
    """Speech, a second of silence and speech, decoded in joined packets and one by one."""
    encoder = Encoder(rate, complexity=6, bitrate=bitrate)
    pcm = np.clip(speech_array(5, rate).astype(int) * loudness, -32768, 32767).astype("<i2").tobytes()
    encoder.encode(pcm + bytes(rate * 2) + pcm)
    container = encoder.finish()
    one_by_one = decoded_one_by_one(list(packets(container)), rate)
    return decode(container, sample_rate=rate, samples=len(one_by_one)), one_by_one


@pytest.mark.slow
@pytest.mark.parametrize("rate", SAMPLE_RATES)
@pytest.mark.parametrize("bitrate", [6000, None, 64000])
def test_speech_is_the_same_to_the_bit(rate: int, bitrate: int | None) -> None:
    decoded, one_by_one = both_ways(rate, 1, bitrate)
    assert decoded == one_by_one


@pytest.mark.slow
@pytest.mark.parametrize("rate", SAMPLE_RATES)
def test_speech_that_clips_differs_by_less_than_a_500th(rate: int) -> None:
    decoded, one_by_one = (np.frombuffer(pcm, "<i2").astype(float) for pcm in both_ways(rate, 40))
    assert np.abs(one_by_one).max() >= 32767
    assert np.std(decoded - one_by_one) < np.std(one_by_one) / 500


def test_speech_takes_a_sixth_of_the_calls() -> None:
    encoder = Encoder(16000, complexity=6)
    encoder.encode(speech(12.0))
    assert len(list(repacketized(encoder.finish()))) < 110


def test_packets_of_one_configuration_are_joined_by_six() -> None:
    assert joined([b"\x48a"] * 13) == [(0, 6), (6, 6), (12, 1)]


def test_frames_and_their_sizes_are_laid_out_as_the_rfc_says() -> None:
    contents = [b"\x48" + bytes(size) for size in (3, 252, 1275, 255, 7)]
    ((_, packet),) = repacketized(contained(contents))
    # RFC 6716, 3.2.1: a size of two bytes is the second one times four plus the first.
    assert packet[:9] == bytes((0x4B, 0x85, 3, 252, 0, 255, 255, 255, 0))
    assert len(packet) == 9 + 3 + 252 + 1275 + 255 + 7


def test_what_can_not_be_joined_passes_as_it_is() -> None:
    contents = [
        b"\x48a",
        b"",
        b"\x48a",
        b"\x4ba",
        b"\x40a",
        b"\x40a",
        b"\x48" + bytes(MAX_PACKET_BYTES),
        b"\x48a",
        b"\x4ca",
    ]
    assert list(repacketized(contained(contents))) == list(enumerate(contents))


def test_nothing_is_joined_from_nothing() -> None:
    assert list(repacketized(contained([]))) == []


FRAMES_OF_20_MS = st.builds(
    lambda configuration, stereo, frame: bytes((configuration << 3 | stereo << 2,)) + frame,
    st.sampled_from(CONFIGURATIONS_OF_20_MS),
    st.integers(0, 1),
    st.binary(max_size=60) | st.integers(250, 1276).map(bytes),
)
RUNS = st.lists(st.tuples(FRAMES_OF_20_MS | st.binary(max_size=8), st.integers(1, 14)), max_size=6).map(
    lambda runs: [packet for packet, times in runs for _ in range(times)]
)


@pytest.mark.slow
@given(RUNS, st.sampled_from(SAMPLE_RATES))
@settings(max_examples=300)
def test_hostile_packets_give_the_same_audio_or_the_same_complaint(contents: list[bytes], rate: int) -> None:
    try:
        expected = decoded_one_by_one(contents, rate)
    except BadBlob as refused:
        with pytest.raises(BadBlob, match=str(refused)):
            decode(contained(contents), sample_rate=rate)
    else:
        decoded = decode(contained(contents), sample_rate=rate)
        assert len(decoded) == len(expected)
        assert decoded == expected or full_scale(expected)


@pytest.mark.slow
@given(st.lists(st.binary(max_size=8), min_size=1, max_size=9).map(contained), st.integers(1, 20))
def test_truncation_is_told_as_by_the_container(container: bytes, missing: int) -> None:
    cut = container[:-missing]
    with pytest.raises(BadBlob) as told:
        list(packets(cut))
    with pytest.raises(BadBlob) as refused:
        list(repacketized(cut))
    assert str(refused.value) == str(told.value)
