"""Dead letters as files: the audio of each, and all its other fields as JSON."""

from __future__ import annotations

import base64
import json
import os
import wave
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from codec.entry import BYTES_PER_SAMPLE, DEFAULT_SAMPLE_RATE
from worker.audio.writing.output import writing
from worker.errors import AudioFileError

if TYPE_CHECKING:
    from worker.stream.inspection.dead_letters import DeadLetter

HIGHEST_RATE = 384_000
"""Hz; no claim above it can be a sample rate."""

OWNER_ONLY = 0o600
"""Mode of the files: they hold audio in clear."""


class LetterFiles:
    """Writes letters into a directory, which must be new or empty; `written` counts them.

    Raises:
        AudioFileError: the directory is not empty, or it or a file can't be written.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.written = 0
        with writing(directory):
            directory.mkdir(parents=True, exist_ok=True)
            if any(directory.iterdir()):
                raise AudioFileError(f"{directory} is not empty: give a new directory, so that no file is overwritten")

    def write(self, letter: DeadLetter, fields: Sequence[tuple[bytes, bytes]]) -> None:
        """Write one letter; `fields` are those of its entry, in their order."""
        stem = f"{letter.partition}-{letter.id}"
        rate = _rate(fields)
        audio: list[str] = []
        for name, value in fields:
            if name == b"pcm" and value:
                suffix = f"-{len(audio) + 1}" if audio else ""
                audio.append(f"{stem}{suffix}{'.wav' if rate else '.pcm'}")
                with self._new(audio[-1]) as file:
                    _write_audio(file, value, rate)
        files = iter(audio)
        told = [
            [_text(name), {"file": next(files)} if name == b"pcm" and value else _text(value)] for name, value in fields
        ]
        document = {"letter": letter.name, "entry": letter.entry, "reason": letter.reason, "fields": told}
        with self._new(f"{stem}.json") as file:
            file.write(json.dumps(document, indent=2).encode() + b"\n")
        self.written += 1

    def _new(self, name: str) -> BinaryIO:
        path = self._directory / name
        with writing(path):
            return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, OWNER_ONLY), "wb")


def _rate(fields: Sequence[tuple[bytes, bytes]]) -> int | None:
    """The sample rate that the entry claims, or the default; None if the claim makes no sense."""
    claims = [value for name, value in fields if name == b"sample_rate"]
    if not claims:
        return DEFAULT_SAMPLE_RATE
    rate = int(claims[0]) if claims[0].isdigit() and len(claims[0]) <= 6 else 0
    return rate if 0 < rate <= HIGHEST_RATE else None


def _write_audio(file: BinaryIO, pcm: bytes, rate: int | None) -> None:
    if rate is None:
        file.write(pcm)
        return
    with wave.open(file, "wb") as wav:
        wav.setparams((1, BYTES_PER_SAMPLE, rate, 0, "NONE", ""))
        wav.writeframes(pcm[: len(pcm) // BYTES_PER_SAMPLE * BYTES_PER_SAMPLE])


def _text(value: bytes) -> str | dict[str, str]:
    """UTF-8 as text, anything else in Base64."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(value).decode()}
