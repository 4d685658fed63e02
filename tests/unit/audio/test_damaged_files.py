"""All formats, and all ways in which files get damaged: what is whole comes, and what is not is told."""

from __future__ import annotations

import io
import os
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from tests.support.audio_files import DAMAGES, EXACT, KINDS, Kind, audio_file, encoded, mutilated
from tests.support.speech import speech, speech_array
from worker.audio.reading.flaws import ReadReport
from worker.audio.reading.reader import open_audio
from worker.audio.writing.wav import wav_header
from worker.errors import AudioFileError

pytestmark = pytest.mark.slow

SECONDS = 12.0
FRAME_SECONDS = 0.15
"""More than two frames of any lossy format."""

UNCHECKED = ("pcm", "libopencore_amr")
"""Codecs without checksums, in which any bytes are audio."""


def read(path: Path, *, raw_rate: int | None = None) -> tuple[NDArray[np.int16], int, ReadReport]:
    with open_audio(path, raw_rate=raw_rate) as audio:
        pcm = b"".join(audio.chunks(1))
        return np.frombuffer(pcm, "<i2"), audio.sample_rate, audio.report


def read_bytes(tmp_path: Path, data: bytes, name: str = "file") -> tuple[NDArray[np.int16], int, ReadReport]:
    path = tmp_path / name
    path.write_bytes(data)
    return read(path)


def seconds(result: tuple[NDArray[np.int16], int, ReadReport]) -> float:
    return len(result[0]) / result[1]


def alike(one: NDArray[np.int16], other: NDArray[np.int16]) -> bool:
    """Whether two pieces of audio are the same but for a codec."""
    length = min(len(one), len(other))
    return bool(np.corrcoef(one[:length], other[:length])[0, 1] > 0.9)


@contextmanager
def pipe(directory: Path, data: bytes) -> Iterator[Path]:
    """A pipe through which another thread writes."""
    path = directory / "pipe"
    os.mkfifo(path)
    writer = threading.Thread(target=lambda: path.write_bytes(data))
    writer.start()
    yield path
    writer.join()


@pytest.mark.parametrize("kind", KINDS)
def test_whole_files_come_whole_and_without_a_word(tmp_path: Path, kind: str) -> None:
    samples, rate, report = read_bytes(tmp_path, audio_file(kind, SECONDS))

    expected = speech_array(SECONDS, KINDS[kind].rate)
    assert report.flaws == []
    assert rate == KINDS[kind].rate
    if KINDS[kind].codec.startswith(EXACT):
        assert np.array_equal(samples, expected)
    else:
        assert abs(len(samples) / rate - SECONDS) < FRAME_SECONDS
        assert abs(report.seconds - SECONDS) < FRAME_SECONDS


@pytest.mark.parametrize("kind", KINDS)
def test_pipe_gives_what_the_file_gives(tmp_path: Path, kind: str) -> None:
    data = audio_file(kind, SECONDS)
    from_file = read_bytes(tmp_path, data)[0]
    with pipe(tmp_path, data) as path:
        assert np.array_equal(read(path)[0], from_file)


@pytest.mark.parametrize("kind", KINDS)
def test_file_after_file_comes_whole(tmp_path: Path, kind: str) -> None:
    first, second = audio_file(kind, SECONDS), audio_file(kind, 7.0, offset=5)
    result = read_bytes(tmp_path, first + second)

    whole = [read_bytes(tmp_path, data)[0] for data in (first, second)]
    assert result[2].flaws == []
    assert abs(len(result[0]) - sum(map(len, whole))) <= 0.04 * result[1]
    assert alike(result[0][-len(whole[1]) + 8000 :], whole[1][8000:])


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("kind", KINDS)
def test_what_damage_leaves_comes_and_what_it_takes_is_told(tmp_path: Path, kind: str, damage: str) -> None:
    chosen = KINDS[kind]
    data = DAMAGES[damage](audio_file(kind, SECONDS))
    try:
        result = read_bytes(tmp_path, data)
    except AudioFileError as error:
        assert kind == "m4a"  # whose index is behind the audio
        assert "index" in str(error)  # noqa: PT017 -- only that one may be refused
        return

    report = result[2]
    assert seconds(result) > SECONDS * 0.4
    if damage == "cut off":
        assert seconds(result) < SECONDS * 0.6
        assert report.flaws or kind in {"webm of a live recording", "wav without sizes"}  # which promise nothing
    elif not _cannot_tell(kind, damage):
        assert report.flaws
    if chosen.resumes and damage != "cut off" and chosen.container not in {"aiff", "caf", "CAF", "w64"}:
        assert alike(result[0][-2 * result[1] :], read_bytes(tmp_path, audio_file(kind, SECONDS))[0][-2 * result[1] :])


