"""Files of every kind in, PCM of a supported rate out."""

from __future__ import annotations

import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from tests.support.paths import ROOT
from tests.support.speech import speech_array
from worker.audio.reading.reader import open_audio
from worker.audio.writing.wav import wav_header
from worker.errors import AudioFileError


def read(path: Path, chunk_seconds: float = 5) -> tuple[int, list[bytes]]:
    with open_audio(path) as audio:
        return audio.sample_rate, list(audio.chunks(chunk_seconds))


def _pcm(path: Path, chunk_seconds: float = 5) -> NDArray[np.int16]:
    return np.frombuffer(b"".join(read(path, chunk_seconds)[1]), "<i2")


def _tone(seconds: float, rate: int) -> NDArray[np.float64]:
    return 0.5 * np.sin(2 * np.pi * 440 * np.arange(round(seconds * rate)) / rate)


def _loudness(samples: NDArray[np.float64] | NDArray[np.int16]) -> float:
    return float(np.sqrt(np.mean(np.square(samples.astype(np.float64)))))


@pytest.mark.parametrize("rate", [8000, 12000, 16000, 24000, 48000])
@pytest.mark.parametrize("suffix", ["wav", "flac"])
def test_16_bit_mono_at_a_supported_rate_comes_back_bit_by_bit(tmp_path: Path, rate: int, suffix: str) -> None:
    path = tmp_path / f"speech.{suffix}"
    samples = speech_array(7.3, rate)
    samples[:2] = (-32768, 32767)
    soundfile.write(path, samples, rate, subtype="PCM_16")
    with open_audio(path) as audio:
        assert (audio.sample_rate, audio.source_rate, audio.channels, audio.report.claimed) == (rate, rate, 1, 7.3)
    assert np.array_equal(_pcm(path), samples)


def test_chunks_have_equal_length_but_the_last(tmp_path: Path) -> None:
    path = tmp_path / "speech.wav"
    soundfile.write(path, speech_array(12.5), 16000)
    assert [len(chunk) / 32000 for chunk in read(path, 5)[1]] == [5, 5, 2.5]


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE"])
@pytest.mark.parametrize("channels", [1, 2])
def test_every_wav_subtype_keeps_its_loudness(tmp_path: Path, subtype: str, channels: int) -> None:
    path = tmp_path / "tone.wav"
    tone = _tone(2, 16000)
    soundfile.write(path, np.column_stack([tone] * channels), 16000, subtype=subtype)
    tolerance = 256 if subtype == "PCM_U8" else 1
    assert np.max(np.abs(_pcm(path) - tone * 32768)) <= tolerance


def test_channels_are_averaged(tmp_path: Path) -> None:
    path = tmp_path / "stereo.wav"
    left, right = speech_array(3), speech_array(3, offset=9)
    soundfile.write(path, np.column_stack([left, right]), 16000)
    assert np.max(np.abs(_pcm(path) - (left / 2 + right / 2))) <= 0.5


@pytest.mark.parametrize(
    ("source", "target"),
    [(6000, 8000), (11025, 12000), (22050, 24000), (32000, 48000), (44100, 48000), (96000, 48000)],
)
def test_other_rates_become_the_next_higher_supported_one(tmp_path: Path, source: int, target: int) -> None:
    path = tmp_path / "tone.wav"
    soundfile.write(path, _tone(3, source), source)
    samples = _pcm(path)
    assert read(path)[0] == target
    assert abs(len(samples) - 3 * target) <= 1
    middle = slice(target, 2 * target)
    assert np.max(np.abs(samples[middle] - _tone(3, target)[middle] * 32768)) < 40


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "subtype"), [("a.flac", "PCM_24"), ("a.mp3", None), ("a.ogg", "VORBIS"), ("a.opus", None)]
)
def test_compressed_files_are_read(tmp_path: Path, name: str, subtype: str | None) -> None:
    path = tmp_path / name
    container = "OGG" if name.endswith(".opus") else None
    codec = "OPUS" if container else subtype
    soundfile.write(path, speech_array(6, 24000), 24000, format=container, subtype=codec)
    samples = _pcm(path)
    rate = read(path)[0]
    assert abs(len(samples) / rate - 6) < 0.1
    assert _loudness(samples) == pytest.approx(_loudness(speech_array(6, 24000)), rel=0.1)


def test_too_loud_and_impossible_floats_are_limited(tmp_path: Path) -> None:
    path = tmp_path / "loud.wav"
    values = np.array([2.0, -2.0, np.inf, -np.inf, np.nan, 1.0], np.float32)
    soundfile.write(path, values, 16000, subtype="FLOAT")
    assert _pcm(path).tolist() == [32767, -32768, 32767, -32768, 0, 32767]


@pytest.mark.slow
def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    path = tmp_path / "long.wav"
    soundfile.write(path, speech_array(600, 44100), 44100)
    tracemalloc.start()
    with open_audio(path) as audio:
        for _ in audio.chunks(1):
            pass
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 * 1024 * 1024 < path.stat().st_size / 6


@pytest.mark.parametrize("content", [b"", b"no audio at all, just some text\n" * 99, b"RIFF\xff\xff\xff\xffWAVE"])
def test_what_is_no_audio_file_is_one_sentence_that_names_it(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "notes.wav"
    path.write_bytes(content)
    with pytest.raises(AudioFileError, match=r"notes\.wav"):
        read(path)


@pytest.mark.parametrize("name", ["missing.wav", "."])
def test_a_missing_file_and_a_directory_are_told_apart_from_bad_audio(tmp_path: Path, name: str) -> None:
    with pytest.raises(AudioFileError, match="can't be read: "):
        read(tmp_path / name)


def test_a_file_without_a_single_sample_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "empty.wav"
    path.write_bytes(wav_header(16000, 0))
    with pytest.raises(AudioFileError, match="holds no audio"):
        read(path)


def test_a_recording_cut_off_by_a_crash_is_read_to_its_end(tmp_path: Path) -> None:
    path = tmp_path / "cut.wav"
    soundfile.write(path, speech_array(4), 16000)
    path.write_bytes(path.read_bytes()[:-32001])
    assert np.array_equal(_pcm(path), speech_array(4)[: len(_pcm(path))])
    assert len(_pcm(path)) == 3 * 16000 - 1


def test_a_chunk_shorter_than_a_sample_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "speech.wav"
    soundfile.write(path, speech_array(1), 16000)
    with pytest.raises(ValueError, match="holds no sample"):
        read(path, 0)


@pytest.mark.slow
def test_worker_never_loads_ffmpeg() -> None:
    loaded = "import sys, worker.app, worker.cli, worker.archive; print('av' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", loaded], cwd=ROOT, text=True) == "False\n"
