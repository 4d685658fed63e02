"""What recorders and other programs do with containers: sizes never filled in, tables at the end, tags, pauses."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.support.audio_files import Kind, audio_file, encoded
from tests.support.speech import speech_array
from worker.audio.reading.flaws import ReadReport
from worker.audio.reading.reader import open_audio
from worker.errors import AudioFileError

AMR_BYTES = (13, 14, 16, 18, 20, 21, 27, 32)
"""A frame of each type of speech, its header included (RFC 4867)."""

AMR_FRAME = 160


def read(tmp_path: Path, data: bytes) -> tuple[NDArray[np.int16], ReadReport]:
    path = tmp_path / "file"
    path.write_bytes(data)
    with open_audio(path) as audio:
        return np.frombuffer(b"".join(audio.chunks(1)), "<i2"), audio.report


def sized(kind: str, *sizes: tuple[bytes, int, str, int]) -> bytes:
    """A file whose sizes are others: each is the mark before it, bytes from that mark, its format and its value."""
    data = bytearray(audio_file(kind, 2))
    for mark, offset, layout, size in sizes:
        struct.pack_into(layout, data, data.index(mark) + offset, size)
    return bytes(data)


W64_AUDIO = b"data\xf3\xac\xd3\x11"
UNFINISHED: dict[str, list[tuple[tuple[bytes, int, str, int], ...]]] = {
    "aiff": [
        (form, audio)
        for form in ((b"FORM", 4, ">I", 0), (b"FORM", 4, ">I", 46), (b"FORM", 4, ">I", 0xFFFFFFFF))
        for audio in ((b"SSND", 4, ">I", 0), (b"SSND", 4, ">I", 8), (b"SSND", 4, ">I", 0xFFFFFFFF))
    ],
    "w64": [
        ((b"riff", 16, "<Q", whole), (W64_AUDIO, 16, "<Q", audio))
        for whole in (0, 0xFFFFFFFFFFFFFFFF)
        for audio in (0, 24, 0x7FFFFFFFFFFFFFFF, 0xFFFFFFFFFFFFFFFF)
    ],
    "au": [((b".snd", 8, ">I", audio),) for audio in (0, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)],
    "caf": [((b"data", 4, ">q", audio),) for audio in (0, 4, -1, 0x7FFFFFFFFFFFFFFF)],
}


@pytest.mark.parametrize("kind", UNFINISHED)
def test_sizes_that_were_never_filled_in_hide_no_audio(tmp_path: Path, kind: str) -> None:
    for sizes in UNFINISHED[kind]:
        samples, report = read(tmp_path, sized(kind, *sizes))
        assert np.array_equal(samples, speech_array(2)), sizes
        assert report.flaws == [], sizes


def test_file_without_a_sample_stays_one_though_its_size_is_0(tmp_path: Path) -> None:
    data = sized("aiff", (b"SSND", 4, ">I", 8))
    with pytest.raises(AudioFileError, match="no audio"):
        read(tmp_path, data[: data.index(b"SSND") + 16])


@pytest.mark.parametrize("times", [1, 2])
def test_caf_whose_packet_table_comes_last_comes_whole(tmp_path: Path, times: int) -> None:
    late = encoded(speech_array(3), Kind("caf", "alac"))
    assert late.index(b"pakt") > late.index(b"data")
    samples, report = read(tmp_path, late * times)
    assert np.array_equal(samples, np.tile(speech_array(3), times))
    assert report.flaws == []


def test_caf_that_ends_before_its_packet_table_is_refused_in_words(tmp_path: Path) -> None:
    late = encoded(speech_array(3), Kind("caf", "alac"))
    with pytest.raises(AudioFileError, match="packet table"):
        read(tmp_path, late[: late.index(b"pakt")])


@pytest.mark.parametrize(
    "kind", ["m4a", "fragmented mp4", "w64", "aiff", "au", "caf", "wav", "flac", "ogg opus", "webm"]
)
def test_tag_in_front_of_any_format_is_passed_over(tmp_path: Path, kind: str) -> None:
    tag = b"ID3\x03\x00\x00\x00\x00\x07\x76" + bytes(1014)
    whole, _ = read(tmp_path, audio_file(kind, 2))
    for front in (tag, tag * 2):
        samples, report = read(tmp_path, front + audio_file(kind, 2))
        assert np.array_equal(samples, whole)
        assert report.flaws == []


@pytest.mark.parametrize(
    "front", [bytes(5000), b"HTTP/1.1 200 OK\r\nContent-Type: audio/mpeg\r\n\r\n", b"\xef\xbb\xbf"]
)
def test_other_bytes_before_an_mp3_hide_no_audio_and_are_told(tmp_path: Path, front: bytes) -> None:
    whole, _ = read(tmp_path, audio_file("mp3", 2))
    samples, report = read(tmp_path, front + audio_file("mp3", 2))
    assert np.array_equal(samples, whole)
    assert "the first part of it can't be decoded" in str(report.flaws[0])


def test_first_part_that_cannot_be_decoded_does_not_hide_the_next(tmp_path: Path) -> None:
    samples, report = read(tmp_path, audio_file("flac", 2)[:20] + audio_file("flac", 2))
    assert np.array_equal(samples, speech_array(2))
    assert len(report.flaws) == 1


def test_pauses_in_amr_are_silence_and_no_flaw(tmp_path: Path) -> None:
    frames = amr_frames(audio_file("amr", 3))
    pause = b"\x44\xf2\xc4\x00\x00\x00" + 7 * b"\x7c"  # a description of the noise, then frames without data
    middle = len(frames) // 2
    recording = b"".join([b"#!AMR\n", *frames[:middle], pause, *frames[middle:], pause])
    samples, report = read(tmp_path, recording)

    assert report.flaws == []
    assert len(samples) == (len(frames) + 2 * 8) * AMR_FRAME
    assert samples[: middle * AMR_FRAME].any()
    assert not samples[middle * AMR_FRAME : (middle + 8) * AMR_FRAME].any()
    assert not samples[-8 * AMR_FRAME :].any()


def amr_frames(data: bytes) -> list[bytes]:
    frames, place = [], len(b"#!AMR\n")
    while place < len(data):
        size = AMR_BYTES[data[place] >> 3 & 15]
        frames.append(data[place : place + size])
        place += size
    return frames
