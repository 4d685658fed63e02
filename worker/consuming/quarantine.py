"""Entries that an owner had in hand when it died: processed under a mark, and quarantined if they go on killing."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Awaitable, Callable, Collection, Sequence

import structlog

from worker.batching.batcher import Batcher
from worker.batching.resumed_batch import ParsedEntry, grouped
from worker.model.causes import DeadLetterKind
from worker.model.ids import Conversation, EntryId, entry_order
from worker.stream.entries import Entries
from worker.stream.leases import Lease

QUARANTINE_AFTER = 3
"""Owners that died while they processed a conversation, in a row, before its entries go to the dead letters."""

DeadLetter = Callable[[dict[EntryId, str], DeadLetterKind], Awaitable[None]]
"""Moves entries to the dead letters: each with its reason, and the kind of all."""

Route = Callable[[Conversation, Collection[EntryId]], None]
"""Routes what a page holds of a conversation, in its order and without some entries."""

log = structlog.get_logger()


class Quarantine:
    """Which entries of one partition are suspects, and what becomes of them."""

    def __init__(self, lease: Lease, batcher: Batcher, entries: Entries, dead_letter: DeadLetter) -> None:
        self._lease = lease
        self._batcher = batcher
        self._entries = entries
        self._dead_letter = dead_letter
        self._log = log.bind(partition=lease.partition)
        self._suspects: set[EntryId] = set()
        self._in_order: deque[EntryId] = deque()
        self._quarantined: set[Conversation] = set()
        self._tried: Counter[Conversation] = Counter()

    def begin(self, survivors: set[EntryId]) -> None:
        """Suspect the entries that have survived an owner, and no others."""
        self._suspects = survivors
        self._in_order = deque(sorted(survivors, key=entry_order))

    def suspects(self, item: ParsedEntry) -> bool:
        """Whether an entry is to be processed by `hold`."""
        return item.id in self._suspects

    async def hold(self, suspects: Sequence[ParsedEntry], route: Route) -> None:
        """Process the suspects of a page, one conversation at a time, under a mark and with its other entries between.

        A batch that kills its worker is so told from its neighbours, which were only near it.

        Raises:
            StreamError: Redis did not answer; what was not held yet is still to be.
        """
        for conversation, items in grouped(suspects).items():
            # Earlier tries of our own ended otherwise, say with a lost connection, and have killed nobody.
            survived = self._tried[conversation]
            self._tried[conversation] += 1
            tries = await self._entries.mark_suspect(self._lease, conversation) - survived
            if tries >= QUARANTINE_AFTER:
                await self._quarantine(conversation, {item.id for item in items}, tries)
                route(conversation, {item.id for item in items})
                continue
            route(conversation, ())
            for encoder in self._batcher.encoders(conversation):
                await encoder.idle()
            await self._entries.clear_suspect(self._lease, conversation)
            del self._tried[conversation]

    async def settle(self, cursor: EntryId) -> None:
        """Forget suspects up to `cursor`; when all have been held, the marks of what was quarantined go too.

        Raises:
            StreamError: Redis did not do it; it may be repeated.
        """
        if not self._suspects and not self._quarantined:
            return
        reached = entry_order(cursor)
        while self._in_order and entry_order(self._in_order[0]) <= reached:
            self._suspects.discard(self._in_order.popleft())
        if not self._suspects:
            for conversation in self._quarantined:
                await self._entries.clear_suspect(self._lease, conversation)
            self._quarantined.clear()

    async def _quarantine(self, conversation: Conversation, entries: set[EntryId], deaths: int) -> None:
        self._quarantined.add(conversation)
        for resumed in self._batcher.resuming():
            if resumed.seal.conversation == conversation:
                await self._entries.unseal(self._lease, resumed.seal)
                entries |= set(resumed.seal.all_ids)
                self._batcher.drop_resumed(resumed)
        reason = f"poison: {deaths} workers in a row ended while they processed it"
        self._log.error("batch.quarantined", conversation=str(conversation), entries=len(entries), deaths=deaths)
        await self._dead_letter(dict.fromkeys(entries, reason), DeadLetterKind.POISON)
