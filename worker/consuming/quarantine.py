"""Move entries to the dead letters: those that can't be read, and those that kill the workers that process them."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Collection, Sequence

import structlog

from codec.entry import parse, shown
from codec.errors import BadEntry
from worker.batching.batcher import Batcher
from worker.batching.encoder import BatchEncoder
from worker.batching.resumed_batch import ParsedEntry, grouped
from worker.model.causes import DeadLetterKind
from worker.model.ids import Conversation, EntryId, entry_order
from worker.model.reasons import kind_of
from worker.runtime.context import Context
from worker.stream.entries import Entries
from worker.stream.leases import Lease
from worker.stream.replies import Entry

QUARANTINE_AFTER = 3
"""Owners in a row that died while they processed a conversation, before its entries go to the dead letters."""

Route = Callable[[Conversation, Collection[EntryId]], list[BatchEncoder]]
"""Routes a page's entries of a conversation in order, without some entries; returns the encoders at work."""

log = structlog.get_logger()


class Quarantine:
    """Decides on the dead letters of one partition, and moves them.

    Entries that an owner had in hand when it died are suspects. They are processed one conversation at a time, under a
    mark in Redis that outlives this worker.
    """

    def __init__(self, lease: Lease, batcher: Batcher, entries: Entries, context: Context) -> None:
        self._lease = lease
        self._batcher = batcher
        self._entries = entries
        self._metrics = context.metrics
        self._digest = context.digest
        self._log = log.bind(partition=lease.partition)
        self._invalid: dict[EntryId, str] = {}
        self._suspects: set[EntryId] = set()
        self._in_order: deque[EntryId] = deque()
        self._quarantined: set[Conversation] = set()

    @property
    def is_idle(self) -> bool:
        """Whether no entry is in question."""
        return not (self._invalid or self._suspects or self._quarantined)

    def begin(self, survivors: set[EntryId]) -> None:
        """Suspect the entries that have survived the death of an owner, and no others."""
        self._invalid = {}
        self._suspects = survivors
        self._in_order = deque(sorted(survivors, key=entry_order))

    def parse(self, entry: Entry) -> ParsedEntry | None:
        """Read an entry; None if it can't be read and will go to the dead letters."""
        if entry.oversize:
            self._invalid[entry.id] = f"the entry has {entry.oversize} bytes, more than any chunk"
            return None
        if entry.repeated is not None:
            self._invalid[entry.id] = f"field {shown(entry.repeated)} is there more than once"
            return None
        try:
            return ParsedEntry(entry.id, parse(entry.fields))
        except BadEntry as error:
            self._invalid[entry.id] = error.reason
            return None

    def suspects(self, item: ParsedEntry) -> bool:
        """Whether `process` must process an entry."""
        return item.id in self._suspects

    async def process(self, suspects: Sequence[ParsedEntry], route: Route) -> None:
        """Process the suspects of a page, one conversation at a time, under a mark.

        The other entries of the conversation are routed with them, in order. So a conversation that kills its worker is
        told from those that were only near it.

        Raises:
            StreamError: Redis did not answer; the other suspects are not processed yet.
        """
        for conversation, items in grouped(suspects).items():
            owners = await self._entries.mark_suspect(self._lease, conversation)
            if owners >= QUARANTINE_AFTER:
                route(conversation, await self._quarantine(conversation, {item.id for item in items}, owners))
                continue
            for encoder in route(conversation, ()):
                await encoder.idle()
            await self._entries.clear_suspect(self._lease, conversation)

    async def settle(self, cursor: EntryId) -> None:
        """Move entries that can't be read to the dead letters, and forget suspects up to `cursor`.

        When all suspects have been processed, the marks of quarantined conversations go too.

        Raises:
            StreamError: Redis failed; the call may be repeated.
        """
        if self._invalid:
            await self._dead_letter(self._invalid, DeadLetterKind.INVALID)
            self._invalid = {}
        if not self._suspects and not self._quarantined:
            return
        reached = entry_order(cursor)
        while self._in_order and entry_order(self._in_order[0]) <= reached:
            self._suspects.discard(self._in_order.popleft())
        if not self._suspects:
            for conversation in self._quarantined:
                await self._entries.clear_suspect(self._lease, conversation)
            self._quarantined.clear()

    async def _quarantine(self, conversation: Conversation, suspects: set[EntryId], deaths: int) -> set[EntryId]:
        """Move suspects, and all entries of their conversation's sealed batches, to the dead letters; gives all."""
        self._quarantined.add(conversation)
        entries = set(suspects)
        for resumed in self._batcher.resuming():
            if resumed.seal.conversation == conversation:
                await self._entries.unseal(self._lease, resumed.seal)
                entries |= set(resumed.seal.all_ids)
                self._batcher.drop_resumed(resumed)
        reason = f"poison: {deaths} workers in a row ended while they processed it"
        self._log.error("batch.quarantined", conversation=str(conversation), entries=len(entries), deaths=deaths)
        await self._dead_letter(dict.fromkeys(entries, reason), DeadLetterKind.POISON)
        return entries

    async def _dead_letter(self, reasons: dict[EntryId, str], kind: DeadLetterKind) -> None:
        moved = await self._entries.dead_letter(self._lease, reasons)
        self._metrics.dead_letters.labels(kind).inc(moved)
        self._digest.note(
            log.warning,
            "entries.dead_lettered",
            kind,
            kind=kind,
            first_partition=self._lease.partition,
            example=next(iter(reasons.values())),
            sums={"entries": moved},
            tallies={"reasons": Counter(map(kind_of, reasons.values()))},
        )