def _cannot_tell(kind: str, damage: str) -> bool:
    """PCM and AMR have no checksums: other bytes are other audio, and without a length any number is right."""
    chosen = KINDS[kind]
    pcm = chosen.codec.lower().startswith(UNCHECKED)
    nothing_lost = chosen.container == "flac" and damage == "inserted"
    return nothing_lost or (pcm and (damage == "overwritten" or not chosen.claims))


@pytest.mark.parametrize("kind", [kind for kind in KINDS if KINDS[kind].claims])
def test_file_that_ends_early_tells_how_much_it_should_have(tmp_path: Path, kind: str) -> None:
    if kind == "m4a":  # refused, see above
        return
    report = read_bytes(tmp_path, DAMAGES["cut off"](audio_file(kind, SECONDS)))[2]
    assert any("header says 12." in str(flaw) or "end mark" in str(flaw) for flaw in report.flaws)


@pytest.mark.parametrize("count", [60, 300, 700, 1500])
@pytest.mark.parametrize("seed", range(4))
def test_random_bytes_in_an_mp3_neither_cut_nor_repeat_it(tmp_path: Path, count: int, seed: int) -> None:
    data = audio_file("mp3 without Xing", SECONDS)
    at = len(data) // 2 + seed * 31
    noise = np.random.default_rng(seed).bytes(count)
    whole = read_bytes(tmp_path, data)[0]

    samples, rate, report = read_bytes(tmp_path, data[:at] + noise + data[at:])

    assert abs(len(samples) - len(whole)) < 0.3 * rate
    assert np.array_equal(samples[: 5 * rate], whole[: 5 * rate])
    assert np.array_equal(samples[-5 * rate :], whole[-5 * rate :])
    (flaw,) = report.flaws
    assert abs(flaw.at - SECONDS / 2) < 0.3


def test_variable_rate_mp3_without_a_count_comes_whole_through_a_pipe(tmp_path: Path) -> None:
    silence, talk = np.zeros(16000 * 15, np.int16), speech_array(15)
    kind = Kind("mp3", "libmp3lame", options={"write_xing": "0", "id3v2_version": "0"})
    data = encoded(silence, kind) + encoded(talk, kind)
    with pipe(tmp_path, data) as path:
        assert seconds(read(path)) == pytest.approx(30, abs=0.3)


@pytest.mark.parametrize("size", [0, 0x7FFFFFFF, 0x7FFFF000, 0x80000000, 0xFFFFFFFF, 0xFFFFFFDB])
@pytest.mark.parametrize("rest", [b"", b"LIST" + struct.pack("<I", 4) + b"INFO"], ids=["", "tags"])
def test_wav_whose_size_was_never_filled_in_is_read_to_its_end(tmp_path: Path, size: int, rest: bytes) -> None:
    header = bytearray(wav_header(16000))
    header[-4:] = struct.pack("<I", size)
    samples, _, report = read_bytes(tmp_path, bytes(header) + speech(4) + rest)
    assert np.array_equal(samples[:64000], speech_array(4))
    assert len(samples) == 64000 + len(rest) // 2
    assert report.flaws == []


def test_wav_that_goes_on_behind_its_size_comes_whole_and_says_so(tmp_path: Path) -> None:
    samples, _, report = read_bytes(tmp_path, wav_header(16000, 64000) + speech(9))
    assert np.array_equal(samples, speech_array(9))
    assert [str(flaw) for flaw in report.flaws] == [
        "at 9.00 s it has 9.000 s of audio, and its header says 2.000 s: all of it was taken"
    ]


def test_wav_that_ends_early_is_told_to_the_sample(tmp_path: Path) -> None:
    report = read_bytes(tmp_path, wav_header(16000, 128002) + speech(4))[2]
    assert "its header says 4.000 s: it ends early" in str(report.flaws[0])
    assert not read_bytes(tmp_path, wav_header(16000, 128000) + speech(4))[2].flaws


