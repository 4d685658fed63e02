"""Chunks of a partition that were read and are in no batch yet; a failover may lose them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress

from codec.entry import Chunk, parse
from codec.errors import BadEntry
from worker.batching.resumed_batch import ParsedEntry
from worker.model.holding import ChunksHeld
from worker.model.ids import Conversation, EntryId
from worker.stream.replies import Entry

MAX_LEFT_OUT = 500
"""Entries of waiting conversations that are remembered, the latest ones: those that a failover may lose."""


class Unrouted:
    """The page that is being made pending, and entries that were left out because their conversation must wait."""

    def __init__(self) -> None:
        self._page: Sequence[Entry] = ()
        self._left_out: dict[EntryId, tuple[Conversation, bytes]] = {}

    def begin_page(self, page: Sequence[Entry]) -> None:
        """Note a page before it is made pending."""
        self._page = page

    def end_page(self) -> None:
        """Note that all entries of the page were routed or left out."""
        self._page = ()

    def leave_out(self, item: ParsedEntry) -> None:
        """Note an entry that will be read again."""
        if isinstance(item.content, Chunk):
            self._left_out[item.id] = item.conversation, item.content.identity()
        if len(self._left_out) > MAX_LEFT_OUT:
            del self._left_out[next(iter(self._left_out))]

    def clear(self) -> None:
        """Forget all entries."""
        self.end_page()
        self._left_out = {}

    def held(self) -> ChunksHeld:
        """The chunks of all these entries."""
        return _by_conversation((*self._left_out.items(), *_identified(self._page)))


def chunks_among(entries: Iterable[Entry]) -> ChunksHeld:
    """The chunks among some entries; other entries are passed over."""
    return _by_conversation(_identified(entries))


def _by_conversation(entries: Iterable[tuple[EntryId, tuple[Conversation, bytes]]]) -> ChunksHeld:
    held: dict[Conversation, dict[EntryId, bytes]] = {}
    for entry, (conversation, identity) in entries:
        held.setdefault(conversation, {})[entry] = identity
    return held


def _identified(entries: Iterable[Entry]) -> Iterator[tuple[EntryId, tuple[Conversation, bytes]]]:
    for entry in entries:
        with suppress(BadEntry):
            chunk = parse(entry.fields)
            if isinstance(chunk, Chunk):
                yield entry.id, (Conversation(chunk.uid, chunk.conversation_id), chunk.identity())
