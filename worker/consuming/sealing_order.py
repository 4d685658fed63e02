"""Which closed batches may be sealed now; pure.

A conversation's batches are sealed one by one, and none while an earlier batch is in question. Such a batch was sealed
before, or may have been, and it is not known yet whether it is stored exactly as sealed. If it is stored otherwise, the
rest of it is read again. If later audio were sealed by then, the rest would come after that audio, or would be joined
with the audio that follows it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from worker.batching.closed_batch import ClosedBatch
from worker.model.ids import Conversation, EntryId


def in_question(batches: Iterable[ClosedBatch], sealed_before: Collection[EntryId]) -> set[Conversation]:
    """Conversations of batches on their way that were sealed before, or may have been; Redis can forget a seal."""
    return {closed.seal.conversation for closed in batches if closed.recovered or closed.seal.id in sealed_before}


def next_to_seal(closed: Sequence[ClosedBatch], held_back: Collection[Conversation]) -> list[ClosedBatch]:
    """The first closed batch of each conversation that is not held back."""
    ready = [batch for batch in closed if batch.seal.conversation not in held_back]
    return list({batch.seal.conversation: batch for batch in reversed(ready)}.values())