@pytest.mark.parametrize("chunk", [b"LIST", b"id3 ", b"bext", b"PEAK", b"junk"])
@pytest.mark.parametrize("length", [4, 7, 300])
def test_chunks_around_the_audio_are_no_audio(tmp_path: Path, chunk: bytes, length: int) -> None:
    tags = chunk + struct.pack("<I", length) + bytes(length + length % 2)
    header = wav_header(16000, 64000)
    samples, _, report = read_bytes(tmp_path, header[:36] + tags + header[36:] + speech(2) + tags)
    assert np.array_equal(samples, speech_array(2))
    assert report.flaws == []


@pytest.mark.parametrize("suffix", ["raw", "pcm", "mp3", "txt", "flac"])
@pytest.mark.parametrize("kind", ["wav", "mp3", "ogg opus", "m4a"])
def test_content_counts_and_not_the_name(tmp_path: Path, kind: str, suffix: str) -> None:
    assert seconds(read_bytes(tmp_path, audio_file(kind, SECONDS), f"a.{suffix}")) == pytest.approx(SECONDS, abs=0.2)


def test_bare_samples_need_their_rate(tmp_path: Path) -> None:
    path = tmp_path / "a.raw"
    path.write_bytes(speech(3, 8000))
    with pytest.raises(AudioFileError, match=r"a\.raw has no known audio format: .*--raw"):
        read(path)
    samples, rate, report = read(path, raw_rate=8000)
    assert (rate, report.flaws) == (8000, [])
    assert np.array_equal(samples, speech_array(3, 8000))


@pytest.mark.parametrize("seed", range(20))
def test_noise_is_no_mp3(tmp_path: Path, seed: int) -> None:
    path = tmp_path / "noise"
    path.write_bytes(np.random.default_rng(seed).bytes(100_000))
    with pytest.raises(AudioFileError, match="no known audio format"):
        read(path)


def test_tags_of_an_mp3_are_no_damage(tmp_path: Path) -> None:
    one = audio_file("mp3 without Xing", SECONDS)
    old_tag = b"TAG" + bytes(125)
    new_tag = b"ID3\x04\x00\x00\x00\x00\x10\x00" + os.urandom(2048)
    ape = b"APETAGEX" + struct.pack("<IIII", 2000, 32, 0, 0) + bytes(8)
    whole = len(read_bytes(tmp_path, one)[0])
    for data, times in ((new_tag + one + old_tag, 1), (one + ape, 1), ((new_tag + one + old_tag) * 3, 3)):
        samples, _, report = read_bytes(tmp_path, data)
        assert report.flaws == []
        assert abs(len(samples) - times * whole) <= times * 600


def ape_tag(size: int) -> bytes:
    """A tag with a cover of random bytes, some of which look like frames."""
    item = struct.pack("<II", size, 2) + b"Cover Art (Front)\0" + np.random.default_rng(size).bytes(size)
    header, footer = (
        b"APETAGEX" + struct.pack("<IIII", 2000, len(item) + 32, 1, flags) + bytes(8)
        for flags in (0xA0000000, 0x80000000)
    )
    return header + item + footer


def lyrics_tag(size: int) -> bytes:
    lyrics = b"LYRICSBEGINLYR" + b"%05d" % size + bytes(size)
    return lyrics + b"%06dLYRICS200" % len(lyrics)


TAGS_BEHIND = {
    "APE": ape_tag(300_000),
    "Lyrics3": lyrics_tag(90_000),
    "Lyrics3, APE and ID3v1": lyrics_tag(9_000) + ape_tag(1_000_000) + b"TAG" + bytes(125),
}


@pytest.mark.parametrize("tag", TAGS_BEHIND)
@pytest.mark.parametrize(
    "kind", ["mp3", "mp3 without Xing", "aac", "flac", "ogg opus", "wav", "w64", "aiff", "au", "caf"]
)
def test_large_tags_behind_the_audio_are_neither_audio_nor_a_flaw(tmp_path: Path, kind: str, tag: str) -> None:
    one = audio_file(kind, 3)
    whole = read_bytes(tmp_path, one)[0]
    for times in (1, 2):
        samples, rate, report = read_bytes(tmp_path, (one + TAGS_BEHIND[tag]) * times)
        assert report.flaws == []
        assert abs(len(samples) - times * len(whole)) <= times * 0.04 * rate


