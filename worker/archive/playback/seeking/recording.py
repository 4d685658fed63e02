"""Random access to a recording: any samples of it are read from only the blobs that hold them."""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import replace
from functools import partial
from typing import NamedTuple

from codec.blob import Audio
from codec.entry import BYTES_PER_SAMPLE
from worker.archive.blobs.listing import Blob, UnknownObject
from worker.archive.blobs.ordered import ordered
from worker.archive.blobs.reading import Problem, Reader
from worker.archive.playback.distinct import DistinctAudio
from worker.archive.playback.repeated_audio import Repeat
from worker.archive.playback.seeking.audio_cache import AudioCache
from worker.archive.playback.seeking.placing import PlacedBlob, place_blobs
from worker.archive.playback.timeline import MergeRules
from worker.audio.pcm_converter import pcm_converter
from worker.errors import Unreadable

AHEAD = 1
"""Blobs that are read at once for one listener. The next one would only delay the first sound: it is wanted later."""

BLOCK_BYTES = 1 << 18
"""Bytes that are given at once."""


class RecordingParts(NamedTuple):
    """What a recording is made of: measured blobs, rules by which they are placed, objects that are not blobs."""

    reader: Reader
    audio: DistinctAudio
    cache: AudioCache
    rules: MergeRules
    unknown: Sequence[UnknownObject] = ()


class SeekableRecording:
    """A conversation as one recording at `sample_rate` Hz, placed as in a download.

    `placed` are its blobs in order. Each is resampled alone: where rates differ, single samples at the edges of blobs
    differ from those of a download. A blob that can't be read is silent, and `unreadable` then names it.
    """

    def __init__(self, parts: RecordingParts, sample_rate: int) -> None:
        self._parts = parts
        self.sample_rate = sample_rate
        audio, rules = parts.audio, parts.rules.exact() if parts.audio.exact else parts.rules
        self.placed = tuple(place_blobs(audio.spans, audio.sources, rules, sample_rate))
        self.unreadable: dict[str, Problem] = {problem.name: problem for problem in audio.problems}
        self._firsts = [blob.first for blob in self.placed]

    @property
    def unknown(self) -> Sequence[UnknownObject]:
        """The conversation's objects that are not blobs."""
        return self._parts.unknown

    @property
    def samples(self) -> int:
        """Its length."""
        return self.placed[-1].last if self.placed else 0

    @property
    def start(self) -> float | None:
        """The Unix seconds of its first sample."""
        return self.placed[0].span.start if self.placed else None

    @property
    def repeated(self) -> Sequence[Repeat]:
        """Blobs that are left out because other blobs hold their audio."""
        return self._parts.audio.repeated

    @property
    def version(self) -> str:
        """A text that is another one whenever a blob or the rate is another one."""
        content = [f"{_identity(blob.span.blob)} {blob.first} {blob.samples}" for blob in self.placed]
        return hashlib.sha256("\n".join([str(self.sample_rate), *content]).encode()).hexdigest()[:32]

    def at_rate(self, sample_rate: int) -> SeekableRecording:
        """The same recording at another rate in Hz."""
        return SeekableRecording(self._parts, sample_rate)

    async def pcm(self, first: int, last: int) -> AsyncGenerator[bytes, None]:
        """The s16le mono PCM from the sample `first` up to `last`, in blocks. Raises `StoreError`, `ExtraMissing`."""
        position = first
        begin = max(0, bisect_right(self._firsts, first) - 1)
        touched = [blob for blob in self.placed[begin:] if blob.first < last and blob.last > first]
        async with aclosing(ordered(touched, self.audio, limit=AHEAD)) as renditions:
            number = 0
            async for pcm in renditions:
                blob = touched[number]
                number += 1
                for block in _silence(blob.first - position):
                    yield block
                position = max(position, blob.first)
                until = min(blob.last, last)
                for block in _blocks(pcm, position - blob.first, until - blob.first):
                    yield block
                position = until
        for block in _silence(last - position):
            yield block

    async def audio(self, blob: PlacedBlob, *, keep: bool = True) -> bytes:
        """The PCM of one of its blobs, of exactly its samples; without `keep`, others come first."""
        key = (_identity(blob.span.blob), blob.cut, blob.samples, self.sample_rate)
        return await self._parts.cache.get(key, partial(self._rendered, blob), keep=keep)

    async def _rendered(self, placed: PlacedBlob) -> bytes:
        size = placed.samples * BYTES_PER_SAMPLE
        audio = await self._decoded(placed)
        if audio is None:
            return bytes(size)
        pcm = audio.pcm[round(placed.cut_seconds * audio.sample_rate) * BYTES_PER_SAMPLE :]
        converter = pcm_converter(audio.sample_rate, self.sample_rate)
        rendered = converter.convert(pcm) + converter.rest()
        return rendered[:size] + bytes(size - len(rendered))

    async def _decoded(self, placed: PlacedBlob) -> Audio | None:
        """The audio of the blob, or of the first alternative that can be read; None if none can."""
        best = placed.span.blob
        failed: list[Problem] = []
        for blob in [best, *(other for other in placed.source.alternatives if other is not best)]:
            try:
                audio = await self._parts.reader.audio(blob)
            except Unreadable as error:
                failed.append(Problem(blob.path, str(error), cause=error.cause))
                continue
            self._note(failed, instead=blob.path)
            return audio
        self._note(failed, instead=None)
        return None

    def _note(self, failed: Sequence[Problem], *, instead: str | None) -> None:
        for problem in failed:
            self.unreadable[problem.name] = replace(problem, instead=instead)


def _identity(blob: Blob) -> str:
    info = blob.info
    return f"{info.name}\n{info.generation} {info.size} {info.crc32c}"


def _blocks(pcm: bytes, first: int, last: int) -> list[bytes]:
    begin, end = first * BYTES_PER_SAMPLE, last * BYTES_PER_SAMPLE
    return [pcm[each : min(each + BLOCK_BYTES, end)] for each in range(begin, end, BLOCK_BYTES)]


def _silence(samples: int) -> list[bytes]:
    whole, rest = divmod(max(0, samples) * BYTES_PER_SAMPLE, BLOCK_BYTES)
    return [bytes(BLOCK_BYTES)] * whole + ([bytes(rest)] if rest else [])
