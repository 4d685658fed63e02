"""Recorded human speech: a reader, who is part of this package, and a telephone, which a package of Debian brings."""

from __future__ import annotations

import wave
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import soxr

from worker.audio.reading.reader import open_audio
from worker.errors import AudioFileError

if TYPE_CHECKING:
    from numpy.typing import NDArray

READER_RATE = 16000
READER = Path(__file__).with_name("reader.flac")
"""25 s of Jane Austen's "Sense and Sensibility", chapter 1, as a volunteer of LibriVox reads it: in the public domain.

These are the sentences that CMU Sphinx cut from it for its tests, one after the other.
"""


@dataclass(frozen=True, slots=True)
class SpeechSource:
    """Mono files of `rate` Hz in `directory`; where there are none, the reader at that rate."""

    rate: int
    directory: Path | None = None
    pattern: str = "*.wav"


WIDEBAND = SpeechSource(READER_RATE)
"""The reader."""

NARROWBAND = SpeechSource(8000, Path("/usr/share/asterisk/sounds/en_US_f_Allison"), "demo-*.wav")
"""Telephone announcements, three minutes, where Debian's package asterisk-core-sounds-en-wav is installed."""


@cache
def recording(source: SpeechSource) -> NDArray[np.int16]:
    """All of a source's files, one after the other.

    Raises:
        AudioFileError: its files are not mono at the source's rate.
    """
    files = sorted(source.directory.glob(source.pattern)) if source.directory else []
    return np.concatenate([_samples(file, source.rate) for file in files]) if files else _reader(source.rate)


def _samples(file: Path, rate: int) -> NDArray[np.int16]:
    with wave.open(str(file)) as wav:
        if (wav.getframerate(), wav.getnchannels(), wav.getsampwidth()) != (rate, 1, 2):
            raise AudioFileError(f"{file} is not mono at {rate} Hz")
        return np.frombuffer(wav.readframes(wav.getnframes()), "<i2")


def _reader(rate: int) -> NDArray[np.int16]:
    with open_audio(READER) as audio:
        samples: NDArray[np.int16] = np.frombuffer(b"".join(audio.chunks(1.0)), "<i2")
    if rate != READER_RATE:
        samples = soxr.resample(samples, READER_RATE, rate)
    return samples