@pytest.mark.parametrize("kept", [None, -1000], ids=["whole", "cut off"])
@pytest.mark.parametrize("place", ["before", "behind"])
@pytest.mark.parametrize("name", [b"LIST", b"vend"])
def test_chunk_of_more_than_16_mb_is_no_audio(tmp_path: Path, name: bytes, place: str, kept: int | None) -> None:
    size = 17 * 1024 * 1024
    chunk = name + struct.pack("<I", size) + np.random.default_rng(1).bytes(size)
    head, audio = wav_header(16000, 64000), speech(2)
    data = bytearray(head[:36] + chunk + head[36:] + audio if place == "before" else head + audio + chunk[:kept])
    struct.pack_into("<I", data, 4, len(head + audio + chunk) - 8)
    samples, _, report = read_bytes(tmp_path, bytes(data))
    assert np.array_equal(samples, speech_array(2))
    assert report.flaws == []


def test_caf_without_a_length_and_with_any_chunks_around_is_read_to_its_end(tmp_path: Path) -> None:
    def chunk(name: bytes, content: bytes, size: int | None = None) -> bytes:
        return name + struct.pack(">q", len(content) if size is None else size) + content

    facts = chunk(b"desc", struct.pack(">d4sIIIII", 16000, b"lpcm", 2, 2, 1, 1, 16))  # little-endian
    head = b"caff\x00\x01\x00\x00" + facts + chunk(b"free", bytes(5000)) + chunk(b"what", b"data" * 9)
    audio = bytes(4) + speech(2)
    behind = chunk(b"info", b"x" * 100_000) + chunk(b"peak", bytes(16))
    for data in (head + chunk(b"data", audio) + behind, head + chunk(b"data", audio, -1)):
        samples, _, report = read_bytes(tmp_path, data)
        assert np.array_equal(samples, speech_array(2))
        assert report.flaws == []


def test_tags_in_any_coding_are_no_hindrance(tmp_path: Path) -> None:
    data = audio_file("flac", SECONDS)
    vendor = data.index(b"Lavf")
    samples, _, report = read_bytes(tmp_path, data[:vendor] + b"\xe4\xf6\xff\xfe" + data[vendor + 4 :])
    assert len(samples) == SECONDS * 16000
    assert report.flaws == []


def test_parts_of_other_rates_and_channels_follow_at_the_first_ones_rate(tmp_path: Path) -> None:
    first, second = audio_file("flac", 3.0), encoded(speech_array(4, 8000), Kind("flac", "flac", 8000))
    result = read_bytes(tmp_path, first + second)
    assert result[1:] == (16000, result[2])
    assert len(result[0]) == 7 * 16000
    assert result[2].flaws == []


def test_next_part_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    broken = audio_file("flac", 3.0)[:20]
    result = read_bytes(tmp_path, audio_file("flac", 3.0) + broken)
    assert seconds(result) == 3
    assert "at 3.00 s the next part of it can't be decoded as flac" in str(result[2].flaws[0])


def test_opposite_channels_are_no_silence_and_are_told(tmp_path: Path) -> None:
    left = speech_array(4)
    header = bytearray(wav_header(16000))
    struct.pack_into("<HIIH", header, 22, 2, 16000, 64000, 4)
    data = np.column_stack([left, -left.clip(-32767)]).astype("<i2").tobytes()
    samples, _, report = read_bytes(tmp_path, bytes(header) + data)
    assert np.array_equal(samples, left) or np.array_equal(samples, -left)
    assert report.complete
    assert report.cancelled == pytest.approx(4, abs=2)
    assert "left = -right" in list(report.lines())[-1]


@pytest.mark.parametrize("kind", KINDS)
def test_any_damage_at_all_is_survived(tmp_path: Path, kind: str) -> None:
    for seed in range(12):
        data = mutilated(audio_file(kind, 3.0), seed)
        try:
            result = read_bytes(tmp_path, data)
        except AudioFileError as error:
            assert "file" in str(error)  # noqa: PT017 -- any sentence that names the file will do
        else:
            assert seconds(result) < 60


def test_time_that_cannot_be_right_puts_no_hours_of_silence_there(tmp_path: Path) -> None:
    kind = KINDS["webm of a live recording"]
    first = encoded(speech_array(3, 48000), kind)
    clusters = [at for at in range(len(first)) if first.startswith(b"\x1f\x43\xb6\x75", at)]
    damaged = bytearray(first)
    time = damaged.index(b"\xe7", clusters[-1])
    length = damaged[time + 1] & 0x7F
    damaged[time + 2 : time + 2 + length] = b"\x7f" * length
    wide = b"\xe7\x84\x7f\xff\xff\xff"
    result = read_bytes(tmp_path, bytes(damaged[:time]) + wide + bytes(damaged[time + 2 + length :]))
    assert seconds(result) < 4
    assert any("not believed" in str(flaw) for flaw in result[2].flaws)


