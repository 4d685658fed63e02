"""Finds gaps and overlaps between the blobs of a conversation, one conversation after the other as they are listed."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from codec.errors import BadName
from codec.names import parse_name
from worker.model.jitter import GAP_TOLERANCE


class Interval(NamedTuple):
    """An object's audio: its start in Unix seconds, and its length in seconds, None if it is unknown.

    Of an object that is not `readable`, name and metadata claim these, and every writer of the bucket can write both.
    """

    name: str
    start: float
    seconds: float | None
    readable: bool = True


class Discontinuity(NamedTuple):
    """A blob that does not begin where the audio before it ended: seconds of gap, or, if negative, of overlap.

    `ended` is the end of the audio before it, in Unix seconds.
    """

    name: str
    seconds: float
    ended: float


class Continuity:
    """Takes objects in name order and gives the discontinuities of each conversation when the next one begins."""

    def __init__(self, jitter: float = GAP_TOLERANCE) -> None:
        self._jitter = jitter
        self._conversation: tuple[str, str] | None = None
        self._intervals: list[Interval] = []

    def add(self, name: str, seconds: float | None, *, readable: bool = True) -> list[Discontinuity]:
        """Take note of an object with `seconds` of audio, None if they are unknown.

        An object whose name is not a blob's name is ignored.
        """
        try:
            blob = parse_name(name)
        except BadName:
            return []
        conversation = blob.uid, blob.conversation_id
        found = self.finish() if conversation != self._conversation else []
        self._conversation = conversation
        self._intervals.append(Interval(name, blob.start, seconds, readable))
        return found

    def finish(self) -> list[Discontinuity]:
        """The discontinuities of the last conversation."""
        intervals, self._intervals = self._intervals, []
        return list(discontinuities_in(intervals, self._jitter))


def discontinuities_in(intervals: Iterable[Interval], tolerance: float) -> Iterator[Discontinuity]:
    """The places where a conversation's audio does not go on within `tolerance` seconds of its end, in time order.

    An object that can't be read is in no such place: it may explain a gap, and makes none.
    """
    reached: float | None = None
    last_start: float | None = None
    claimed = 0.0  # where objects that can't be read claim to end
    for name, start, seconds, readable in sorted(intervals, key=lambda interval: interval.start):
        end = None if seconds is None else start + seconds
        if not readable:
            claimed = math.inf if end is None else max(claimed, end)
            continue
        # Blobs of one start are the same audio in two formats.
        if reached is not None and start != last_start:
            expected = max(reached, min(claimed, start))
            if abs(start - expected) > tolerance:
                yield Discontinuity(name, start - expected, expected)
        reached = None if end is None else max(reached or 0.0, end)
        last_start, claimed = start, 0.0
