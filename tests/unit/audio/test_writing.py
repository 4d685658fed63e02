"""Files that are whole or absent."""

from __future__ import annotations

import re
import wave
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.speech import speech
from worker.audio.writing import wav
from worker.audio.writing.output import open_output
from worker.errors import AudioFileError


@contextmanager
def write_wav(path: Path, rate: int) -> Iterator[Callable[[bytes], object]]:
    with open_output(path) as file, wav.wav_writer(file, path, rate) as append:
        yield append


def _export(path: Path, parts: Iterable[bytes]) -> None:
    with write_wav(path, 16000) as write:
        for part in parts:
            write(part)


def _interrupted() -> Iterator[bytes]:
    yield speech(1)
    raise TimeoutError


def test_a_written_wav_holds_exactly_what_was_appended(tmp_path: Path) -> None:
    path = tmp_path / "out.wav"
    with write_wav(path, 24000) as write:
        write(speech(1, 24000))
        write(speech(2, 24000, offset=1))
    with wave.open(str(path)) as file:
        assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (24000, 1, 2)
        assert file.readframes(file.getnframes()) == speech(3, 24000)


def test_an_interrupted_export_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "out.wav"
    path.write_bytes(b"old")
    with pytest.raises(TimeoutError):
        _export(path, _interrupted())
    assert [found.read_bytes() for found in tmp_path.iterdir()] == [b"old"]


def test_a_place_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(AudioFileError, match="can't be written: "):
        _export(tmp_path / "no" / "out.wav", [])


def test_name_of_the_greatest_length_is_written_and_a_longer_one_is_one_sentence(tmp_path: Path) -> None:
    _export(tmp_path / f"{'ü' * 125}x.wav", [speech(0.1)])
    with pytest.raises(AudioFileError, match="can't be written: File name too long"):
        _export(tmp_path / f"{'ü' * 126}x.wav", [speech(0.1)])
    assert len(list(tmp_path.iterdir())) == 1


def test_file_that_only_looks_unfinished_is_nobodys_business(tmp_path: Path) -> None:
    mine = tmp_path / "out.wav.part"
    mine.write_bytes(b"mine")

    _export(tmp_path / "out.wav", [speech(0.1)])
    with pytest.raises(TimeoutError):
        _export(tmp_path / "out.wav", _interrupted())

    assert mine.read_bytes() == b"mine"
    assert len(list(tmp_path.iterdir())) == 2


def test_unfinished_file_tells_whose_it_is(tmp_path: Path) -> None:
    with write_wav(tmp_path / "out.wav", 16000):
        (unfinished,) = tmp_path.iterdir()
        assert re.fullmatch(r"out\.wav\.[0-9a-f]{8}\.part", unfinished.name)


def test_link_is_followed(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    link = tmp_path / "out.wav"
    link.symlink_to("elsewhere/real.wav")

    _export(link, [speech(0.1)])

    assert link.is_symlink()
    assert (tmp_path / "elsewhere/real.wav").stat().st_size == 44 + 3200


def test_link_that_leads_nowhere_is_one_sentence(tmp_path: Path) -> None:
    link = tmp_path / "out.wav"
    link.symlink_to(link)
    with pytest.raises(AudioFileError, match="Too many levels"):
        _export(link, [])


def test_a_wav_never_outgrows_its_header(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wav, "MAX_WAV_BYTES", 64000)
    with pytest.raises(AudioFileError, match=r"4 GiB a WAV can hold: name it \.flac or \.pcm, take a lower --rate"):
        _export(tmp_path / "out.wav", [speech(2), speech(0.1)])