def test_other_tracks_are_told_of(tmp_path: Path) -> None:
    file = io.BytesIO()
    with av.open(file, "w", "matroska") as container:
        streams = [container.add_stream("flac", rate=16000) for _ in range(2)]
        for stream in streams:
            stream.layout = "mono"
        frame = av.AudioFrame.from_ndarray(speech_array(0.25).reshape(1, -1), format="s16", layout="mono")
        frame.sample_rate, frame.pts = 16000, 0
        for stream in streams:
            container.mux([*stream.encode(frame), *stream.encode(None)])
    samples, _, report = read_bytes(tmp_path, file.getvalue())
    assert np.array_equal(samples, speech_array(0.25))
    assert "1 more audio track: only the first was taken" in str(report.flaws[0])


def test_many_flaws_are_counted_and_only_the_first_told(tmp_path: Path) -> None:
    data = bytearray(audio_file("aac", SECONDS))
    for at in range(5000, len(data) - 2000, 2500):
        data[at : at + 700] = bytes(700)
    lines = list(read_bytes(tmp_path, bytes(data))[2].lines())
    assert len(lines) == 11
    assert lines[-1].startswith("and ")


FOLLOWERS = ("mp3", "mp3 without Xing", "flac", "ogg opus", "wav", "webm", "m4a", "aac")


@pytest.mark.parametrize("follower", FOLLOWERS)
@pytest.mark.parametrize(
    "kind", ["flac", "flac of unknown length", "ogg opus", "ogg vorbis", "matroska", "webm", "m4a"]
)
def test_file_of_another_format_behind_it_comes_or_is_told(tmp_path: Path, kind: str, follower: str) -> None:
    result = read_bytes(tmp_path, audio_file(kind, 3) + audio_file(follower, 3, offset=5))
    assert seconds(result) > 5.8 or any("follow" in str(flaw) for flaw in result[2].flaws)


@pytest.mark.parametrize("kind", ["flac", "ogg opus", "m4a", "mp3 without Xing"])
def test_zeros_behind_the_audio_hide_none(tmp_path: Path, kind: str) -> None:
    assert seconds(read_bytes(tmp_path, audio_file(kind, 3) + bytes(100_000))) == pytest.approx(3, abs=FRAME_SECONDS)


@pytest.mark.parametrize("kind", ["flac", "flac of unknown length", "ogg opus", "ogg vorbis"])
def test_tag_of_another_program_at_the_end_is_no_flaw(tmp_path: Path, kind: str) -> None:
    assert read_bytes(tmp_path, audio_file(kind, 3) + b"TAG" + b"x" * 125)[2].flaws == []


@pytest.mark.parametrize("kind", [kind for kind in KINDS if not KINDS[kind].codec.lower().startswith(UNCHECKED)])
@pytest.mark.parametrize("place", [0.5, 0.7])
def test_zeros_in_the_place_of_audio_are_told(tmp_path: Path, kind: str, place: float) -> None:
    data = bytearray(audio_file(kind, 3))
    hole = slice(int(len(data) * place), int(len(data) * (place + 0.25)))
    data[hole] = bytes(hole.stop - hole.start)
    assert read_bytes(tmp_path, bytes(data))[2].flaws


@pytest.mark.parametrize("bits", [8, 16, 24])
def test_padding_of_odd_audio_is_neither_audio_nor_a_flaw(tmp_path: Path, bits: int) -> None:
    frame = bits // 8
    audio = bytes(8001 * frame) if frame % 2 else bytes(16000)
    facts = struct.pack("<HHIIHH", 1, 1, 8000, 8000 * frame, frame, bits)
    chunks = b"WAVEfmt " + struct.pack("<I", 16) + facts + b"data" + struct.pack("<I", len(audio)) + audio
    padded = chunks + bytes(len(audio) % 2)
    samples, _, report = read_bytes(tmp_path, b"RIFF" + struct.pack("<I", len(padded)) + padded)
    assert report.flaws == []
    assert len(samples) == len(audio) // frame


def test_odd_chunk_without_its_padding_keeps_nobody_from_the_audio(tmp_path: Path) -> None:
    header, tags = wav_header(16000, 64000), b"LIST" + struct.pack("<I", 7) + b"INFOabc"
    samples, _, report = read_bytes(tmp_path, header[:36] + tags + header[36:] + speech(2))
    assert np.array_equal(samples, speech_array(2))
    assert report.flaws == []
