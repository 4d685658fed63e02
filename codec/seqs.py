"""Sets of `seq` numbers as spans, and their text in a blob's metadata: "0-4,6-11"."""

from __future__ import annotations

import re
from collections import deque
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

MAX_TEXT_BYTES = 1024
"""Metadata of one object is limited to 8 KiB; a batch pushed in order needs about 10 bytes."""

_SPANS = re.compile(r"[0-9]{1,15}(-[0-9]{1,15})?(,[0-9]{1,15}(-[0-9]{1,15})?)*")


class Span(NamedTuple):
    """All numbers from `first` to `last`, both included."""

    first: int
    last: int

    def __str__(self) -> str:
        return str(self.first) if self.first == self.last else f"{self.first}-{self.last}"


def note(spans: list[Span], seq: int) -> None:
    """Add a number; numbers that come in order make one span."""
    if spans and spans[-1].last + 1 == seq:
        spans[-1] = Span(spans[-1].first, seq)
    else:
        spans.append(Span(seq, seq))


def merged(spans: Iterable[Span]) -> list[Span]:
    """The same numbers in ascending spans that neither overlap nor touch."""
    result: list[Span] = []
    for span in sorted(spans):
        if result and span.first <= result[-1].last + 1:
            result[-1] = Span(result[-1].first, max(result[-1].last, span.last))
        else:
            result.append(span)
    return result


def doubled(spans: Iterable[Span]) -> list[Span]:
    """The numbers that are in more than one of the spans."""
    result: list[Span] = []
    reached = -1
    for span in sorted(spans):
        if span.first <= reached:
            result.append(Span(span.first, min(span.last, reached)))
        reached = max(reached, span.last)
    return merged(result)


def without(spans: Iterable[Span], removed: Iterable[Span]) -> list[Span]:
    """The numbers of `spans` that are not in `removed`."""
    result: list[Span] = []
    holes = deque(merged(removed))
    for first, last in merged(spans):
        start = first
        while holes and holes[0].first <= last:
            hole = holes[0]
            if start < hole.first:
                result.append(Span(start, hole.first - 1))
            start = max(start, hole.last + 1)
            if hole.last > last:  # it reaches into the next span
                break
            holes.popleft()
        if start <= last:
            result.append(Span(start, last))
    return result


def count(spans: Iterable[Span]) -> int:
    """How many numbers there are."""
    return sum(last - first + 1 for first, last in merged(spans))


def to_text(spans: Sequence[Span]) -> str | None:
    """The spans as metadata; None without numbers, and only their count (`#500`) when the text would be too long."""
    if not spans:
        return None
    text = format_spans(merged(spans))
    return text if len(text) <= MAX_TEXT_BYTES else f"#{count(spans)}"


def from_text(text: str | None) -> list[Span] | None:
    """Read what `to_text` wrote; None if the text does not give the numbers."""
    if text is None or len(text) > MAX_TEXT_BYTES or not _SPANS.fullmatch(text):
        return None
    pairs = (part.partition("-") for part in text.split(","))
    spans = [Span(int(first), int(last or first)) for first, _, last in pairs]
    return spans if all(span.first <= span.last for span in spans) else None


def format_spans(spans: Iterable[Span]) -> str:
    """Spans for a reader: "0-4,6-11"."""
    return ",".join(map(str, spans))
