"""The work of an owner on one partition, from the take-over to the release.

The stream holds exactly the audio that is not stored yet, because entries leave it only when they are done. So the
worker has one way to begin and the same way out of every doubt, the rewind: it takes over all pending entries and reads
the stream from its start again.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import partial

import structlog

from worker.batching.batcher import Batcher
from worker.batching.closed_batch import ClosedBatch
from worker.batching.decisions import Decisions
from worker.batching.encoder import BatchEncoder
from worker.batching.resumed_batch import ParsedEntry, ResumedBatch
from worker.consuming.in_flight import InFlight
from worker.consuming.loss_watch import LossWatch
from worker.consuming.quarantine import Quarantine
from worker.consuming.read_size import LOOK, ReadSize
from worker.consuming.sealing_order import in_question, next_to_seal
from worker.consuming.unrouted import Unrouted, chunks_among
from worker.delivery.delivery import Delivery
from worker.delivery.loss_account import LossAccount
from worker.delivery.recovery import Recoveries
from worker.errors import StreamError
from worker.model.causes import RewindCause
from worker.model.holding import ChunksHeld
from worker.model.ids import START, Conversation, EntryId, entry_ms
from worker.model.states import BatchState
from worker.model.stored_blob import StoredBlob
from worker.runtime.context import Context
from worker.stream.entries import Entries
from worker.stream.leases import Lease
from worker.stream.pages import ReadRequest
from worker.stream.replies import Entry, size_of
from worker.stream.takeovers import Takeover

EXPECTED_REWINDS = frozenset({RewindCause.HANDOVER, RewindCause.RECOVERED})
"""Causes that are normal: every roll-out hands over all partitions."""

log = structlog.get_logger()


class Partition:
    """All that its owner knows of a partition; one task calls its methods, and deliveries run beside it.

    `rewind_cause` says why the partition must be taken over before anything is read; None while all is well.
    `read_size` tells how much to read at once. `losses` counts the entries that left Redis without being stored.
    `in_flight` holds the batches that are being delivered.
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
        self.cursor: EntryId = START
        self.caught_up = False
        self.rewind_cause: RewindCause | None = RewindCause.NEW
        self.read_size = ReadSize()
        self.losses = LossAccount(lease.partition, context.metrics, delivery.inquiry.record)
        self.in_flight = InFlight(delivery, self._identities, self._delivered, context)
        self._batcher = batcher
        self._decided = Decisions()
        self._entries = entries
        self._recoveries = recoveries
        self._metrics = context.metrics
        self._digest = context.digest
        self._log = log.bind(partition=lease.partition)
        self._timed = delivery.timed
        self._watch = LossWatch(lease, self.losses, delivery.inquiry)
        self._unrouted = Unrouted()
        self._quarantine = Quarantine(lease, batcher, entries, context)
        self._sealed_before: set[EntryId] = set()
        self._taken_at = batcher.clock()
        self._first_ms = 0

    @property
    def number(self) -> int:
        """The number of the partition."""
        return self.lease.partition

    @property
    def is_idle(self) -> bool:
        """Whether nothing is here to close, to settle or to deliver. Most partitions of many are idle."""
        return (
            self.caught_up
            and self._batcher.is_idle
            and self._decided.is_empty
            and self._quarantine.is_idle
            and not self.in_flight.batches
            and not self._recoveries.are_waiting
        )

    def states(self) -> Counter[BatchState]:
        """Count the batches in each state; closed ones that wait for their seal are still open."""
        counts = Counter(closed.state for closed in self.in_flight.batches.values())
        counts[BatchState.OPEN] += len(self._batcher.open) + len(self._decided.closed)
        counts[BatchState.SEALED] += len(self._batcher.resuming()) + len(self._decided.completed)
        return counts

    @property
    def unsealed(self) -> int:
        """Closed batches that wait for their seal."""
        return len(self._decided.closed)

    @property
    def deliveries(self) -> Collection[asyncio.Task[None]]:
        """The tasks that deliver batches."""
        return self.in_flight.tasks

    @property
    def frees_memory(self) -> bool:
        """Whether memory becomes free here without reading more."""
        return bool(self.in_flight.batches or self._batcher.open)

    def held(self) -> ChunksHeld:
        """The chunks here that are not being delivered, unless the store was found to hold them."""
        decided = [(batch.seal.conversation, batch.chunks) for batch in self._decided.batches() if batch.found is None]
        held: dict[Conversation, dict[EntryId, bytes]] = {}
        for conversation, chunks in (*self._unrouted.held().items(), *decided, *self._batcher.all_held()):
            held.setdefault(conversation, {}).update(chunks)
        return held

    def take_over(self, found: Takeover) -> None:
        """Begin with what a take-over has just found, for the first time or again."""
        self._taken_at = self._batcher.clock()
        self._first_ms = entry_ms(found.identity.first)
        self.lease.clean = True  # the death of the last owner is counted now, and must not count twice
        waiting = [seal for seal in found.seals if seal.id not in self.in_flight.batches]
        self._sealed_before = {*self.in_flight.batches, *(seal.id for seal in waiting)}
        self.losses.sealed(entry for seal in found.seals for entry in seal.all_ids)
        self.losses.vanished(found.vanished)
        self._watch.taken_over(found.identity, self.held())
        self.losses.expect(entry for resumed in self._batcher.resuming() for entry in resumed.missing)
        self.drop()
        self._recoveries.begin(found.identity, forgot=found.forgot)
        self._batcher.reset(waiting, found.tombstones, found.identity, self._recoveries.found)
        self._quarantine.begin(found.survivors)
        self.cursor, self.caught_up, self.rewind_cause = START, False, None
        self._log.debug("partition.taken", seals=len(waiting), survivors=len(found.survivors))

    def rewind(self, cause: RewindCause) -> None:
        """Demand a new take-over before anything else is read or sealed, because something is uncertain."""
        if self.rewind_cause is None:
            self._metrics.rewinds.labels(cause).inc()
            say = log.debug if cause in EXPECTED_REWINDS else log.warning
            self._digest.note(say, "partitions.rewound", cause, cause=cause, first=self.number, sums={"partitions": 1})
        self.rewind_cause = cause

    def drop(self) -> None:
        """Forget every batch that is not being delivered; all of them can be read again."""
        self._batcher.drop()
        self._decided.release()
        self._decided = Decisions()
        self._unrouted.clear()

    def hand_over(self) -> None:
        """Forget what another owner will read, because the partition will be its."""
        self.rewind(RewindCause.HANDOVER)
        self.losses.expect_chunks(self.held())
        self.drop()

    def abandon(self) -> None:
        """Forget the partition, because it is not ours any more; deliveries may end by themselves."""
        self.lease.lost = True
        self.rewind_cause = RewindCause.ABANDONED
        self._watch.abandoned(self.held())
        self.drop()
        self._recoveries.stop()

    def reached_end(self) -> None:
        """Note that the stream ends at the cursor; expected entries that have not come are lost."""
        self.caught_up = True
        self.read_size.reached_end()
        if self.rewind_cause is None:  # else all entries come again
            self.losses.reached_end()

    @property
    def next_pages(self) -> float:
        """How much of a full page `next_read` asks for."""
        return LOOK if self.caught_up else 1.0

    def next_read(self) -> ReadRequest:
        """The request for the next page."""
        pages = self.next_pages
        return ReadRequest(self.lease.partition, self.cursor, self.read_size.count(pages), pages)

    def begin_page(self, page: Sequence[Entry]) -> None:
        """Note what was read, before it is made pending: if the server fails meanwhile, it may have lost these."""
        self._unrouted.begin_page(page)

    async def take(self, request: ReadRequest, page: Sequence[Entry], accepted: set[EntryId]) -> None:
        """Route the entries of a page that are pending with us.

        A page with fewer entries than requested means that the stream held no more. Between the first routed entry and
        the new cursor nothing may fail, because entries that came twice would look like duplicates.
        """
        on_their_way = self.in_flight.conversations()
        ours = accepted - on_their_way.keys()
        items = self._recoverable([self._quarantine.parse(entry) for entry in page if entry.id in ours])
        await self._remember([*self._batcher.unknown(items), *self._batcher.finished_elsewhere(page[-1].id, ours)])
        suspects = [item for item in items if self._quarantine.suspects(item)]
        try:
            await self._quarantine.process(suspects, partial(self._route_one, page, items, on_their_way))
        except StreamError:
            self.rewind(RewindCause.SUSPECT)
            raise
        tried = {item.conversation for item in suspects}
        others = {entry: whose for entry, whose in on_their_way.items() if whose not in tried}
        self._route(page, [item for item in items if item.conversation not in tried], others)
        self._unrouted.end_page()
        self.losses.came(accepted)
        self._miss([entry for entry in page if entry.id not in accepted])
        self.cursor, self.caught_up = page[-1].id, False
        if len(page) < request.count:
            self.reached_end()
        self.read_size.took(len(page), sum(map(size_of, page)))

    async def settle(self) -> None:
        """Carry out the decisions in Redis; every step may be repeated, so the next call does what failed."""
        if self.rewind_cause is None and self._recoveries.finished():
            self.rewind(RewindCause.RECOVERED)
        for step in (self._settle_suspects, self._settle_duplicates, self._discard, self._settle_incomplete):
            if self.rewind_cause is None:
                await step()
        if self.rewind_cause is None:  # a delivery may have ended meanwhile, and have made `found` out of date
            self._adopt_stored()
            await self._seal_closed()

    def close_aged(self, now_ms: int, *, hurry: bool) -> None:
        """Close batches that are too old at Redis' time `now_ms`.

        While there is more to read, the time is that of the stream, so that a backlog is cut as it would have been
        live. `hurry` takes the real time all the same, when reading must wait for memory.
        """
        self._batcher.close_aged(now_ms if self.caught_up or hurry else entry_ms(self.cursor))
        self._collect()

    def close_all(self) -> None:
        """Close every open batch because the worker stops."""
        self._batcher.close_all()
        self._collect()

    def oldest_age(self, now_ms: int, now: float) -> float:
        """Seconds for which the oldest entry that is known and not stored has waited; times as in `Batch.age`.

        For a partition that was taken over and not read yet, the time counts since the take-over.
        """
        oldest = next(iter(self._batcher.open.values()), None)
        batches = [] if oldest is None else [oldest.batch.age(now_ms, now)]
        sent = [
            self._age(entry_ms(closed.seal.id), now_ms, now - closed.closed_at)
            for closed in self.in_flight.batches.values()
        ]
        here = now - self._taken_at
        reached = here if self.cursor == START else self._age(entry_ms(self.cursor), now_ms, here)
        unread = [] if self.caught_up else [reached]
        looked_up = [self._age(self._first_ms, now_ms, here)] if self._recoveries.are_waiting else []
        return max([0.0, *batches, *sent, *unread, *looked_up])

    @staticmethod
    def _age(pushed_ms: int, now_ms: int, here: float) -> float:
        """Seconds since an entry was pushed; if its id is from the future, the seconds that it has been `here`."""
        return (now_ms - pushed_ms) / 1000 if pushed_ms <= now_ms else here

    def _collect(self) -> None:
        """Take what the batcher has decided."""
        self._decided.add(self._batcher.decisions())

    def _miss(self, vanished: Sequence[Entry]) -> None:
        """Read again if entries have vanished since they were read; a failover may have lost them."""
        if vanished:
            self.losses.expect(entry.id for entry in vanished)
            self.losses.expect_chunks(chunks_among(vanished))
            self.rewind(RewindCause.VANISHED)

    def _recoverable(self, parsed: Iterable[ParsedEntry | None]) -> list[ParsedEntry]:
        """Leave out entries whose conversation must be looked up in the store first; they are read again after that."""
        items = [item for item in parsed if item is not None]
        for item in items:
            if self._batcher.is_doubtful(item.id):
                self._recoveries.ask(item.conversation)
        waiting = [item for item in items if self._recoveries.is_waiting(item.conversation)]
        for item in waiting:
            self._unrouted.leave_out(item)
        return [item for item in items if not self._recoveries.is_waiting(item.conversation)]

    def _route_one(
        self,
        page: Sequence[Entry],
        items: Sequence[ParsedEntry],
        elsewhere: Mapping[EntryId, Conversation],
        conversation: Conversation,
        left_out: Collection[EntryId],
    ) -> list[BatchEncoder]:
        """Route what a page holds of one conversation; returns the encoders that work on it."""
        ours = [item for item in items if item.conversation == conversation and item.id not in left_out]
        self._route(page, ours, {entry: whose for entry, whose in elsewhere.items() if whose == conversation})
        return [*self._batcher.encoders(conversation), *self._decided.encoders(conversation)]

    def _route(
        self, page: Sequence[Entry], items: Iterable[ParsedEntry], elsewhere: Mapping[EntryId, Conversation]
    ) -> None:
        """Route entries in their order; a batch never reaches across entries that are being delivered already."""
        found = {item.id: item for item in items}
        for entry in page:
            if entry.id in found:
                self._batcher.route(found[entry.id])
            elif entry.id in elsewhere:
                self._batcher.interrupt(elsewhere[entry.id])
        self._collect()

    async def _remember(self, conversations: Collection[Conversation]) -> None:
        if not conversations:
            return
        asked = list(dict.fromkeys(conversations))
        here = [*self._decided.closed, *self.in_flight.batches.values()]  # before asking: the answer may lack them
        stored = await self._entries.seen(self.lease.partition, asked)
        for conversation, identities in zip(asked, stored, strict=True):
            on_their_way = [
                closed.identities
                for closed in here
                if closed.seal.conversation == conversation
                and not self._batcher.is_deleted(conversation, closed.seal.id)
            ]
            self._batcher.remember(conversation, identities + b"".join(on_their_way))

    async def _settle_suspects(self) -> None:
        await self._quarantine.settle(self.cursor)

    async def _settle_duplicates(self) -> None:
        """Discard duplicates, unless the chunks that they repeat were deleted before they were pushed.

        After a deletion that we did not know of, our memory of chunks is wrong. Then the partition is rewound.
        """
        duplicates = self._decided.duplicates
        if not duplicates:
            return
        if self._batcher.knows(await self._entries.deletions(self.lease.partition, set(duplicates.values()))):
            self._metrics.duplicates.inc(len(duplicates))
            self._decided.discarded += duplicates
            self._decided.duplicates = {}
        else:
            self.rewind(RewindCause.DELETED)

    async def _discard(self) -> None:
        """Remove entries from Redis that hold no audio to store."""
        if not self._decided.discarded:
            return
        if await self._entries.discard(self.lease, self._decided.discarded):
            self._decided.discarded = []
        else:
            self.rewind(RewindCause.REDIS_CHANGED)

    async def _settle_incomplete(self) -> None:
        """Decide on sealed batches with missing entries, when the stream was read beyond them."""
        behind = [resumed for resumed in self._batcher.resuming() if self._is_behind(resumed)]
        if not behind:
            return
        still_sealed = {seal.id for seal in await self._entries.seals(self.lease.partition)}
        for resumed in behind:
            if resumed.seal.id not in still_sealed:  # a former owner finished it meanwhile
                self._batcher.drop_resumed(resumed)
                continue
            missing = list(resumed.missing)
            if resumed.held:
                self._batcher.complete_resumed(resumed)
                self._collect()
            else:
                await self._entries.unseal(self.lease, resumed.seal)
                self._batcher.drop_resumed(resumed)
            self.losses.count(missing)  # last: if Redis refuses, this step is repeated, and each loss counts once

    def _is_behind(self, resumed: ResumedBatch) -> bool:
        if self._recoveries.is_waiting(resumed.seal.conversation):  # then its entries are left out for now
            return False
        return self.caught_up or resumed.all_overdue(self.cursor)

    def _adopt_stored(self) -> None:
        """Finish entries that the store was found to hold: Redis forgot their done step, and perhaps its event."""
        for conversation, entries in list(self._decided.stored.items()):
            for blob, chunks in self._recoveries.by_blob(conversation, entries):
                if len(chunks) < blob.manifest.chunks and not self.caught_up:
                    continue  # its other chunks are about to come, and one event is enough
                seal = blob.seal(conversation, list(chunks))
                self._batcher.close_found(seal, chunks, blob.stored(seal.all_ids))
                for entry in chunks:
                    del entries[entry]
            if not entries:
                del self._decided.stored[conversation]
        self._collect()

    async def _seal_closed(self) -> None:
        """Seal the closed batches that may be sealed, wave after wave, and deliver them."""
        while self.rewind_cause is None and (wave := next_to_seal(self._decided.closed, self._held_back())):
            await self._seal(wave)
        for closed in self._decided.completed:
            self.in_flight.send(closed)
        self._decided.completed = []

    def _held_back(self) -> set[Conversation]:
        """Conversations with an earlier batch in question, see `worker.consuming.sealing_order`."""
        sent = in_question(self.in_flight.batches.values(), self._sealed_before)
        resumed = {resumed.seal.conversation for resumed in self._batcher.resuming()}
        return sent | resumed | {closed.seal.conversation for closed in self._decided.completed}

    async def _seal(self, wave: Sequence[ClosedBatch]) -> None:
        with self._timed("seal"):
            refusals = await self._entries.seal(self.lease, [closed.seal for closed in wave])
        for closed, refused in zip(wave, refusals, strict=True):
            self._decided.closed.remove(closed)
            if refused is None:
                self.in_flight.send(closed)
            else:
                closed.encoder.release()
                self._watch.seal_refused(closed, refused.vanished)
                self.rewind(refused.cause)

    def _delivered(self, closed: ClosedBatch, stored: StoredBlob | None) -> None:
        """Note the end of a delivery; if it failed, or stored not exactly this batch, all is read again."""
        if stored is not None and stored.complete:
            return
        if stored is not None:
            self._recoveries.forget(closed.seal.conversation)
        self._watch.not_stored(closed, stored)
        self.rewind(RewindCause.FAILED if stored is None else RewindCause.PART)

    def _identities(self, conversation: Conversation) -> dict[EntryId, bytes]:
        """Entries of a conversation that are pending with us, and the identities of their chunks."""
        waiting = self._batcher.held(conversation) | self._decided.identities(conversation)
        return self.in_flight.identities(conversation) | waiting
