"""Sums up the blobs of each conversation of a user, however many there are."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass

from codec.names import prefix
from worker.archive.blobs.listing import Blob, walk
from worker.stores.base import Store


@dataclass(slots=True)
class ConversationSummary:
    """One conversation; `start` and `end` are in Unix seconds, `seconds` is the audio of all blobs of known length.

    `unmeasured` blobs don't tell their length without being read. Alternatives of a blob count too.
    """

    conversation_id: str
    start: float
    end: float
    blobs: int = 0
    bytes: int = 0
    seconds: float = 0.0
    unmeasured: int = 0

    def add(self, blob: Blob) -> None:
        """Count a blob."""
        self.start = min(self.start, blob.start)
        self.end = max(self.end, blob.start if blob.end is None else blob.end)
        self.blobs += 1
        self.bytes += blob.info.size
        self.seconds += blob.duration or 0.0
        self.unmeasured += blob.duration is None


async def sum_up_conversations(store: Store, uid: str) -> AsyncIterator[ConversationSummary]:
    """The conversations of a user in the order of their ids; one page of blobs is held. Raises `StoreError`."""
    current: ConversationSummary | None = None
    async for blob in walk(store, prefix(uid)):
        if not isinstance(blob, Blob):
            continue
        if current is None or current.conversation_id != blob.name.conversation_id:
            if current is not None:
                yield current
            current = ConversationSummary(blob.name.conversation_id, blob.start, blob.start)
        current.add(blob)
    if current is not None:
        yield current
