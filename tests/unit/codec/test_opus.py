from __future__ import annotations

import gc
import math
import platform
import struct
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
import pesq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codec.container import packets, read_header
from codec.entry import SAMPLE_RATES
from codec.errors import BadBlob, EncodingFailed
from codec.libopus import library
from codec.opus import MAX_DECODED_SECONDS, Application, Encoder, decode
from tests.support.speech import speech, speech_array

if TYPE_CHECKING:
    from numpy.typing import NDArray


def encoded(pcm: bytes, rate: int = 16000, *, complexity: int = 7, **options: Any) -> bytes:  # noqa: ANN401 -- those of the encoder
    encoder = Encoder(rate, complexity=complexity, **options)
    encoder.encode(pcm)
    return encoder.finish()


def contained(*contents: bytes, pcm_bytes: int = 0) -> bytes:
    parts = [struct.pack("<H", len(content)) + content for content in contents]
    return struct.pack("<II", len(parts), pcm_bytes) + b"".join(parts)


def round_trip(pcm: bytes, rate: int, application: Application = "audio") -> bytes:
    encoder = Encoder(rate, complexity=7, application=application)
    encoder.encode(pcm)
    pre_skip, samples = encoder.pre_skip, encoder.samples
    return decode(encoder.finish(), sample_rate=rate, pre_skip=pre_skip, samples=samples)


def samples_of(pcm: bytes) -> NDArray[np.float64]:
    return np.frombuffer(pcm, "<i2").astype(np.float64)


def lag(decoded: NDArray[np.float64], source: NDArray[np.float64]) -> int:
    """Samples by which the decoded signal comes late: where the cross-correlation peaks."""
    size = 2 * len(source)
    correlation = np.fft.irfft(np.fft.rfft(decoded, size) * np.conj(np.fft.rfft(source, size)), size)
    peak = int(np.argmax(correlation))
    return peak if peak < len(source) else peak - size


