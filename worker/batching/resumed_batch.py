"""A sealed batch whose audio is read again, and the entries that come for it; pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from itertools import takewhile
from typing import NamedTuple

from codec.entry import Chunk, End, Trace
from codec.seqs import Span
from codec.sessions import Numbers, note, session_name
from worker.batching.encoder import BatchEncoder
from worker.model.ids import Conversation, EntryId, entry_order
from worker.model.seal import Seal


class ParsedEntry(NamedTuple):
    """An entry that is a chunk or an end."""

    id: EntryId
    content: Chunk | End

    @property
    def conversation(self) -> Conversation:
        """The conversation that it belongs to."""
        return Conversation(self.content.uid, self.content.conversation_id)


@dataclass(slots=True)
class ResumedBatch:
    """A sealed batch whose audio is being read again; `missing` holds the entries that have not come yet, in order."""

    seal: Seal
    encoder: BatchEncoder
    missing: deque[EntryId]
    held: dict[EntryId, bytes] = field(default_factory=dict)
    seqs: Numbers = field(default_factory=dict)
    ends: Numbers = field(default_factory=dict)
    trace: Trace | None = None

    def add(self, item: ParsedEntry) -> None:
        """Take note of an entry that has come."""
        content = item.content
        if isinstance(content, End):
            if content.seq is not None:
                self.ends[session_name(content.session)] = [Span(content.seq, content.seq)]
            return
        self.held[item.id] = content.identity()
        self.trace = self.trace or content.trace
        if content.seq is not None:
            note(self.seqs, content.session, content.seq)

    def strike(self, entry: EntryId) -> None:
        """Remove an entry from `missing`, because it has come."""
        if self.missing[0] == entry:  # always, unless an entry before it has vanished
            self.missing.popleft()
        else:
            self.missing.remove(entry)

    def overdue(self, reached: EntryId) -> Iterator[EntryId]:
        """Missing entries up to `reached`, the entry that was read last."""
        order = entry_order(reached)
        return takewhile(lambda entry: entry_order(entry) <= order, self.missing)

    def all_overdue(self, reached: EntryId) -> bool:
        """Whether none of the missing entries can come any more."""
        return entry_order(self.missing[-1]) <= entry_order(reached)


def grouped(items: Collection[ParsedEntry]) -> dict[Conversation, list[ParsedEntry]]:
    """Group items by conversation, in their order."""
    groups: dict[Conversation, list[ParsedEntry]] = {}
    for item in items:
        groups.setdefault(item.conversation, []).append(item)
    return groups
