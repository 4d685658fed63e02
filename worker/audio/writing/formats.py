"""The formats that recordings are written in, and the names of files that ask for them."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path

from worker.audio.writing.output import STANDARD_OUTPUT
from worker.errors import AudioFileError


class AudioFormat(StrEnum):
    """A format. `OPUS` is Ogg Opus (RFC 7845), `PCM` are bare s16le samples."""

    WAV = "wav"
    PCM = "pcm"
    FLAC = "flac"
    MP3 = "mp3"
    OPUS = "opus"


SUFFIXES = {
    ".wav": AudioFormat.WAV,
    "": AudioFormat.WAV,
    ".pcm": AudioFormat.PCM,
    ".raw": AudioFormat.PCM,
    ".flac": AudioFormat.FLAC,
    ".mp3": AudioFormat.MP3,
    ".opus": AudioFormat.OPUS,
    ".ogg": AudioFormat.OPUS,
    ".oga": AudioFormat.OPUS,
}


def promised_format(path: Path) -> AudioFormat:
    """The format that a file's name promises; WAV for standard output and for a name without a suffix.

    Raises:
        AudioFileError: it promises a format that can't be written.
    """
    found = SUFFIXES.get("" if str(path) == STANDARD_OUTPUT else path.suffix.lower())
    if found is None:
        *others, last = [suffix for suffix in SUFFIXES if suffix]
        raise AudioFileError(
            f"{path} promises another format: give a name that ends with {', '.join(others)} or {last}"
        )
    return found
