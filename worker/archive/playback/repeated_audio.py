"""Takes audio that several blobs hold only once: the longest alternative, and no blob that is inside another one."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from codec.blob import Audio
from worker.archive.blobs.alternatives import AudioAlternatives, longer
from worker.archive.blobs.listing import Blob
from worker.archive.blobs.provenance import last_chunk
from worker.archive.blobs.reading import Problem, Reader
from worker.archive.playback.timeline import cropped
from worker.errors import Undecryptable, Unreadable
from worker.model.jitter import GAP_TOLERANCE
from worker.runtime.extras import extra_imports

MOST_GOING_ON = 16
"""The most blobs that overlap at one moment and are kept for comparison: memory stays bounded for any names."""

KEPT_BYTES = 48 * 1024 * 1024
"""Bytes of audio that are kept for comparison; audio beyond that is read again when it is needed."""


class MeasuredBlob(NamedTuple):
    """A blob and its exact length in seconds; its audio if that was read, and its Opus container if that is wanted.

    `exact` says that it is placed by its exact start, because all blobs of the recording have one.
    """

    blob: Blob
    seconds: float
    audio: Audio | None = None
    exact: bool = False
    content: bytes | None = None

    @property
    def start(self) -> float:
        """Its start in Unix seconds."""
        exact_start = self.blob.exact_start if self.exact else None
        return self.blob.start if exact_start is None else exact_start

    @property
    def end(self) -> float:
        """Its end in Unix seconds."""
        return self.start + self.seconds

    @property
    def covers(self) -> float:
        """The Unix seconds up to which chunks may be in it: a range may leave out pauses."""
        return max(self.end, last_chunk(self.blob) or 0.0)


@dataclass(frozen=True, slots=True)
class Repeat:
    """A blob that was left out because its audio overlaps that of another blob and sounds alike; both by name."""

    name: str
    inside: str


async def longest(
    source: AudioAlternatives, measure: Callable[[Blob], Awaitable[MeasuredBlob]]
) -> tuple[MeasuredBlob | None, list[Problem]]:
    """The longest alternative (of equal ones the first), and problems with those that can't be read.

    Others are measured only if they may be longer than those before.
    """
    found: MeasuredBlob | None = None
    failed: list[tuple[Blob, Unreadable]] = []
    for blob in source.alternatives:
        if found is not None and blob.duration is not None and not longer(blob.duration, found.seconds):
            continue
        try:
            span = await measure(blob)
        except Unreadable as error:
            failed.append((blob, error))
            continue
        if found is None or longer(span.seconds, found.seconds):
            found = span
    instead = None if found is None else found.blob.path
    return found, [
        Problem(blob.path, str(error), instead, error.cause, undecryptable=isinstance(error, Undecryptable))
        for blob, error in failed
    ]


class RepeatFilter:
    """Finds spans whose audio an earlier span holds; takes spans in the order of their starts.

    It keeps the earlier spans that may still go on when the next one starts.
    """

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._going_on: list[MeasuredBlob] = []

    async def holder(self, span: MeasuredBlob) -> MeasuredBlob | None:
        """The span, taken before, that holds all audio of this one; None if there is none, and this one is taken.

        Only the audio of spans that overlap is read and compared. Raises `StoreError`, `ExtraMissing`.
        """
        going_on = [each for each in self._going_on if each.covers >= span.start]
        self._going_on = list(_light(heapq.nlargest(MOST_GOING_ON, going_on, key=lambda each: each.covers)))
        for number, whole in enumerate(self._going_on):
            if _may_hold(whole, span):
                self._going_on[number], span = [await self._read(each) for each in (whole, span)]
                if await asyncio.to_thread(_hears, self._going_on[number], span):
                    return self._going_on[number]
        self._going_on.append(span)
        return None

    async def _read(self, span: MeasuredBlob) -> MeasuredBlob:
        if span.audio is not None:
            return span
        try:
            return span._replace(audio=await self._reader.audio(span.blob))
        except Unreadable:
            return span  # audio that can't be read counts as not contained


def _light(spans: Iterable[MeasuredBlob]) -> Iterator[MeasuredBlob]:
    """The same spans, with at most `KEPT_BYTES` of audio."""
    left = KEPT_BYTES
    for span in spans:
        left -= len(span.audio.pcm) if span.audio else 0
        yield span._replace(content=None) if left >= 0 else span._replace(audio=None, content=None)


def _may_hold(whole: MeasuredBlob, part: MeasuredBlob) -> bool:
    """Whether times and entries allow it. Timestamps jitter, so a part may extend past the end by less than a half."""
    if whole.blob.facts.first_entry and part.blob.facts.first_entry:
        return False  # workers wrote both and noted their entries: they are not the same ones
    if part.seconds >= whole.seconds:
        return False  # it starts later, so it ends later: other audio, although both may be silent
    in_range = part.start <= (last_chunk(whole.blob) or 0.0)
    return in_range or part.start + part.seconds / 2 <= whole.end


def _hears(whole: MeasuredBlob, part: MeasuredBlob) -> bool:
    """Whether the part is there near the time of its name: similar audio at another time is other audio."""
    if whole.audio is None or part.audio is None:
        return False
    last = last_chunk(whole.blob)
    pauses = 0.0 if last is None else max(0.0, last + part.seconds - whole.end)
    since, until = part.start - GAP_TOLERANCE - pauses, part.end + GAP_TOLERANCE
    with extra_imports():
        from worker.archive.blobs.similarity import holds  # noqa: PLC0415 -- numpy, only for audio that overlaps

    _, there = cropped(whole.start, whole.audio, since, until)
    return holds(there, part.audio)
