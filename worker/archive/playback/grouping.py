"""Which blobs make one playable file, and how long it is."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass

from codec.container import packets, read_header
from codec.entry import BYTES_PER_SAMPLE
from codec.errors import BadBlob
from codec.opus import FRAMES_PER_SECOND
from worker.archive.blobs.alternatives import Source
from worker.archive.blobs.listing import Blob
from worker.archive.blobs.ordered import ordered
from worker.archive.blobs.reading import Problem, Reader
from worker.archive.playback.download import Progress, unseen
from worker.archive.playback.overlaps import Heard, Span, longest
from worker.archive.playback.timeline import Rules, Timeline
from worker.errors import Unreadable
from worker.settings import GAP_TOLERANCE

DEFAULT_GAP = 90.0
"""Seconds from start to start; more than that starts a new file. Made for batches of 60 s."""

READS = 16


@dataclass(frozen=True, slots=True)
class AudioFile:
    """Blobs that are played as one; `start` in Unix seconds, `duration` in seconds, gaps between blobs included."""

    start: float
    duration: float
    blobs: tuple[Blob, ...]

    @property
    def timestamps(self) -> tuple[float, ...]:
        """Starts of its blobs, as a conversation's record keeps them."""
        return tuple(blob.start for blob in self.blobs)


@dataclass(frozen=True, slots=True)
class AudioFiles:
    """The files of a conversation in order, and the blobs that don't tell their length.

    Where another blob has the same audio, it took the place of such a one; else this is in a file, as long as is known.
    """

    files: tuple[AudioFile, ...]
    problems: tuple[Problem, ...]


async def audio_files(
    reader: Reader,
    sources: Sequence[Source],
    gap: float = DEFAULT_GAP,
    progress: Progress = unseen,
    *,
    gap_tolerance: float = GAP_TOLERANCE,
) -> AudioFiles:
    """Group the sources of a conversation. Only blobs are read that overlap, or whose length nothing else tells."""
    heard = Heard(reader)
    spans: list[Span] = []
    problems: list[Problem] = []

    done = 0
    async with aclosing(measured(reader, sources)) as results:
        async for span, failed in results:
            problems += failed
            if not await heard.holds(span):
                spans.append(span)
            done += 1
            progress(done, len(sources))
    return AudioFiles(tuple(group(spans, gap, Rules(gap_tolerance=gap_tolerance))), tuple(problems))


async def measured(reader: Reader, sources: Sequence[Source]) -> AsyncGenerator[tuple[Span, list[Problem]], None]:
    """The exact lengths of sources, in their order, and what could not be read for them."""

    async def measure(blob: Blob) -> Span:
        try:
            return Span(blob, await _seconds(reader, blob))
        except BadBlob as error:
            raise Unreadable(str(error)) from error

    async def work(source: Source) -> tuple[Span, list[Problem]]:
        span, problems = await longest(source, measure)
        best = source.alternatives[0]
        return span or Span(best, best.duration or 0.0), problems

    async with aclosing(ordered(sources, work, limit=READS)) as results:
        async for result in results:
            yield result


def group(spans: Sequence[Span], gap: float, rules: Rules) -> list[AudioFile]:
    """Cut where a blob starts more than `gap` seconds after the one before it started."""
    groups: list[list[Span]] = []
    for span in spans:
        if not groups or span.blob.start - groups[-1][-1].blob.start > gap:
            groups.append([])
        groups[-1].append(span)
    return [_file(spans, rules) for spans in groups]


def _file(spans: Sequence[Span], rules: Rules) -> AudioFile:
    timeline = Timeline(rules)
    for span in spans:
        timeline.append(timeline.place(span.blob.start).silence)
        timeline.append(span.seconds)
    return AudioFile(spans[0].blob.start, timeline.seconds, tuple(span.blob for span in spans))


async def _seconds(reader: Reader, blob: Blob) -> float:
    if blob.samples is not None:
        return blob.samples / blob.sample_rate
    content = await reader.content(blob)
    if blob.codec == "pcm":
        return len(content) // BYTES_PER_SAMPLE / blob.sample_rate
    header = read_header(content)
    held = sum(1 for _ in packets(content)) / FRAMES_PER_SECOND
    # A header that claims nothing, or more than its packets hold, is not believed.
    if 0 < header.seconds <= held:
        return header.seconds
    return (await reader.decoded(blob, content)).duration
