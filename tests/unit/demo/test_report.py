"""The report: what it holds is the audio, its pictures show it, and names of others are only text."""

from __future__ import annotations

import base64
import re
import zlib
from typing import TYPE_CHECKING

import numpy as np

from tests.support.speech import speech
from worker.demo.pictures import ANCHORS, COLUMNS, ROWS, spectrogram, waveform
from worker.demo.report import HEARD_SECONDS, HeardAudio, write_report

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

RATE = 16000


def pixels(picture: bytes) -> NDArray[np.uint8]:
    """The numbers of the colours in a PNG of ours, row by row."""
    data, place = b"", 8
    while place < len(picture):
        size, kind = int.from_bytes(picture[place : place + 4], "big"), picture[place + 4 : place + 8]
        content = picture[place + 8 : place + 8 + size]
        assert int.from_bytes(picture[place + 8 + size : place + 12 + size], "big") == zlib.crc32(kind + content)
        data += content if kind == b"IDAT" else b""
        place += 12 + size
    rows = np.frombuffer(zlib.decompress(data), np.uint8).reshape(ROWS, COLUMNS + 1)
    return rows[:, 1:]


def test_a_tone_is_a_bright_line_at_its_frequency_while_it_sounds() -> None:
    tone = (np.sin(2 * np.pi * 2000 * np.arange(RATE) / RATE) * 16000).astype("<i2").tobytes()
    picture = pixels(spectrogram(tone + bytes(2 * RATE)))

    assert abs(int(picture[:, 100].argmax()) - ROWS * 3 // 4) <= 1  # 2 kHz of 8 kHz, from below
    assert picture[:, 100].max() > 230
    assert picture[:, COLUMNS - 100].max() == 0
    assert len(ANCHORS) > 2


def test_audio_shorter_than_a_spectrum_has_a_picture_too() -> None:
    for samples in (0, 1, 511, 513):
        assert pixels(spectrogram(bytes(2 * samples))).shape == (ROWS, COLUMNS)


def test_a_waveform_is_as_high_as_the_audio_is_loud() -> None:
    points = waveform(bytes(2 * 800) + b"\x00\x80" * 800, RATE).split()
    assert points == ["0,128", "1,0", "1,256", "0,128"]


def test_the_report_holds_the_audio_itself_and_only_text_of_others(tmp_path: Path) -> None:
    pcm = speech(HEARD_SECONDS + 5)
    audio = HeardAudio("<img src=x onerror=alert(1)>", RATE, pcm, pcm)
    write_report(tmp_path / "report.html", [audio], {"quality": ['"&<b>']})
    text = (tmp_path / "report.html").read_text()

    assert "<img src=x" not in text
    assert "&quot;&amp;&lt;b&gt;" in text
    original, decoded = (base64.b64decode(each) for each in re.findall(r"data:audio/wav;base64,([^\"]+)", text))
    assert original == decoded
    assert original[44:] == pcm[: round(HEARD_SECONDS * RATE) * 2]
    assert not re.search(r"https?://(?!www.w3.org)", text)
