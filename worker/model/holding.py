"""The chunks of a partition that a worker has in hand, or had when it lost the partition or its server."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import TypeAlias

from worker.model.ids import Conversation, EntryId

ChunksHeld: TypeAlias = Mapping[Conversation, Mapping[EntryId, bytes]]
"""Per conversation its entries, and the identities of their chunks."""


@dataclass(frozen=True, slots=True)
class Holding:
    """Chunks that were read from a stream and not stored.

    `server` is the server on which the partition was taken over, and `stream` the random id of its stream. `known_at`
    is the monotonic time in seconds at which the worker still owned the partition, so that no other could store them.
    """

    partition: int
    server: str
    stream: str
    known_at: float
    chunks: ChunksHeld

    def without(self, entries: Collection[EntryId]) -> Holding:
        """The same without some entries."""
        left = {
            conversation: {entry: identity for entry, identity in chunks.items() if entry not in entries}
            for conversation, chunks in self.chunks.items()
        }
        return replace(self, chunks=left)
