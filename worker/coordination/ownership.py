"""Membership and leases of this worker: heartbeat, renew, take our share, offer the rest to others."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

import structlog

from worker.coordination.assignment import assign
from worker.errors import StreamError
from worker.model.causes import ONE_PARTITION, LastOwner, StreamCause
from worker.runtime.context import Context
from worker.stream.client import Client
from worker.stream.leases import Lease, Leases, Member

TICKS_PER_TTL = 15
"""Ticks in one lease TTL: a clean handover waits for one tick, a crash for the TTL."""

RENEWALS_PER_TTL = 5
"""Of each lease. A failed renewal is tried again at every tick; work stops two thirds of the TTL after the last one."""

RELEASES_AT_ONCE = 8
"""Each release takes a connection to Redis, and a worker that stops releases all its leases."""

log = structlog.get_logger()


class Ownership:
    """Keeps `leases`, the leases this worker holds, up to date; `surplus` are partitions that others should have.

    `difference` says how the settings that Redis records differ from ours, for example after a flush of Redis.
    `unlisted` says why the list of workers can't be read; then this worker counts as the only one. `leads` says whether
    it does what one of all workers is enough for.

    This class only changes leases. The consumer of the partitions looks at the leases, and calls `release` when a
    partition has no work in flight.
    """

    def __init__(
        self,
        client: Client,
        leases: Leases,
        member: Member,
        report: Callable[[Member], Member],
        context: Context,
    ) -> None:
        self._client = client
        self._leases = leases
        self._member = member
        self._report_of = report
        self._metrics = context.metrics
        self._digest = context.digest
        self._ttl = leases.ttl
        self._tick_seconds = leases.ttl / TICKS_PER_TTL
        self._leaving = False
        self._release_slots = asyncio.Semaphore(RELEASES_AT_ONCE)
        self._dividing = asyncio.Lock()
        self._generations: dict[int, int] = {}
        self._refused: set[str] = set()
        self._listed: Sequence[Member] = [member]
        self._listed_at = client.clock()
        self._divided_among: Sequence[Member] = []
        self._divided_partitions = 0
        self._divided_at = client.clock()
        self._is_settled = False
        self.difference = ""
        self.unlisted = ""
        self.leads = False
        self.leases: dict[int, Lease] = {}
        self.surplus: set[int] = set()
        self.last_success = client.clock()

    async def run(self) -> None:
        """Renew leases and divide the partitions until cancelled; a request that fails is tried again at the next tick.

        Each has a task of its own: a server that hangs makes a division last for some time-outs.
        """
        async with asyncio.TaskGroup() as group:
            group.create_task(self._repeat(self.renew), name="renewals")
            group.create_task(self._repeat(self.divide), name="division")

    async def renew(self) -> None:
        """Renew the leases that are due, and forget those that are lost.

        A server that does not answer costs only its own partitions. Raises `StreamError` if none answers.
        """
        self._forget_lost()
        renewed_by = self._client.clock() - self._ttl / RENEWALS_PER_TTL
        due = [lease for lease in self.leases.values() if lease.renewed <= renewed_by]
        failures = await self._leases.renew(due)
        self._forget_lost()
        for error in failures[:1]:
            await self._failed(error)
        if due:
            self.last_success = self._client.clock()

    async def divide(self) -> None:
        """Send a heartbeat, see which workers live, and move towards an even division; nothing after `leave`.

        Raises:
            StreamError: no server answers, or the one with the list of workers refuses.
        """
        async with self._dividing:
            if self._leaving:
                return
            if not self._member.started:
                await self._client.observe_nodes()
                self._member = replace(self._member, started=self._client.now_ms())
            # Together: a heartbeat must not wait for a server that hangs.
            outcomes = await asyncio.gather(self._client.observe_nodes(), self._move(), return_exceptions=True)
            for outcome in outcomes:
                if outcome is not None:
                    raise outcome
        self.last_success = self._client.clock()

    async def _repeat(self, step: Callable[[], Awaitable[None]]) -> None:
        while True:
            try:
                await step()
            except StreamError as error:
                await self._failed(error)
                self._count_owned()
            await asyncio.sleep(self._tick_seconds)

    async def _failed(self, error: StreamError) -> None:
        self._metrics.redis_errors.labels(error.cause).inc()
        log.warning("ownership.redis_failed", error=str(error))
        if error.cause is StreamCause.READONLY:
            for node in self._client.nodes:
                await node.reconnect()

    async def leave(self) -> None:
        """Stop taking partitions: from now on leases are only renewed until they are released."""
        self._leaving = True
        async with self._dividing:  # a heartbeat in flight would put us back on the list
            await self._leases.leave(self._member.worker)

    async def release(self, partition: int) -> None:
        """Give a partition back; it must have no work in flight."""
        lease = self.leases.pop(partition, None)
        self.surplus.discard(partition)
        if lease is None:
            return
        try:
            async with self._release_slots:
                await self._leases.release(lease)
        except StreamError as error:
            self._digest.note(
                log.warning, "partition.release_failed", partition=partition, free_in_s=self._ttl, error=str(error)
            )

    def reachable(self) -> bool:
        """Whether Redis answered within the last TTL."""
        return self._client.clock() - self.last_success < self._ttl

    def _forget_lost(self) -> None:
        lost = [partition for partition, lease in self.leases.items() if lease.lost]
        self._is_settled = self._is_settled and not lost
        for partition in lost:
            del self.leases[partition]
            self.surplus.discard(partition)
            self._metrics.leases_lost.inc()
        if lost:
            log.warning("partitions.lost", partitions=lost)

    async def _move(self) -> None:
        """Move towards an even division, unless the last look found it, and workers and partitions are still the same.

        Reading the owners of many partitions is expensive, and others' leases concern us only when a worker starts,
        leaves or dies: a worker that loses a lease otherwise notices it at its renewal, and takes it again.
        """
        members = await self._introduce()
        look_again_at = self._divided_at + self._ttl
        is_same = members is self._divided_among and self._leases.partitions == self._divided_partitions
        if not (self._is_settled and is_same) or self._client.clock() >= look_again_at:
            await self._divide_among(members)
        self._count_owned()

    async def _divide_among(self, members: Sequence[Member]) -> None:
        us, began = self._member.worker, self._client.clock()
        self.leads = us == min(member.worker for member in members)
        owners = await self._leases.owners()
        wanted = assign(self._leases.partitions, members, owners, self._client.now_ms())
        ours = {partition for partition, worker in enumerate(wanted) if worker == us}
        self.surplus = self.leases.keys() - ours
        free = [partition for partition in sorted(ours - self.leases.keys()) if owners[partition] is None]
        taken, refused = await self._leases.acquire(free, us)
        for lease in taken:
            self._adopt(lease)
        self._divided_among, self._divided_partitions, self._divided_at = members, len(owners), began
        self._is_settled = owners == wanted and ours == self.leases.keys()
        self._tell_division(len(members), owners, len(taken))
        await self._report(refused)

    def _tell_division(self, workers: int, owners: Sequence[str | None], taken: int) -> None:
        if taken or self.surplus:
            log.info(
                "ownership.changed", workers=workers, owned=len(self.leases), taken=taken, surplus=len(self.surplus)
            )
        self._metrics.workers.set(workers)
        self._metrics.unowned.set(sum(owner is None for owner in owners))

    def _count_owned(self) -> None:
        """Count usable leases only: without Redis they expire, but Redis can't report it."""
        now = self._client.clock()
        self._metrics.partitions_owned.set(sum(lease.usable(now) for lease in self.leases.values()))

    async def _report(self, failures: Sequence[StreamError]) -> None:
        """Log once what keeps a partition without an owner, and that a server does not answer."""
        refused = [error for error in failures if error.cause in ONE_PARTITION]
        for error in refused:
            self._metrics.redis_errors.labels(error.cause).inc()
            if str(error) not in self._refused:
                self._digest.note(log.warning, "partition.refused", error=str(error))
        self._refused = set(map(str, refused))
        for error in [error for error in failures if error not in refused][:1]:
            await self._failed(error)

    async def _introduce(self) -> Sequence[Member]:
        """Send a heartbeat; returns all live workers, the same object as long as they are the same.

        While the server with their list does not answer, these are those that were listed last, and after a while only
        this worker: then it takes what is free, as all others do.
        """
        try:
            self._listed = await self._leases.heartbeat(self._report_of(self._member))
            self._listed_at = self._client.clock()
        except StreamError as error:
            if error.cause in (StreamCause.READONLY, StreamCause.REFUSED):
                raise
            await self._failed(error)
            if self._client.clock() > self._listed_at + self._ttl and len(self._listed) > 1:
                self._listed = [self._member]
        self._compare()
        return self._listed

    def _compare(self) -> None:
        """Log an error when others have other settings, or can't be listed; audio of our settings is still stored."""
        if self._leases.difference:
            self._metrics.redis_errors.labels(StreamCause.CONFIG).inc()
            if self._leases.difference != self.difference:
                log.error("config.differs", error=self._leases.difference)
        self.difference = self._leases.difference
        if self._leases.broken:
            self._metrics.redis_errors.labels(StreamCause.REFUSED).inc()
            if not self.unlisted:
                log.error("workers.unreadable", error=self._leases.broken)
        self.unlisted = self._leases.broken

    def _adopt(self, lease: Lease) -> None:
        known = self._generations.get(lease.partition, 0)
        if lease.generation <= known:
            self._digest.note(
                log.error, "redis.data_lost", partition=lease.partition, generation=lease.generation, known=known
            )
        self._generations[lease.partition] = lease.generation
        self.leases[lease.partition] = lease
        self._metrics.takeovers.labels(LastOwner.RELEASED if lease.clean else LastOwner.DIED).inc()
