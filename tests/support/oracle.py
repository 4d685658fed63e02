"""The oracle: what was pushed, what the store holds, and whether the two are the same audio, every sample once."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from codec.entry import Chunk, End, Protection
from tests.support.second_decoder import second_decode
from tests.support.secret import TEST_SECRET
from tests.support.speech import speech

T0 = 1_700_000_000.0
"""Unix seconds at which conversations start."""

EXTENSIONS = (".batch.enc", ".batch.bin", ".opus.enc", ".opus", ".enc", ".bin")


@dataclass
class Talk:
    """A conversation of recorded speech, and all of it that was said so far."""

    conversation_id: str
    uid: str = "user"
    rate: int = 16000
    protection: Protection = "enhanced"
    start: float = T0
    numbered: bool = True
    pcm: bytes = b""
    chunks: list[Chunk] = field(default_factory=list)

    def say(self, seconds: float, *, late: float = 0.0) -> Chunk:
        """The next chunk; its timestamp is `late` seconds beyond where the sample count says it should be."""
        position = len(self.pcm) / 2 / self.rate
        offset = zlib.crc32(self.conversation_id.encode()) % 20 + position
        chunk = Chunk(
            self.uid,
            self.conversation_id,
            self.start + position + late,
            speech(seconds, self.rate, offset=offset),
            self.rate,
            self.protection,
            len(self.chunks) if self.numbered else None,
        )
        self.pcm += chunk.pcm
        self.chunks.append(chunk)
        return chunk

    def end(self) -> End:
        return End(self.uid, self.conversation_id)

    @property
    def prefix(self) -> str:
        return f"chunks/{self.uid}/{self.conversation_id}/"


@dataclass(frozen=True)
class Blob:
    name: str
    data: bytes
    metadata: Mapping[str, str]

    @property
    def extension(self) -> str:
        return next(extension for extension in EXTENSIONS if self.name.endswith(extension))

    @property
    def stem(self) -> str:
        return self.name.rpartition("/")[2].removesuffix(self.extension)

    @property
    def samples(self) -> int:
        return int(self.metadata["samples"])

    def pcm(self) -> bytes:
        return second_decode(self.name, self.data, self.metadata, TEST_SECRET)


def blobs_of(talk: Talk, blobs: Iterable[Blob]) -> list[Blob]:
    """A conversation's blobs in the order of their entries."""
    found = [blob for blob in blobs if blob.name.startswith(talk.prefix)]
    return sorted(found, key=lambda blob: tuple(map(int, blob.metadata["first-entry"].split("-"))))


def assert_stored_once(talk: Talk, blobs: Iterable[Blob]) -> None:
    """Every sample that was pushed is stored exactly once and in order; PCM to the bit, Opus aligned to the sample."""
    position = 0
    for blob in blobs_of(talk, blobs):
        source = talk.pcm[2 * position : 2 * (position + blob.samples)]
        heard = blob.pcm()
        assert len(heard) == len(source) == 2 * blob.samples, blob.name
        if blob.metadata["codec"] == "pcm":
            assert heard == source, blob.name
        else:
            assert_same_speech(heard, source)
        position += blob.samples
    assert position == len(talk.pcm) // 2


def played(talk: Talk, blobs: Iterable[Blob]) -> list[int]:
    """The numbers of a conversation's chunks as a player hears them, blob after blob by name; -1 is no chunk of it.

    Only for PCM and chunks of one length, the last one excepted.
    """
    numbers = {chunk.pcm: number for number, chunk in enumerate(talk.chunks)}
    size = len(talk.chunks[0].pcm)
    heard = [blob.pcm() for blob in sorted(blobs, key=lambda blob: blob.name) if blob.name.startswith(talk.prefix)]
    return [numbers.get(pcm[at : at + size], -1) for pcm in heard for at in range(0, len(pcm), size)]


def assert_plays(talk: Talk, blobs: Iterable[Blob]) -> None:
    """A player hears every chunk once, and in order, whatever became of entry ids: so no blob has a hole."""
    assert played(talk, blobs) == list(range(len(talk.chunks)))


def assert_same_speech(heard: bytes, source: bytes) -> None:
    """Opus changes the wave form and hardly the time."""
    peak, likeness = correlation(heard, source)
    assert abs(peak) < 1.6
    assert likeness > 0.6


def correlation(heard: bytes, source: bytes) -> tuple[float, float]:
    """Where the cross-correlation peaks, in samples with a parabola through the top, and how high (1: equal)."""
    a, b = (np.frombuffer(pcm, "<i2").astype(np.float64) for pcm in (heard, source))
    size = 2 * len(a)
    product = np.fft.irfft(np.fft.rfft(a, size) * np.conj(np.fft.rfft(b, size)), size)
    top = int(np.argmax(product))
    before, peak, after = (product[(top + step) % size] for step in (-1, 0, 1))
    lag = top - size * (top > len(a)) + (before - after) / (before - 2 * peak + after) / 2
    return float(lag), float(peak / np.sqrt(np.dot(a, a) * np.dot(b, b)))


def lag(first: bytes, second: bytes) -> int:
    """By how many samples the second is late."""
    a, b = (np.frombuffer(pcm, "<i2").astype(np.float64) for pcm in (first, second))
    size = 1 << (len(a) + len(b)).bit_length()
    peak = int(np.argmax(np.fft.irfft(np.fft.rfft(b, size) * np.conj(np.fft.rfft(a, size)), size)))
    return peak - size if peak > size // 2 else peak