def counted_frees(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    freed: list[object] = []
    destroy = library().encoder.destroy

    def count(state: object) -> None:
        freed.append(state)
        destroy(state)

    monkeypatch.setattr(library().encoder, "destroy", count)
    return freed


def libopus_packet(pcm: bytes, samples: int) -> bytes:
    """One packet of any frame size, by opuslib alone with libopus' default settings."""
    binding = library().encoder
    state = binding.create_state(16000, 1, 2048)
    packet: bytes = binding.encode(state, pcm, samples, 4000)
    binding.destroy(state)
    return packet


def default_container(pcm: bytes) -> bytes:
    """All frames encoded by opuslib alone with libopus' default settings, and two frames of silence after them."""
    binding = library().encoder
    state = binding.create_state(16000, 1, 2048)
    frames = [(pcm + bytes(1280))[start : start + 640] for start in range(0, len(pcm) + 1280, 640)]
    packets = [binding.encode(state, frame.ljust(640, b"\0"), 320, 4000) for frame in frames]
    binding.destroy(state)
    return contained(*packets)


@pytest.mark.slow
@pytest.mark.parametrize("application", get_args(Application))
@pytest.mark.parametrize("rate", SAMPLE_RATES)
def test_recorded_speech_comes_back_complete_and_aligned_to_the_sample(rate: int, application: Application) -> None:
    source = speech_array(20.013, rate)
    decoded = samples_of(round_trip(source.tobytes(), rate, application))
    assert len(decoded) == len(source)
    assert lag(decoded, source.astype(np.float64)) == 0


@pytest.mark.parametrize("rate", SAMPLE_RATES)
def test_last_20_ms_are_not_missing(rate: int) -> None:
    signal = speech_array(10, rate).astype(np.float64)
    frame = rate // 50
    loudness = np.convolve(signal**2, np.ones(frame), "valid")
    end = int(np.argmax(loudness[rate:])) + rate + frame  # the loudest 20 ms after the first second end here
    source = speech_array(10, rate)[:end]
    decoded = samples_of(round_trip(source.tobytes(), rate))
    assert np.corrcoef(decoded[-frame:], source[-frame:])[0, 1] > 0.9


@given(st.sampled_from(SAMPLE_RATES), st.integers(1, 2500))
@settings(max_examples=60)
def test_exactly_the_samples_taken_come_back(rate: int, count: int) -> None:
    assert len(round_trip(speech_array(1, rate)[:count].tobytes(), rate)) == 2 * count


@given(st.sampled_from(SAMPLE_RATES), st.integers(1, 2500))
@settings(max_examples=60)
def test_reader_without_metadata_gets_exactly_the_16_khz_length(rate: int, count: int) -> None:
    container = encoded(speech_array(1, rate)[:count].tobytes(), rate)
    pcm_bytes = count * 16000 // rate * 2
    assert read_header(container).pcm_bytes == pcm_bytes
    assert len(decode(container + b"ignored")) == (pcm_bytes or 640 * read_header(container).packet_count)


def test_decoding_at_another_rate_scales_the_length_of_the_header() -> None:
    container = encoded(speech(1.0))
    assert [len(decode(container, sample_rate=rate)) for rate in SAMPLE_RATES] == [2 * rate for rate in SAMPLE_RATES]


@given(st.lists(st.integers(0, 1500), max_size=40))
@settings(max_examples=25)
def test_pieces_that_end_inside_frames_give_the_same_bytes_as_the_whole(sizes: list[int]) -> None:
    pcm = speech(1.5)
    encoder = Encoder(16000, complexity=0)
    position = 0
    for size in sizes:
        encoder.encode(pcm[position : position + 2 * size])
        position += 2 * size
    encoder.encode(pcm[position:])
    assert encoder.samples == len(pcm) // 2
    assert encoder.finish() == encoded(pcm, complexity=0)


def test_piece_longer_than_the_scratch_memory_gives_the_same_bytes() -> None:
    pcm = speech(12.0, 8000)
    encoder = Encoder(8000, complexity=0)
    for start in range(0, len(pcm), 16000):
        encoder.encode(pcm[start : start + 16000])
    assert encoder.finish() == encoded(pcm, 8000, complexity=0)


def test_silence_is_zero_samples() -> None:
    pcm = speech(0.5)
    encoder = Encoder(16000, complexity=0)
    encoder.encode(pcm)
    encoder.silence(16000 + 77)
    encoder.encode(pcm)
    assert encoder.samples == 2 * 8000 + 16077
    assert encoder.finish() == encoded(pcm + bytes(2 * 16077) + pcm, complexity=0)


def test_long_silence_needs_no_long_buffer() -> None:
    encoder = Encoder(8000, complexity=0)
    tracemalloc.start()
    encoder.silence(60 * 8000)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 300_000


@pytest.mark.slow
def test_different_encoders_in_parallel_threads_do_not_disturb_each_other() -> None:
    pieces = [speech(5.0, offset=5.0 * number) for number in range(8)]
    with ThreadPoolExecutor(4) as threads:
        parallel = list(threads.map(encoded, pieces))
    assert parallel == [encoded(piece) for piece in pieces]


def test_size_grows_with_the_opus_held_and_not_with_the_pcm() -> None:
    encoder = Encoder(16000, complexity=0)
    assert encoder.size == 8
    encoder.encode(speech(1.0))
    assert 1000 < encoder.size < 5000
    held = encoder.size
    assert len(encoder.finish()) > held


def test_no_samples_make_an_empty_container() -> None:
    container = Encoder(16000, complexity=7).finish()
    assert container == bytes(8)
    assert decode(container) == b""


@pytest.mark.parametrize(
    ("rate", "audio", "voip"),
    [(8000, 52, 52), (12000, 78, 78), (16000, 104, 104), (24000, 155, 154), (48000, 310, 309)],
)
def test_pre_skip_is_the_look_ahead_at_the_encoders_rate_less_what_speech_gains(
    rate: int, audio: int, voip: int
) -> None:
    assert Encoder(rate, complexity=7).pre_skip == audio
    assert Encoder(rate, complexity=7, application="voip").pre_skip == voip


@pytest.mark.slow
@pytest.mark.parametrize("rate", SAMPLE_RATES)
def test_audio_follows_the_waveform_which_voip_filters(rate: int) -> None:
    source = speech_array(9.0, rate)

    def signal_to_noise(application: Application) -> float:
        decoded = samples_of(round_trip(source.tobytes(), rate, application))
        return 10 * math.log10(np.sum(np.square(source, dtype=float)) / np.sum((source - decoded) ** 2))

    assert signal_to_noise("audio") > signal_to_noise("voip") + 5
    assert signal_to_noise("audio") > 11


@pytest.mark.parametrize("application", get_args(Application))
def test_voice_is_coded_as_a_voice_whatever_the_application(application: Application) -> None:
    encoder = Encoder(16000, complexity=6, application=application)
    encoder.encode(speech(5))
    modes = {packet[0] >> 3 for packet in packets(encoder.finish())}
    assert modes == {9}  # SILK alone, wide band, 20 ms; CELT begins at 16


@pytest.mark.slow
def test_complexity_6_sounds_as_good_as_the_default_settings_of_libopus() -> None:
    source = speech_array(9.0)

    def quality(container: bytes) -> float:
        decoded = decode(container, pre_skip=104, samples=len(source))
        return float(pesq.pesq(16000, source, np.frombuffer(decoded, "<i2"), "wb"))

    assert quality(encoded(source.tobytes(), complexity=6)) >= quality(default_container(source.tobytes())) - 0.02


def test_bitrate_decides_the_size() -> None:
    seconds = 4.0
    low, high = (len(encoded(speech(seconds), bitrate=bitrate)) for bitrate in (8000, 24000))
    assert low == pytest.approx(8000 / 8 * seconds, rel=0.3)
    assert high == pytest.approx(24000 / 8 * seconds, rel=0.3)


def test_dtx_shrinks_quiet_noise() -> None:
    noise = np.random.default_rng(1).normal(0, 30, 16000 * 5).astype("<i2").tobytes()
    assert len(encoded(noise, complexity=5, dtx=True)) * 2 < len(encoded(noise, complexity=5))


@pytest.mark.parametrize(("complexity", "bitrate"), [(11, None), (-1, None), (7, 0), (7, -5)])
def test_settings_that_libopus_refuses_are_an_error_in_words(complexity: int, bitrate: int | None) -> None:
    with pytest.raises(EncodingFailed, match="refused the encoder's settings: invalid argument"):
        Encoder(16000, complexity=complexity, bitrate=bitrate)


@pytest.mark.parametrize("rate", [0, 44100, -16000])
def test_unsupported_rate_is_an_error_in_words(rate: int) -> None:
    with pytest.raises(EncodingFailed, match="invalid argument"):
        Encoder(rate, complexity=7)


def test_half_a_sample_is_refused_and_changes_nothing() -> None:
    encoder = Encoder(16000, complexity=0)
    with pytest.raises(EncodingFailed, match="3 bytes of PCM do not end at a whole sample"):
        encoder.encode(b"abc")
    assert encoder.samples == 0
    encoder.encode(speech(0.1))
    assert encoder.finish() == encoded(speech(0.1), complexity=0)


def test_frame_that_libopus_refuses_is_an_error_in_words() -> None:
    encoder = Encoder(16000, complexity=0)
    encoder._frame_samples = 321
    with pytest.raises(EncodingFailed, match="libopus refused a frame: invalid argument"):
        encoder.encode(speech(0.1))


def test_closed_encoder_refuses_everything_instead_of_touching_freed_memory() -> None:
    encoder = Encoder(16000, complexity=0)
    encoder.close()
    encoder.close()
    for use in (lambda: encoder.encode(bytes(640)), lambda: encoder.silence(1), encoder.finish):
        with pytest.raises(EncodingFailed, match="closed"):
            use()


@pytest.mark.slow
@pytest.mark.parametrize("ending", ["close", "finish", "forget"])
def test_state_is_freed_exactly_once(ending: str, monkeypatch: pytest.MonkeyPatch) -> None:
    freed = counted_frees(monkeypatch)
    encoder = Encoder(16000, complexity=0)
    if ending == "close":
        encoder.close()
    if ending == "finish":
        encoder.finish()
    del encoder
    gc.collect()
    assert len(freed) == 1


def test_state_is_freed_when_a_setting_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    freed = counted_frees(monkeypatch)
    with pytest.raises(EncodingFailed):
        Encoder(16000, complexity=11)
    gc.collect()
    assert len(freed) == 1


@pytest.mark.parametrize("rate", SAMPLE_RATES)
def test_empty_packet_is_20_ms_of_concealment(rate: int) -> None:
    packet = libopus_packet(speech(0.02), 320)
    assert len(decode(contained(packet, b"", packet), sample_rate=rate)) == 3 * rate // 50 * 2


@pytest.mark.parametrize("milliseconds", [10, 20, 40, 60])
def test_packets_of_other_lengths_are_decoded(milliseconds: int) -> None:
    packet = libopus_packet(speech(0.06), 16 * milliseconds)
    assert len(decode(contained(packet, packet))) == 2 * milliseconds * 32


def test_stored_length_cuts_but_never_pads() -> None:
    packet = libopus_packet(speech(0.02), 320)
    assert len(decode(contained(packet, pcm_bytes=100))) == 100
    assert len(decode(contained(packet, pcm_bytes=641))) == 640
    assert len(decode(contained(packet, pcm_bytes=10**6))) == 640
    assert len(decode(contained(packet), pre_skip=20)) == 600
    assert len(decode(contained(packet, pcm_bytes=640), pre_skip=20, samples=10**9)) == 600
    assert decode(contained(packet), pre_skip=1000) == b""
    assert decode(contained(packet), samples=0) == b""


def test_packet_that_is_not_opus_is_named() -> None:
    packet = libopus_packet(speech(0.02), 320)
    with pytest.raises(BadBlob, match="packet 1 is not valid Opus: corrupted stream"):
        decode(contained(packet, b"\x03"))


def test_truncated_container_is_refused_even_if_enough_was_decoded() -> None:
    container = encoded(speech(0.1))
    with pytest.raises(BadBlob, match="Truncated Opus data: packet"):
        decode(container[:-1], samples=1)


@pytest.mark.parametrize("rate", [0, 44100, -1])
def test_rate_that_opus_does_not_have_is_refused(rate: int) -> None:
    with pytest.raises(BadBlob, match="can't be decoded at"):
        decode(bytes(8), sample_rate=rate)


@pytest.mark.slow
@pytest.mark.parametrize("packet", [b"", b"\x0b\x06"])
def test_small_blob_can_not_become_hours_of_audio(packet: bytes) -> None:
    with pytest.raises(BadBlob, match=f"more than {MAX_DECODED_SECONDS} s"):
        decode(contained(*[packet] * (50 * MAX_DECODED_SECONDS + 1)), sample_rate=8000)


@given(st.lists(st.binary(max_size=30), max_size=10), st.sampled_from(SAMPLE_RATES), st.integers(0, 5000))
def test_arbitrary_packets_are_decoded_or_refused(contents: list[bytes], rate: int, pre_skip: int) -> None:
    try:
        pcm = decode(contained(*contents), sample_rate=rate, pre_skip=pre_skip)
    except BadBlob:
        return
    assert len(pcm) <= len(contents) * rate * 2 * 120 // 1000


def test_last_frame_is_padded_with_silence() -> None:
    pcm = speech(0.5)[:-200]
    assert encoded(pcm + bytes(6400))[8:].startswith(encoded(pcm)[8:])


@pytest.mark.skipif(
    (library().version, platform.machine()) != ("libopus 1.6.1", "x86_64"),
    reason="another libopus makes other packets, and so may another processor",
)
@pytest.mark.parametrize(
    ("complexity", "digest"),
    [
        (0, "a4ec17e6e8b9a7f7"),
        (6, "5e765ee59f106ea8"),
        (9, "f92830811cae0c4d"),
    ],
)
def test_packets_of_libopus_1_6_1_are_these_whoever_has_built_it(complexity: int, digest: str) -> None:
    made = b"".join(packets(encoded(speech(5), complexity=complexity, application="voip")))
    assert sha256(made).hexdigest().startswith(digest)
