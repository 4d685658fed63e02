"""One partition in the hands of its owner: what its batcher decides is done in Redis and handed to delivery.

The stream holds exactly what is not stored yet, because entries leave it only when they are done. So there is one way
to begin, and the same way out of every doubt: take over what is pending and read the stream from its start again.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import partial

import structlog

from worker.batching.batcher import Batcher
from worker.batching.closed_batch import ClosedBatch
from worker.batching.resumed_batch import ParsedEntry, ResumedBatch
from worker.consuming.quarantine import Quarantine
from worker.consuming.read_size import LOOK, ReadSize
from worker.delivery.delivery import Delivery
from worker.delivery.loss_account import LossAccount
from worker.delivery.recovery import Recoveries
from worker.errors import StreamError
from worker.model.ids import START, Conversation, EntryId, entry_ms
from worker.runtime.context import Context
from worker.stream.entries import Entries, Entry, ReadRequest, size_of
from worker.stream.leases import Lease

EXPECTED_REWINDS = frozenset({"handover", "recovered"})
"""Causes that are no trouble: every roll-out hands over everything."""

log = structlog.get_logger()


class Partition:
    """All that its owner knows of a partition. One task calls its methods; deliveries run beside it.

    `doubt` says why the partition must be taken over before anything is read; None while all is well. `read_size` tells
    how much to read at once, `losses` what left Redis without being stored.
    """

    def __init__(
        self,
        lease: Lease,
        batcher: Batcher,
        entries: Entries,
        delivery: Delivery,
        recoveries: Recoveries,
        context: Context,
    ) -> None:
        self.lease = lease
        self.batcher = batcher
        self.cursor: EntryId = START
        self.caught_up = False
        self.rewind_cause: str | None = "new"
        self.read_size = ReadSize()
        self.losses = LossAccount(lease.partition, context.metrics)
        self.in_flight: dict[EntryId, ClosedBatch] = {}
        self.deliveries: set[asyncio.Task[None]] = set()
        self._last_of_name: dict[str, asyncio.Task[None]] = {}
        self._entries = entries
        self._delivery = delivery
        self._recoveries = recoveries
        self._metrics = context.metrics
        self._timing = context.timing.reading
        self._log = log.bind(partition=lease.partition)
        self._quarantine = Quarantine(lease, batcher, entries, self._dead_letter)
        self._failures: Counter[EntryId] = Counter()
        self._in_question: set[EntryId] = set()
        self._taken_ms = 0
        self._taken_at = 0.0
        self._first_ms = 0

    @property
    def number(self) -> int:
        """Which partition it is."""
        return self.lease.partition

    async def take_over(self, now_ms: int) -> None:
        """Begin, or begin again, at Redis' time `now_ms`."""
        found = await self._entries.take_over(self.lease)
        self._taken_ms, self._taken_at = now_ms, self.batcher.clock()
        self._first_ms = entry_ms(found.identity.first)
        self.lease.clean = True  # the death of the owner before us is counted, and once is enough
        waiting = [seal for seal in found.seals if seal.id not in self.in_flight]
        self._in_question = {*self.in_flight, *(seal.id for seal in waiting)}
        self.losses.sealed(entry for seal in found.seals for entry in seal.all_ids)
        self.losses.vanished(found.vanished)
        self.losses.expect(self.batcher.all_held())
        self._recoveries.begin(found.identity)
        self.batcher.reset(waiting, found.tombstones, found.identity, self._recoveries.found)
        self._quarantine.begin(found.survivors)
        self.cursor, self.caught_up, self.rewind_cause = START, False, None
        self._log.debug("partition.taken", seals=len(waiting), survivors=len(found.survivors))

    def rewind(self, cause: str) -> None:
        """Something is not as we believed: take over again before anything else is read or sealed."""
        if self.rewind_cause is None:
            self._metrics.rewinds.labels(cause).inc()
            say = self._log.debug if cause in EXPECTED_REWINDS else self._log.warning
            say("partition.rewound", cause=cause)
        self.rewind_cause = cause

    def abandon(self) -> None:
        """The partition is no longer ours: forget it; what is on its way may end by itself."""
        self.lease.lost = True
        self.rewind_cause = "abandoned"
        self.batcher.drop()
        self._recoveries.stop()

    def reached_end(self) -> None:
        """The stream holds nothing beyond the cursor; what was pending with us and has not come is lost."""
        self.caught_up = True
        self.read_size.reached_end()
        if self.rewind_cause is None:  # else all comes again
            self.losses.reached_end()

    @property
    def next_pages(self) -> float:
        """How much of a full page `next_read` asks for."""
        return LOOK if self.caught_up else 1.0

    def next_read(self) -> ReadRequest:
        """What to read now."""
        return ReadRequest(self.lease.partition, self.cursor, self.read_size.count(self.next_pages))

    async def take(self, request: ReadRequest, page: Sequence[Entry], accepted: set[EntryId]) -> None:
        """Route entries that are pending with us; fewer of them than requested mean that the stream held no more.

        Between the first routed entry and the new cursor nothing may fail: entries that came twice would look like
        duplicates.
        """
        on_their_way = self._on_their_way()
        ours = accepted - on_their_way.keys()
        items = self._recoverable([self.batcher.parse(*entry) for entry in page if entry.id in ours])
        await self._remember([*self.batcher.unknown(items), *self.batcher.finished_elsewhere(page[-1].id, ours)])
        suspects = [item for item in items if self._quarantine.suspects(item)]
        try:
            await self._quarantine.hold(suspects, partial(self._route_one, page, items, on_their_way))
        except StreamError:
            self.rewind("suspect")
            raise
        tried = {item.conversation for item in suspects}
        others = {entry: whose for entry, whose in on_their_way.items() if whose not in tried}
        self._route(page, [item for item in items if item.conversation not in tried], others)
        self.losses.expect({entry.id for entry in page} - accepted)
        self.losses.came(accepted)
        self.cursor, self.caught_up = page[-1].id, False
        if len(page) < request.count:
            self.reached_end()
        self.read_size.took(len(page), sum(map(size_of, page)))

    async def settle(self) -> None:
        """Do in Redis what was decided. Every step may be repeated, so what fails is left for the next call."""
        if self.rewind_cause is None and self._recoveries.finished():
            self.rewind("recovered")
        if self.rewind_cause is None:
            await self._quarantine.settle(self.cursor)
            await self._settle_duplicates()
        if self.rewind_cause is None:
            await self._remove_refuse()
        if self.rewind_cause is None:
            await self._settle_incomplete()
        if (
            self.rewind_cause is None
        ):  # a delivery may have ended meanwhile, and what was found may not be true any more
            self._adopt_stored()
            await self._seal_closed()

    def close_aged(self, now_ms: int, *, hurry: bool) -> None:
        """Close batches that are too old at Redis' time `now_ms`.

        While there is more to read, the time is what the stream says, so that a backlog is cut as it would have been
        live; `hurry` takes the real time all the same, when nothing may be read until memory is free.
        """
        self.batcher.close_aged(now_ms if self.caught_up or hurry else entry_ms(self.cursor))

    async def stored(self) -> None:
        """Wait until everything on its way is done."""
        while self.deliveries:
            await asyncio.wait(self.deliveries)

    def oldest_age(self, now_ms: int, now: float) -> float:
        """Seconds for which the oldest entry that is known and not stored has waited; times as in `Batch.age`.

        Of a partition that was only taken over, not read yet, it is known since when it waits with us.
        """
        oldest = next(iter(self.batcher.open.values()), None)
        batches = [] if oldest is None else [oldest.batch.age(now_ms, now)]
        sent = [
            self._age(entry_ms(closed.seal.id), now_ms, now - closed.closed_at) for closed in self.in_flight.values()
        ]
        here = now - self._taken_at
        unread = [] if self.caught_up else [self._age(entry_ms(self.cursor) or self._taken_ms, now_ms, here)]
        looked_up = [self._age(self._first_ms, now_ms, here)] if self._recoveries.are_waiting else []
        return max([0.0, *batches, *sent, *unread, *looked_up])

    @staticmethod
    def _age(pushed_ms: int, now_ms: int, here: float) -> float:
        """Seconds since an entry was pushed; if its id is from the future, those for which it has been here."""
        return (now_ms - pushed_ms) / 1000 if pushed_ms <= now_ms else here

    async def count_unread_losses(self) -> None:
        """Count entries that somebody removed from the stream before any owner had read them."""
        self.losses.count_unread(await self._entries.count_unread_losses(self.lease))

    def _on_their_way(self) -> dict[EntryId, Conversation]:
        return {entry: closed.seal.conversation for closed in self.in_flight.values() for entry in closed.seal.all_ids}

    def _recoverable(self, parsed: Iterable[ParsedEntry | None]) -> list[ParsedEntry]:
        """Without those whose conversation must be looked for in the store first: they are read again after that."""
        items = [item for item in parsed if item is not None]
        for item in items:
            if self.batcher.is_doubtful(item.id):
                self._recoveries.ask(item.conversation)
        return [item for item in items if not self._recoveries.is_waiting(item.conversation)]

    def _route_one(
        self,
        page: Sequence[Entry],
        items: Sequence[ParsedEntry],
        elsewhere: Mapping[EntryId, Conversation],
        conversation: Conversation,
        left_out: Collection[EntryId],
    ) -> None:
        """Route what a page holds of one conversation."""
        ours = [item for item in items if item.conversation == conversation and item.id not in left_out]
        self._route(page, ours, {entry: whose for entry, whose in elsewhere.items() if whose == conversation})

    def _route(
        self, page: Sequence[Entry], items: Iterable[ParsedEntry], elsewhere: Mapping[EntryId, Conversation]
    ) -> None:
        """Route entries in their order; a batch never reaches across what is on its way already."""
        found = {item.id: item for item in items}
        for entry in page:
            if entry.id in found:
                self.batcher.route(found[entry.id])
            elif entry.id in elsewhere:
                self.batcher.interrupt(elsewhere[entry.id])

    def _adopt_stored(self) -> None:
        """Finish what the store was found to hold: its done step was forgotten, perhaps with its event."""
        for conversation, entries in list(self.batcher.stored.items()):
            for blob, chunks in self._recoveries.by_blob(conversation, entries):
                if len(chunks) < blob.manifest.chunks and not self.caught_up:
                    continue  # the others of them are about to come, and one event is enough
                seal = blob.seal(conversation, list(chunks))
                self.batcher.close_found(seal, chunks, blob.stored(seal.all_ids))
                for entry in chunks:
                    del entries[entry]
            if not entries:
                del self.batcher.stored[conversation]

    async def _seal_closed(self) -> None:
        """Seal what is closed: a conversation's batches one by one, and none while an earlier one is in question.

        Should that turn out not to be stored as it was sealed, its rest is read again: if later audio were sealed by
        then, the rest would come after it, or be joined with what follows it.
        """
        while self.rewind_cause is None and (wave := self._next_to_seal()):
            await self._seal(wave)
        for closed in self.batcher.completed:
            self._send(closed)
        self.batcher.completed = []

    def _next_to_seal(self) -> list[ClosedBatch]:
        """The first closed batch of each conversation that may be sealed."""
        held_back = self._conversations_in_question()
        ready = [closed for closed in self.batcher.closing if closed.seal.conversation not in held_back]
        return list({closed.seal.conversation: closed for closed in reversed(ready)}.values())

    async def _seal(self, wave: Sequence[ClosedBatch]) -> None:
        with self._delivery.timed("seal"):
            refusals = await self._entries.seal(self.lease, [closed.seal for closed in wave])
        for closed, refused in zip(wave, refusals, strict=True):
            self.batcher.closing.remove(closed)
            if refused is None:
                self._send(closed)
            else:
                closed.encoder.release()
                self.losses.expect(refused.vanished or closed.seal.all_ids)
                self.rewind(refused.cause)

    def _conversations_in_question(self) -> set[Conversation]:
        """Those with a sealed batch of which it is not known yet whether it is stored just so.

        That is of each that was sealed before, or may have been: Redis can forget a seal, and nothing tells.
        """
        sent = {
            closed.seal.conversation
            for entry, closed in self.in_flight.items()
            if closed.recovered or entry in self._in_question
        }
        resumed = {resumed.seal.conversation for resumed in self.batcher.resuming()}
        return sent | resumed | {closed.seal.conversation for closed in self.batcher.completed}

    def _send(self, closed: ClosedBatch) -> None:
        self.in_flight[closed.seal.id] = closed
        name = closed.seal.object
        before = self._last_of_name.get(name)
        task = asyncio.create_task(self._deliver(closed, before), name=f"deliver {closed.seal.id}")
        self._last_of_name[name] = task
        self.deliveries.add(task)
        task.add_done_callback(partial(self._forget, name))

    def _forget(self, name: str, task: asyncio.Task[None]) -> None:
        self.deliveries.discard(task)
        if self._last_of_name.get(name) is task:
            del self._last_of_name[name]

    async def _deliver(self, closed: ClosedBatch, before: asyncio.Task[None] | None) -> None:
        """Store a batch, after the one `before` that would have the same name: the later audio gets the later name."""
        pending = partial(self._pending, closed.seal.conversation)
        try:
            if before is not None:
                await asyncio.wait([before])
            stored = await self._delivery.deliver(closed, pending)
        except Exception as error:  # noqa: BLE001 -- whatever it is, it must not stop the other conversations
            await self._rest_after(error, closed)
            self.losses.expect(closed.seal.all_ids)
            self.rewind("failed")
        else:
            self._failures.pop(closed.seal.id, None)
            if not stored.complete:
                self._recoveries.forget(closed.seal.conversation)
                self.losses.expect(closed.seal.all_ids)
                self.losses.stored_beside(stored.covered)
                if stored.orphan is not None:
                    self.losses.orphaned(stored.orphan)
                self.rewind("part")
        finally:
            del self.in_flight[closed.seal.id]
            closed.encoder.release()

    async def _rest_after(self, error: Exception, closed: ClosedBatch) -> None:
        """Report a failure that nobody foresaw, and wait: the entries are in Redis, and are tried again."""
        self._failures[closed.seal.id] += 1
        failures = self._failures[closed.seal.id]
        self._metrics.failures.labels(type(error).__name__).inc()
        self._log.error("batch.failed", object=closed.seal.object, failures=failures, exc_info=error)
        await asyncio.sleep(self._timing.batch_retry.after(failures))

    def _pending(self, conversation: Conversation) -> dict[EntryId, bytes]:
        on_their_way = [closed for closed in self.in_flight.values() if closed.seal.conversation == conversation]
        sealed = {entry: identity for closed in on_their_way for entry, identity in closed.chunks.items()}
        return sealed | self.batcher.held(conversation)

    async def _remember(self, conversations: Collection[Conversation]) -> None:
        if not conversations:
            return
        asked = list(dict.fromkeys(conversations))
        in_flight = list(self.in_flight.values())  # before asking: what ends meanwhile may not be in the answer
        stored = await self._entries.seen(self.lease.partition, asked)
        for conversation, identities in zip(asked, stored, strict=True):
            on_their_way = [
                closed.identities
                for closed in in_flight
                if closed.seal.conversation == conversation
                and not self.batcher.is_deleted(conversation, closed.seal.id)
            ]
            self.batcher.remember(conversation, identities + b"".join(on_their_way))

    async def _settle_duplicates(self) -> None:
        """Twins are void, unless what they repeat was deleted before they were pushed.

        Nobody told us of a deletion; then all that we remember is from before it, and we begin again.
        """
        duplicates = self.batcher.duplicates
        if not duplicates:
            return
        if self.batcher.knows(await self._entries.deletions(self.lease.partition, set(duplicates.values()))):
            self.batcher.confirm_duplicates()
        else:
            self.rewind("deleted")

    async def _remove_refuse(self) -> None:
        """Take out of Redis what holds no audio to store: bad entries with their reasons, and void ones."""
        if self.batcher.bad:
            await self._dead_letter(self.batcher.bad, "invalid")
            self.batcher.bad = {}
        if self.batcher.void:
            if await self._entries.discard(self.lease, self.batcher.void):
                self.batcher.void = []
            else:
                self.rewind("redis_changed")

    async def _dead_letter(self, reasons: dict[EntryId, str], kind: str) -> None:
        buried = await self._entries.dead_letter(self.lease, reasons)
        self._metrics.dead_letters.labels(kind).inc(buried)
        self._log.warning("entries.dead_lettered", kind=kind, entries=buried, reason=next(iter(reasons.values())))

    async def _settle_incomplete(self) -> None:
        """Decide on sealed batches of which not all entries came, though the stream was read beyond them."""
        behind = [resumed for resumed in self.batcher.resuming() if self._is_behind(resumed)]
        if not behind:
            return
        still_sealed = {seal.id for seal in await self._entries.seals(self.lease.partition)}
        for resumed in behind:
            if resumed.seal.id not in still_sealed:  # a former owner finished it meanwhile
                self.batcher.drop_resumed(resumed)
                continue
            self.losses.count(resumed.missing)
            if resumed.held:
                self.batcher.complete_resumed(resumed)
            else:
                await self._entries.unseal(self.lease, resumed.seal)
                self.batcher.drop_resumed(resumed)

    def _is_behind(self, resumed: ResumedBatch) -> bool:
        if self._recoveries.is_waiting(resumed.seal.conversation):  # then its entries are left out for now
            return False
        return self.caught_up or resumed.all_overdue(self.cursor)
