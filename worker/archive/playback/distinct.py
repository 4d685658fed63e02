"""Measures the sources of a conversation, and leaves out audio that another blob holds too."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import aclosing
from typing import NamedTuple

from worker.archive.blobs.alternatives import AudioAlternatives, all_exact
from worker.archive.blobs.progress import Progress, unseen
from worker.archive.blobs.reading import Problem, Reader
from worker.archive.playback.measuring import measured
from worker.archive.playback.repeated_audio import MeasuredBlob, Repeat, RepeatFilter


class DistinctAudio(NamedTuple):
    """Measured blobs in time order, none of which holds the audio of another.

    `sources` are the alternatives of each. `problems` are of blobs that don't tell their length. `exact` says that all
    blobs have exact starts.
    """

    spans: list[MeasuredBlob]
    sources: list[AudioAlternatives]
    problems: list[Problem]
    repeated: list[Repeat]
    exact: bool


async def distinct_audio(
    reader: Reader, sources: Sequence[AudioAlternatives], progress: Progress = unseen
) -> DistinctAudio:
    """Only blobs that overlap, or whose length is not known otherwise, are read. Raises `StoreError`."""
    heard = RepeatFilter(reader)
    found = DistinctAudio([], [], [], [], all_exact(sources))
    async with aclosing(measured(reader, sources)) as results:
        done = 0
        async for span, failed in results:
            found.problems.extend(failed)
            if (whole := await heard.holder(span)) is None:
                found.spans.append(span._replace(exact=found.exact))
                found.sources.append(sources[done])
            else:
                found.repeated.append(Repeat(span.blob.path, whole.blob.path))
            done += 1
            progress(done, len(sources))
    return found
