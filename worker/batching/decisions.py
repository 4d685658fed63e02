"""The decisions of a batcher as one value; the owner of the partition carries them out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain

from worker.batching.closed_batch import ClosedBatch
from worker.batching.encoder import BatchEncoder
from worker.model.ids import Conversation, EntryId


@dataclass(slots=True)
class Decisions:
    """What to do with entries and batches.

    `closed` batches must be sealed and delivered. `completed` batches were sealed before and must be delivered.
    `discarded` entries hold no audio to store. `duplicates` repeat a chunk, unless that chunk was deleted before they
    came. `stored` holds entries whose chunks the store was found to hold, with the identities of these chunks.
    """

    closed: list[ClosedBatch] = field(default_factory=list)
    completed: list[ClosedBatch] = field(default_factory=list)
    discarded: list[EntryId] = field(default_factory=list)
    duplicates: dict[EntryId, Conversation] = field(default_factory=dict)
    stored: dict[Conversation, dict[EntryId, bytes]] = field(default_factory=dict)

    @property
    def is_empty(self) -> bool:
        """Whether nothing is to be done."""
        return not (self.closed or self.completed or self.discarded or self.duplicates or self.stored)

    def add(self, later: Decisions) -> None:
        """Append later decisions."""
        self.closed += later.closed
        self.completed += later.completed
        self.discarded += later.discarded
        self.duplicates |= later.duplicates
        for conversation, entries in later.stored.items():
            self.stored.setdefault(conversation, {}).update(entries)

    def batches(self) -> Iterator[ClosedBatch]:
        """All batches that wait here."""
        return chain(self.closed, self.completed)

    def encoders(self, conversation: Conversation) -> list[BatchEncoder]:
        """The encoders that work on audio of a conversation."""
        return [batch.encoder for batch in self.batches() if batch.seal.conversation == conversation]

    def identities(self, conversation: Conversation) -> dict[EntryId, bytes]:
        """The entries of a conversation's closed batches, and the identities of their chunks."""
        found: dict[EntryId, bytes] = {}
        for batch in self.closed:
            if batch.seal.conversation == conversation:
                found |= batch.chunks
        return found

    def release(self) -> None:
        """Give back the memory of the batches; all of their entries are read again."""
        for batch in self.batches():
            batch.encoder.release()
