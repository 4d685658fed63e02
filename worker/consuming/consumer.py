"""The reading side of the worker: turn after turn, from the owned streams into their partitions."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

import structlog

from worker.batching.memory import MemoryBudget
from worker.consuming.partition import Partition
from worker.coordination.ownership import Ownership
from worker.errors import LeaseLost, StreamError
from worker.model.causes import RewindCause, StreamCause
from worker.model.ids import EntryId
from worker.runtime.context import Context
from worker.runtime.tasks import end
from worker.stream.entries import Entries, ReadRequest
from worker.stream.leases import Lease
from worker.stream.replies import Entry

READ_PAGES = 16
"""Most full pages per round trip; this bounds the memory that one reply takes."""

log = structlog.get_logger()


class Consumer:
    """Works on the partitions whose leases `ownership` holds. One task calls its methods."""

    def __init__(
        self,
        entries: Entries,
        ownership: Ownership,
        begin: Callable[[Lease], Partition],
        budget: MemoryBudget,
        context: Context,
    ) -> None:
        self._client = entries.client
        self._entries = entries
        self._ownership = ownership
        self._begin = begin
        self.budget = budget
        self._metrics = context.metrics
        self._digest = context.digest
        self._timing = context.timing.reading
        self._server_id: str | None = None
        self._next_to_read = 0
        self._paused = False
        self._surplus_since: dict[int, float] = {}
        self._resting_until: dict[int, float] = {}
        self._refusals: dict[int, tuple[str, float]] = {}
        self._held_before: dict[int, tuple[int, set[EntryId]]] = {}
        self.partitions: dict[int, Partition] = {}
        self.abandoned: list[Partition] = []
        self.last_turn = self._client.clock()

    async def turn(self) -> bool:
        """Do everything that can be done now; returns whether there is more to read at once."""
        more = False
        try:
            await self._check_server()
            self._follow_leases()
            await self._take_over_doubtful()
            more = await self._read()
            self._close_aged()
            await self.settle()
            await self._release_surplus()
        except StreamError as error:
            await self.rest(error)
        self._progressed()
        return more

    async def settle(self) -> None:
        """Let every partition carry out its decisions in Redis."""
        for partition in self._usable():
            with self._guarded(partition):
                await partition.settle()

    def caught_up(self) -> bool:
        """Whether all entries of the owned streams have been read."""
        return not self._client.must_recheck_server and all(
            partition.caught_up and partition.rewind_cause is None for partition in self.partitions.values()
        )

    def taken_over(self) -> list[Partition]:
        """Usable partitions that need no new take-over."""
        return [partition for partition in self._usable() if partition.rewind_cause is None]

    def close_all(self) -> None:
        """Close every open batch, because the worker stops now or after all audio is stored."""
        for partition in self.taken_over():
            partition.close_all()

    async def stored(self, within: float) -> bool:
        """Wait up to `within` seconds for the deliveries; returns whether all of them have ended."""
        deliveries = [delivery for partition in self.partitions.values() for delivery in partition.deliveries]
        if not deliveries:
            return True
        _, unfinished = await asyncio.wait(deliveries, timeout=within)
        return not unfinished

    async def release(self, partition: Partition) -> None:
        """Release a partition; uploads still under way are left to the next owner."""
        partition.abandon()
        await end(list(partition.deliveries))
        del self.partitions[partition.number]
        await self._ownership.release(partition.number)

    async def rest(self, error: StreamError) -> None:
        """Report a failure of Redis, and wait before the next try."""
        self._metrics.redis_errors.labels(error.cause).inc()
        log.warning("consumer.redis_failed", error=str(error))
        if error.cause is StreamCause.READONLY:
            await self._client.reconnect()
        if error.cause is not StreamCause.LARGE:  # else Redis is well, and the next pages are small
            await asyncio.sleep(self._timing.rest)

    async def _check_server(self) -> None:
        """Rewind all partitions if, after a failure, the server is another one or may have lost its latest writes."""
        if not self._client.must_recheck_server:
            return
        self._client.must_recheck_server = False
        server_id = await self._client.server_id()
        if self._server_id not in (None, server_id):
            log.warning("redis.changed", before=self._server_id, now=server_id)
            for partition in self.partitions.values():
                partition.rewind(RewindCause.REDIS_CHANGED)
        self._server_id = server_id

    def _follow_leases(self) -> None:
        for number, partition in list(self.partitions.items()):
            if self._ownership.leases.get(number) is not partition.lease or partition.lease.lost:
                del self.partitions[number]
                self._held_before[number] = partition.lease.generation, partition.held()
                partition.abandon()
                self.abandoned.append(partition)
        for number, lease in self._ownership.leases.items():
            if number not in self.partitions and not lease.lost:
                self.partitions[number] = self._begin(lease)
                generation, held = self._held_before.pop(number, (0, set()))
                if lease.generation <= generation:  # Redis forgot our lease, and perhaps these entries
                    self.partitions[number].losses.expect(held)
        self.abandoned = [partition for partition in self.abandoned if partition.deliveries]

    async def _take_over_doubtful(self) -> None:
        for partition in self._usable():
            if partition.rewind_cause is not None and partition.number not in self._ownership.surplus:
                with self._guarded(partition):
                    await partition.take_over()

    async def _read(self) -> bool:
        for partitions in self._round_trips():
            if self._must_wait():
                self._next_to_read = partitions[0].number
                return False
            await self._read_some(partitions)
        return any(not partition.caught_up for partition in self._readable())

    def _round_trips(self) -> Iterator[list[Partition]]:
        """Group partitions to read together: few that fill their pages, or many that have no backlog."""
        together: list[Partition] = []
        pages = 0.0
        for partition in self._readable():
            size = READ_PAGES if partition.read_size.one_at_a_time else partition.next_pages
            if pages + size > READ_PAGES:
                yield together
                together, pages = [], 0.0
            together.append(partition)
            pages += size
        if together:
            yield together

    def _must_wait(self) -> bool:
        """Whether reading must wait, because it would only fill memory.

        Reading goes on if memory can't become free without it: resumed batches need their missing entries.
        """
        room_will_come = any(partition.frees_memory for partition in [*self.partitions.values(), *self.abandoned])
        paused = self.budget.exhausted and room_will_come
        if paused != self._paused:
            log.warning("reading.paused" if paused else "reading.resumed", held=self.budget.used)
        self._paused = paused
        self._metrics.paused.set(paused)
        return paused or self.budget.behind

    async def _read_some(self, partitions: list[Partition]) -> None:
        requests = [partition.next_read() for partition in partitions]
        pages: list[tuple[Partition, ReadRequest, list[Entry]]] = []
        for partition, request, page in zip(partitions, requests, await self._ask(partitions, requests), strict=True):
            with self._guarded(partition):
                if page := _checked(page):
                    pages.append((partition, request, page))
                else:
                    partition.reached_end()
        if not pages:
            return
        accepted = await self._entries.accept([(p.lease, [entry.id for entry in page]) for p, _, page in pages])
        for (partition, request, page), ids in zip(pages, accepted, strict=True):
            with self._guarded(partition):
                await partition.take(request, page, _checked(ids))
            self._progressed()

    async def _ask(
        self, partitions: Sequence[Partition], requests: Sequence[ReadRequest]
    ) -> Sequence[list[Entry] | StreamError]:
        """Read pages; if that fails, they may have been too large, and the next ones are small."""
        if partitions[0].read_size.one_at_a_time:
            return [await self._entries.read_next(request) for request in requests]
        try:
            return await self._entries.read(requests)
        except StreamError:
            for partition in partitions:
                partition.read_size.failed()
            raise

    def _close_aged(self) -> None:
        for partition in self.taken_over():
            partition.close_aged(self._client.now_ms(), hurry=self.budget.exhausted)

    async def _release_surplus(self) -> None:
        """Hand over the partitions that others should have: stop reading, let uploads end, release."""
        now = self._client.clock()
        for number in self._ownership.surplus & self.partitions.keys():
            partition = self.partitions[number]
            partition.rewind(RewindCause.HANDOVER)
            partition.drop()
            patience_ends = self._surplus_since.setdefault(number, now) + self._timing.handover
            if partition.deliveries and now < patience_ends:
                continue
            await self.release(partition)
        self._surplus_since = {n: since for n, since in self._surplus_since.items() if n in self._ownership.surplus}

    def _usable(self) -> list[Partition]:
        now = self._client.clock()
        return [
            partition
            for number, partition in self.partitions.items()
            if partition.lease.usable(now) and now >= self._resting_until.get(number, now)
        ]

    def _readable(self) -> list[Partition]:
        """Partitions in turn: first those that were not reached the last time."""
        found = [partition for partition in self.taken_over() if partition.number not in self._ownership.surplus]
        return sorted(found, key=lambda partition: (partition.number < self._next_to_read, partition.number))

    @contextmanager
    def _guarded(self, partition: Partition) -> Iterator[None]:
        """Keep the failure of one partition from the others."""
        try:
            yield
        except LeaseLost:
            partition.lease.lost = True
        except StreamError as error:
            if error.cause is not StreamCause.REFUSED:
                raise
            partition.rewind(RewindCause.REFUSED)
            self._resting_until[partition.number] = self._client.clock() + self._timing.rest
            self._metrics.redis_errors.labels(error.cause).inc()
            self._report_refusal(partition.number, str(error))

    def _report_refusal(self, partition: int, error: str) -> None:
        """Log a refusal when it is new, and then now and then: a broken key refuses in every turn."""
        now = self._client.clock()
        told, when = self._refusals.get(partition, ("", 0.0))
        if told != error or now >= when + self._timing.remind:
            self._refusals[partition] = error, now
            self._digest.note(log.warning, "partition.refused", partition=partition, error=error)

    def _progressed(self) -> None:
        self.last_turn = self._client.clock()


T = TypeVar("T")


def _checked(reply: T | StreamError) -> T:
    if isinstance(reply, StreamError):
        raise reply
    return reply
