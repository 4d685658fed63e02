"""Measures the exact lengths of blobs."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from codec.container import packets, read_header
from codec.entry import BYTES_PER_SAMPLE
from codec.errors import BadBlob
from codec.opus import FRAMES_PER_SECOND
from worker.archive.blobs.alternatives import AudioAlternatives
from worker.archive.blobs.listing import Blob
from worker.archive.blobs.ordered import ordered
from worker.archive.blobs.reading import Problem, Reader
from worker.archive.playback.repeated_audio import MeasuredBlob, longest
from worker.errors import Unreadable

READS = 16


async def measured(
    reader: Reader, sources: Sequence[AudioAlternatives]
) -> AsyncGenerator[tuple[MeasuredBlob, list[Problem]], None]:
    """The exact lengths of sources in seconds, in their order, each with its read problems."""

    async def measure(blob: Blob) -> MeasuredBlob:
        try:
            return MeasuredBlob(blob, await _seconds(reader, blob))
        except BadBlob as error:
            raise Unreadable(str(error)) from error

    async def work(source: AudioAlternatives) -> tuple[MeasuredBlob, list[Problem]]:
        span, problems = await longest(source, measure)
        best = source.alternatives[0]
        return span or MeasuredBlob(best, best.duration or 0.0), problems

    async with aclosing(ordered(sources, work, limit=READS)) as results:
        async for result in results:
            yield result


async def _seconds(reader: Reader, blob: Blob) -> float:
    if blob.samples is not None:
        return blob.samples / blob.sample_rate
    content = await reader.content(blob)
    if blob.codec == "pcm":
        return len(content) // BYTES_PER_SAMPLE / blob.sample_rate
    header = read_header(content)
    held = sum(1 for _ in packets(content)) / FRAMES_PER_SECOND
    # A header that claims 0 bytes, or more than its packets hold, is not believed.
    if 0 < header.seconds <= held:
        return header.seconds
    return (await reader.decoded(blob, content)).duration
