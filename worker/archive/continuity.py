"""How well a conversation's blobs follow each other in time, conversation after conversation as they are listed."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from codec.errors import BadName
from codec.names import BlobName, parse_name
from worker.settings import GAP_TOLERANCE


class Seam(NamedTuple):
    """A blob that does not begin where the audio before it ended: seconds of gap, or, if negative, of overlap."""

    name: str
    seconds: float


class Continuity:
    """Takes objects in name order and gives the seams of each conversation when the next one begins."""

    def __init__(self, jitter: float = GAP_TOLERANCE) -> None:
        self._jitter = jitter
        self._conversation: tuple[str, str] | None = None
        self._spans: list[tuple[BlobName, float]] = []

    def add(self, name: str, seconds: float) -> list[Seam]:
        """Take note of an object with so much audio; objects that are no blobs are passed over."""
        try:
            blob = parse_name(name)
        except BadName:
            return []
        conversation = blob.uid, blob.conversation_id
        found = self.finish() if conversation != self._conversation else []
        self._conversation = conversation
        self._spans.append((blob, seconds))
        return found

    def finish(self) -> list[Seam]:
        """The seams of the last conversation."""
        spans, self._spans = self._spans, []
        return list(_seams(spans, self._jitter))


def _seams(spans: Iterable[tuple[BlobName, float]], jitter: float) -> Iterable[Seam]:
    reached: float | None = None
    last_start: float | None = None
    for blob, seconds in sorted(spans, key=lambda span: span[0].start):
        # Blobs of one start are the same audio in two formats.
        if reached is not None and blob.start != last_start and abs(blob.start - reached) > jitter:
            yield Seam(str(blob), blob.start - reached)
        reached = max(reached or 0.0, blob.start + seconds)
        last_start = blob.start
