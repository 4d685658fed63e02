"""The audio that the demo pushes: three conversations of recorded speech, or the user's own file."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from codec.entry import BYTES_PER_SAMPLE, DEFAULT_PROTECTION, Protection
from worker.audio.reading.reader import open_audio
from worker.demo.speech import NARROWBAND, WIDEBAND, SpeechSource, recording

SECONDS = 120
CHUNK_SECONDS = 5


@dataclass(frozen=True, slots=True)
class DemoRecording:
    """A conversation as a pusher has it: s16le mono PCM at `sample_rate` Hz."""

    conversation_id: str
    pcm: bytes
    sample_rate: int
    protection: Protection = DEFAULT_PROTECTION

    @property
    def samples(self) -> int:
        """Its length in samples."""
        return len(self.pcm) // BYTES_PER_SAMPLE

    @property
    def seconds(self) -> float:
        """Its length in seconds."""
        return self.samples / self.sample_rate

    def chunks(self) -> Iterator[tuple[float, bytes]]:
        """Its chunks, each with the seconds since the beginning."""
        size = CHUNK_SECONDS * self.sample_rate * BYTES_PER_SAMPLE
        for number, first in enumerate(range(0, len(self.pcm), size)):
            yield float(number * CHUNK_SECONDS), self.pcm[first : first + size]


def recorded() -> tuple[DemoRecording, ...]:
    """Two minutes each of a reader, of a telephone at 8 kHz, and of the reader without encryption."""
    return (
        DemoRecording("audio-book", _speech(WIDEBAND), WIDEBAND.rate),
        DemoRecording("telephone", _speech(NARROWBAND), NARROWBAND.rate),
        DemoRecording("unencrypted", _speech(WIDEBAND, offset=10), WIDEBAND.rate, "standard"),
    )


def own(path: Path, warn: Callable[[str], object]) -> tuple[DemoRecording, ...]:
    """A user's file as one conversation, converted as `worker.audio.reading.reader` does; `warn` takes its flaws.

    Raises:
        AudioFileError: it can't be read as audio.
    """
    with open_audio(path) as audio:
        pcm = b"".join(audio.chunks(CHUNK_SECONDS))
    for line in audio.report.lines():
        warn(f"{path}: {line}")
    return (DemoRecording("own", pcm, audio.sample_rate),)


def _speech(source: SpeechSource, *, offset: float = 0) -> bytes:
    """Repeated as often as needed, from `offset` seconds into the recording."""
    rotated = np.roll(recording(source), -round(offset * source.rate))
    return np.resize(rotated, SECONDS * source.rate).tobytes()
