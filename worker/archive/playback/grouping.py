"""Groups blobs into playable files, and computes how long these are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from worker.archive.blobs.alternatives import AudioAlternatives
from worker.archive.blobs.listing import Blob, UnknownObject
from worker.archive.blobs.progress import Progress, unseen
from worker.archive.blobs.reading import Problem, Reader
from worker.archive.playback.distinct import distinct_audio
from worker.archive.playback.repeated_audio import MeasuredBlob, Repeat
from worker.archive.playback.timeline import MergeRules, Timeline
from worker.model.jitter import GAP_TOLERANCE, JOINED_STARTS

DEFAULT_GAP = JOINED_STARTS
"""Seconds from start to start; more than that starts a new file. Made for batches of 60 s."""


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
    """The files of a conversation in order, and problems with blobs that don't tell their length.

    An alternative takes the place of such a blob. Without an alternative the blob is in a file with its known length,
    or with 0 seconds. `repeated` are the blobs that are in no file because another one holds their audio, `unknown` the
    objects that are in no file because they are not blobs.
    """

    files: tuple[AudioFile, ...]
    problems: tuple[Problem, ...]
    repeated: tuple[Repeat, ...] = ()
    unknown: tuple[UnknownObject, ...] = ()


async def audio_files(
    reader: Reader,
    sources: Sequence[AudioAlternatives],
    gap: float = DEFAULT_GAP,
    progress: Progress = unseen,
    *,
    gap_tolerance: float = GAP_TOLERANCE,
) -> AudioFiles:
    """Group the sources of a conversation; only blobs that overlap, or whose length is not known otherwise, are read.

    Args:
        reader: reads the blobs.
        sources: the sources of one conversation in time order.
        gap: seconds from start to start; more than that begins a new file.
        progress: called for every source.
        gap_tolerance: seconds, as in `MergeRules`.

    Raises:
        StoreError: the store does not answer.
    """
    found = await distinct_audio(reader, sources, progress)
    rules = MergeRules(gap_tolerance=gap_tolerance)
    files = group(found.spans, gap, rules.exact() if found.exact else rules)
    return AudioFiles(tuple(files), tuple(found.problems), tuple(found.repeated))


def group(spans: Sequence[MeasuredBlob], gap: float, rules: MergeRules) -> list[AudioFile]:
    """Begin a new file where a blob starts more than `gap` seconds after the one before it started."""
    groups: list[list[MeasuredBlob]] = []
    for span in spans:
        if not groups or span.blob.start - groups[-1][-1].blob.start > gap:
            groups.append([])
        groups[-1].append(span)
    return [_file(spans, rules) for spans in groups]


def _file(spans: Sequence[MeasuredBlob], rules: MergeRules) -> AudioFile:
    timeline = Timeline(rules)
    for span in spans:
        placement = timeline.place(span.start)
        timeline.append(placement.silence)
        timeline.append(timeline.trim(placement, span.seconds))
    return AudioFile(spans[0].blob.start, timeline.seconds, tuple(span.blob for span in spans))
