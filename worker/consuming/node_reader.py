"""Reads the owned partitions of one server, turn after turn; a server that hangs delays only its own partitions."""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol, TypeVar

import structlog

from worker.consuming.partition import Partition
from worker.errors import LeaseLost, StreamError
from worker.model.causes import ONE_PARTITION, RewindCause, StreamCause
from worker.runtime.context import Context
from worker.stream.entries import Entries
from worker.stream.pages import ReadRequest
from worker.stream.replies import Entry
from worker.stream.servers.node import Node

T = TypeVar("T")

READ_PAGES = 16
"""Most full pages per round trip; this bounds the memory that one reply takes."""

TAKEN_OVER_TOGETHER = 64
"""Partitions that are taken over in the same round trips: a start with thousands of them takes seconds."""

IDLE_TURNS = 4
"""Turns in which each idle partition is read once. So the first chunk of a conversation may wait for two seconds: this
is little beside a minute of accumulation, and reading is most of what thousands of idle partitions cost. A blocking
XREAD does not help: in a cluster it may name streams of one slot only, so each partition would need a connection."""

log = structlog.get_logger()


class Share(Protocol):
    """What the readers of all servers share, see `Consumer`."""

    @property
    def surplus(self) -> set[int]:
        """Partitions that others should have."""

    def exchange(self, reader: NodeReader) -> None:
        """Give the reader the partitions that are its own now, and take the others."""

    def must_wait(self) -> bool:
        """Whether reading must wait for memory."""

    @property
    def hurries(self) -> bool:
        """Whether batches must close by the real time."""

    async def release(self, partition: Partition) -> None:
        """Release a partition for others."""


