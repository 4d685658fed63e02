"""Selects a part of a conversation: all of it, a span of time, or the chunks of given timestamps."""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple

from codec.entry import is_number
from codec.errors import BadName, escaped
from codec.names import format_timestamp
from worker.archive.blobs.alternatives import AudioAlternatives
from worker.archive.blobs.provenance import last_chunk
from worker.errors import BadSelection


@dataclass(frozen=True, slots=True)
class Selection:
    """Audio from `since` up to `until`, and of that only the blobs of `timestamps`, if given; all in Unix seconds.

    A timestamp selects the blob that starts there and the range that includes it, or else the audio of that time.

    Raises:
        BadSelection: a timestamp is not Unix seconds, `since` or `until` is not a number, or `until` is not after
            `since`.
    """

    since: float | None = None
    until: float | None = None
    timestamps: Sequence[float] | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.timestamps, Iterable | None) or isinstance(self.timestamps, str | bytes):
            raise BadSelection(f"the timestamps {escaped(self.timestamps)} are not a list of numbers")
        for timestamp in self.timestamps or ():
            _check(timestamp)
        if any(
            moment is not None and (not is_number(moment) or math.isnan(moment)) for moment in (self.since, self.until)
        ):
            raise BadSelection(f"the time from {self.since} to {self.until} is none")
        if self.since is not None and self.until is not None and self.until <= self.since:
            raise BadSelection(f"the time from {self.since} to {self.until} is empty")


def _check(timestamp: float) -> None:
    try:
        format_timestamp(timestamp)
    except BadName as error:
        raise BadSelection(f"the timestamp {error}") from None


EVERYTHING = Selection()
NOTHING_MEASURED: Mapping[str, float] = MappingProxyType({})


class Selected(NamedTuple):
    """Sources in time order, timestamps for which nothing is stored, and the selection itself."""

    sources: list[AudioAlternatives]
    missing: list[float]
    selection: Selection


def undecided(sources: list[AudioAlternatives], selection: Selection) -> list[AudioAlternatives]:
    """The sources that must be read to know whether they were recorded at one of the timestamps."""
    index = _Index(_within(sources, selection), {})
    found = [source for timestamp in selection.timestamps or () for source in index.undecided(timestamp)]
    return list({id(source): source for source in found}.values())


def select(
    sources: list[AudioAlternatives], selection: Selection, ends: Mapping[str, float] = NOTHING_MEASURED
) -> Selected:
    """Choose from all sources of a conversation; `ends` are those of measured blobs, by path, in Unix seconds."""
    within = _within(sources, selection)
    if selection.timestamps is None:
        return Selected(within, [], selection)
    index = _Index(within, ends)
    chosen: dict[int, AudioAlternatives] = {}
    missing = []
    for timestamp in sorted(selection.timestamps):
        answers = index.find(timestamp)
        chosen.update((id(source), source) for source in answers)
        if not answers:
            missing.append(timestamp)
    return Selected(sorted(chosen.values(), key=lambda source: source.start), missing, selection)


class _Index:
    """Finds the sources of a timestamp among sources in time order."""

    def __init__(self, sources: list[AudioAlternatives], ends: Mapping[str, float]) -> None:
        blobs = [(blob, source) for source in sources for blob in source.alternatives]
        self._sources = sources
        self._ends = ends
        self._starts = [source.start for source in sources]
        self._named: dict[str, list[AudioAlternatives]] = defaultdict(list)
        for blob, source in blobs:
            self._named[format_timestamp(blob.start)].append(source)
        ranges = [(blob.start, last_chunk(blob), source) for blob, source in blobs]
        self._ranges = [(first, last, source) for first, last, source in ranges if last is not None]
        self._longest = max((blob.ends_by - source.start for blob, source in blobs), default=0.0)

    def find(self, timestamp: float) -> list[AudioAlternatives]:
        named = self._named.get(format_timestamp(timestamp), [])
        ranges = [source for first, last, source in self._ranges if first <= timestamp <= last]
        return named + ranges or self._recorded_at(timestamp)[-1:]

    def undecided(self, timestamp: float) -> list[AudioAlternatives]:
        if self.find(timestamp):
            return []
        return [
            source
            for source in self._before(timestamp)
            if any(blob.end is None and blob.ends_by > timestamp for blob in source.alternatives)
        ]

    def _recorded_at(self, timestamp: float) -> list[AudioAlternatives]:
        return [
            source
            for source in self._before(timestamp)
            if any(self._ends.get(blob.path, blob.end or 0.0) > timestamp for blob in source.alternatives)
        ]

    def _before(self, timestamp: float) -> list[AudioAlternatives]:
        """The sources that may still go on at that time."""
        first = bisect_left(self._starts, timestamp - self._longest)
        return self._sources[first : bisect_right(self._starts, timestamp)]


def _within(sources: list[AudioAlternatives], selection: Selection) -> list[AudioAlternatives]:
    return [source for source in sources if _touches(source, selection)]


def _touches(source: AudioAlternatives, selection: Selection) -> bool:
    if selection.until is not None and source.start >= selection.until:
        return False
    since = selection.since
    return since is None or source.start >= since or any(blob.ends_by > since for blob in source.alternatives)
