"""What part of a conversation is meant: all of it, a stretch of time, or the chunks of given timestamps."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import NamedTuple

from codec.errors import BadName
from codec.names import format_timestamp
from worker.archive.twins import Source
from worker.errors import BadSelection


@dataclass(frozen=True, slots=True)
class Selection:
    """Unix seconds: audio from `since` up to `until`, and of that only the blobs of `timestamps`, where given.

    A timestamp names the blob that starts there and the range that includes it, or else what was recorded then.

    Raises:
        BadSelection: a timestamp is not Unix seconds, or the time is none or ends before it begins.
    """

    since: float | None = None
    until: float | None = None
    timestamps: Sequence[float] | None = None

    def __post_init__(self) -> None:
        for timestamp in self.timestamps or ():
            _check(timestamp)
        if any(moment is not None and math.isnan(moment) for moment in (self.since, self.until)):
            raise BadSelection(f"the time from {self.since} to {self.until} is none")
        if self.since is not None and self.until is not None and self.until <= self.since:
            raise BadSelection(f"the time from {self.since} to {self.until} is empty")


def _check(timestamp: float) -> None:
    try:
        format_timestamp(timestamp)
    except BadName as error:
        raise BadSelection(f"the timestamp {error}") from None


EVERYTHING = Selection()


class Selected(NamedTuple):
    """Sources in time order, and timestamps that nothing stored answers to."""

    sources: list[Source]
    missing: list[float]


def select(sources: list[Source], selection: Selection) -> Selected:
    """Choose from all sources of a conversation."""
    within = [
        source for source, following in zip_longest(sources, sources[1:]) if _touches(source, following, selection)
    ]
    if selection.timestamps is None:
        return Selected(within, [])
    index = _Index(within)
    chosen: dict[int, Source] = {}
    missing = []
    for timestamp in sorted(selection.timestamps):
        answers = index.find(timestamp)
        chosen.update((id(source), source) for source in answers)
        if not answers:
            missing.append(timestamp)
    return Selected(sorted(chosen.values(), key=lambda source: source.start), missing)


class _Index:
    """Finds what a timestamp means among sources in time order."""

    def __init__(self, sources: list[Source]) -> None:
        self._sources = sources
        self._starts = [source.start for source in sources]
        self._ranges = [
            (blob, source) for source in sources for blob in source.alternatives if blob.name.end is not None
        ]
        self._named = {format_timestamp(blob.start): [source] for source in sources for blob in source.alternatives}

    def find(self, timestamp: float) -> list[Source]:
        named = self._named.get(format_timestamp(timestamp), [])
        ranges = [source for blob, source in self._ranges if blob.start <= timestamp <= (blob.name.end or 0.0)]
        return named + ranges or self._recorded_at(timestamp)

    def _recorded_at(self, timestamp: float) -> list[Source]:
        following = bisect_right(self._starts, timestamp)
        before = self._sources[max(0, following - 1) : following]
        return [source for source in before if any((blob.end or 0.0) > timestamp for blob in source.alternatives)]


def _touches(source: Source, following: Source | None, selection: Selection) -> bool:
    if selection.until is not None and source.start >= selection.until:
        return False
    if selection.since is None or source.start >= selection.since:
        return True
    if any(blob.end is None for blob in source.alternatives):
        # Only reading tells how long it is; nobody records two blobs at once, so the next one's start is a bound.
        return following is None or following.start > selection.since
    return any(blob.end is not None and blob.end > selection.since for blob in source.alternatives)