class NodeReader:
    """Works on the partitions that `share` gives it: those of one server. One task calls its methods.

    With `drains`, it closes open batches as soon as all entries are read.
    """

    def __init__(self, node: Node, entries: Entries, share: Share, context: Context, *, drains: bool = False) -> None:
        self.node = node
        self.drains = drains
        self.partitions: dict[int, Partition] = {}
        self._entries = entries
        self._share = share
        self._metrics = context.metrics
        self._digest = context.digest
        self._timing = context.timing.reading
        self._clock = context.clock
        self._server_id: str | None = None
        self._next_to_read = 0
        self._turns = 0
        self._left_out: set[int] = set()
        self._surplus_since: dict[int, float] = {}
        self._resting_until: dict[int, float] = {}
        self._refusals: dict[int, tuple[str, float]] = {}
        self.last_turn = self._clock()

    async def turn(self) -> bool:
        """Do everything that can be done now; returns whether there is more to read at once."""
        more = False
        try:
            self._share.exchange(self)  # first: the partitions of a server that died may be elsewhere by now
            await self._check_server()
            await self._take_over_doubtful()
            more = await self._read()
            busy = self._busy()
            self._close_aged(busy)
            await self._settle(busy)
            await self._release_surplus()
        except StreamError as error:
            await self.rest(error)
        self._progressed()
        self._turns += 1
        return more

    async def settle(self) -> None:
        """Let every partition carry out its decisions in Redis."""
        await self._settle(self._busy())

    async def _settle(self, partitions: Sequence[Partition]) -> None:
        for partition in partitions:
            with self._guarded(partition):
                await partition.settle()

    def caught_up(self) -> bool:
        """Whether all entries of these streams have been read."""
        return not self.node.must_recheck and all(
            partition.caught_up and partition.rewind_cause is None for partition in self.partitions.values()
        )

    def taken_over(self) -> list[Partition]:
        """Usable partitions that need no new take-over."""
        return [partition for partition in self._usable() if partition.rewind_cause is None]

    def close_all(self) -> None:
        """Close every open batch, because the worker stops now or after all audio is stored."""
        for partition in self.taken_over():
            partition.close_all()

    async def rest(self, error: StreamError) -> None:
        """Report a failure of the server, and wait before the next try."""
        self._metrics.redis_errors.labels(error.cause).inc()
        log.warning("consumer.redis_failed", error=str(error), node=self.node.name)
        if error.cause is StreamCause.READONLY:
            await self.node.reconnect()
        if error.cause is not StreamCause.LARGE:  # else Redis is well, and the next pages are small
            await asyncio.sleep(self._timing.rest)

    async def _check_server(self) -> None:
        """Rewind all partitions if, after a failure, the server is another one or may have lost its latest writes."""
        if not self.node.must_recheck:
            return
        server_id = await self.node.server_id()
        if self._server_id not in (None, server_id):
            log.warning("redis.changed", before=self._server_id, now=server_id, node=self.node.name)
            for partition in self.partitions.values():
                partition.rewind(RewindCause.REDIS_CHANGED)
        self._server_id = server_id

    async def _take_over_doubtful(self) -> None:
        doubtful = [partition for partition in self._usable() if partition.rewind_cause is not None]
        wanted = [partition for partition in doubtful if partition.number not in self._share.surplus]
        for first in range(0, len(wanted), TAKEN_OVER_TOGETHER):
            await self._take_over(wanted[first : first + TAKEN_OVER_TOGETHER])
            self._progressed()

    async def _take_over(self, partitions: Sequence[Partition]) -> None:
        found = await self._entries.take_over_all([partition.lease for partition in partitions])
        failures: list[tuple[Partition, StreamError]] = []
        for partition, takeover in zip(partitions, found, strict=True):
            if isinstance(takeover, StreamError):
                failures.append((partition, takeover))
            else:
                partition.take_over(takeover)
        for partition, failure in failures:  # last: a server that fails ends this turn
            with self._guarded(partition):
                raise failure

    async def _read(self) -> bool:
        for partitions in self._round_trips():
            if self._share.must_wait():
                self._next_to_read = partitions[0].number
                return False
            await self._read_some(partitions)
        return any(not partition.caught_up for partition in self._readable())

    def _round_trips(self) -> Iterator[list[Partition]]:
        """Group partitions to read together: few that fill their pages, or many that have no backlog."""
        together: list[Partition] = []
        pages = 0.0
        for partition in self._in_turn():
            size = READ_PAGES if partition.read_size.one_at_a_time else partition.next_pages
            if pages + size > READ_PAGES:
                yield together
                together, pages = [], 0.0
            together.append(partition)
            pages += size
        if together:
            yield together

    async def _read_some(self, partitions: list[Partition]) -> None:
        requests = [partition.next_read() for partition in partitions]
        pages: list[tuple[Partition, ReadRequest, list[Entry]]] = []
        for partition, request, page in zip(partitions, requests, await self._ask(partitions, requests), strict=True):
            if isinstance(page, StreamError):
                with self._guarded(partition):
                    raise page
            elif page:
                pages.append((partition, request, page))
            else:
                partition.reached_end()
        if not pages:
            return
        for partition, _, page in pages:
            partition.begin_page(page)
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
            return [await self._entries.pages.read_next(request) for request in requests]
        try:
            return await self._entries.pages.read(requests)
        except StreamError:
            for partition in partitions:
                partition.read_size.failed()
            raise

    def _close_aged(self, partitions: Sequence[Partition]) -> None:
        for partition in partitions:
            if partition.rewind_cause is None:
                partition.close_aged(self.node.now_ms(), hurry=self._share.hurries)
        if self.drains and self.caught_up():
            self.close_all()

    async def _release_surplus(self) -> None:
        """Hand over the partitions that others should have: stop reading, let uploads end, release."""
        now = self._clock()
        for number in self._share.surplus & self.partitions.keys():
            partition = self.partitions[number]
            partition.hand_over()
            patience_ends = self._surplus_since.setdefault(number, now) + self._timing.handover
            if partition.deliveries and now < patience_ends:
                continue
            await self._share.release(partition)
        self._surplus_since = {n: since for n, since in self._surplus_since.items() if n in self._share.surplus}

    def _usable(self) -> list[Partition]:
        now = self._clock()
        resting = {number for number, until in self._resting_until.items() if now < until}
        return [
            partition
            for number, partition in self.partitions.items()
            if partition.lease.usable(now) and number not in resting
        ]

    def _busy(self) -> list[Partition]:
        """Usable partitions that hold anything: few of many. What is not read stays idle."""
        looked_at = [partition for partition in self._usable() if partition.number not in self._left_out]
        return [partition for partition in looked_at if not partition.is_idle]

    def _readable(self) -> list[Partition]:
        surplus = self._share.surplus
        return [partition for partition in self.taken_over() if partition.number not in surplus]

    def _in_turn(self) -> list[Partition]:
        """What is to be read in this turn: first the partitions that were not reached the last time."""
        readable = {partition.number: partition for partition in self._readable()}
        self._left_out = {number for number, partition in readable.items() if not self._is_due(number, partition)}
        numbers = sorted(readable.keys() - self._left_out)
        first = bisect_left(numbers, self._next_to_read)
        return [readable[number] for number in numbers[first:] + numbers[:first]]

    def _is_due(self, number: int, partition: Partition) -> bool:
        if (number + self._turns) % IDLE_TURNS == 0 or self.drains:
            return True
        return not (partition.caught_up and (number in self._left_out or partition.is_idle))

    @contextmanager
    def _guarded(self, partition: Partition) -> Iterator[None]:
        """Keep the failure of one partition from the others."""
        try:
            yield
        except LeaseLost:
            partition.lease.lost = True
        except StreamError as error:
            if error.cause not in ONE_PARTITION:
                raise
            partition.rewind(RewindCause.REFUSED)
            self._resting_until[partition.number] = self._clock() + self._timing.rest
            self._metrics.redis_errors.labels(error.cause).inc()
            self._report_refusal(partition.number, str(error))

    def _report_refusal(self, partition: int, error: str) -> None:
        """Log a refusal when it is new, and then now and then: a broken key refuses in every turn."""
        now = self._clock()
        told, when = self._refusals.get(partition, ("", 0.0))
        if told != error or now >= when + self._timing.remind:
            self._refusals[partition] = error, now
            self._digest.note(log.warning, "partition.refused", partition=partition, error=error)

    def _progressed(self) -> None:
        self.last_turn = self._clock()


def _checked(reply: T | StreamError) -> T:
    if isinstance(reply, StreamError):
        raise reply
    return reply
