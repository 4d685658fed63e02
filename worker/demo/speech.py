"""Recorded human speech from Debian's packages."""

from __future__ import annotations

import wave
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from worker.errors import AudioFileError

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class SpeechSource:
    """Mono files of `rate` Hz that one package installs."""

    directory: Path
    pattern: str
    rate: int
    package: str


WIDEBAND = SpeechSource(Path("/usr/share/pocketsphinx/test/data/librivox"), "*.wav", 16000, "pocketsphinx-testdata")
"""A reader of "Sense and Sensibility", 25 s."""

NARROWBAND = SpeechSource(
    Path("/usr/share/asterisk/sounds/en_US_f_Allison"), "demo-*.wav", 8000, "asterisk-core-sounds-en-wav"
)
"""Telephone announcements, three minutes."""


@cache
def recording(source: SpeechSource) -> NDArray[np.int16]:
    """All of a source's files, one after the other.

    Raises:
        AudioFileError: the package is not installed, or its files are not mono at the source's rate.
    """
    files = sorted(source.directory.glob(source.pattern))
    if not files:
        raise AudioFileError(
            f"no recorded speech in {source.directory}: apt-get install {source.package}, or run .ci/setup"
        )
    return np.concatenate([_samples(file, source) for file in files])


def _samples(file: Path, source: SpeechSource) -> NDArray[np.int16]:
    with wave.open(str(file)) as wav:
        if (wav.getframerate(), wav.getnchannels(), wav.getsampwidth()) != (source.rate, 1, 2):
            raise AudioFileError(f"{file} is not mono at {source.rate} Hz; it belongs to the package {source.package}")
        return np.frombuffer(wav.readframes(wav.getnframes()), "<i2")
