"""Membership and leases of this worker: heartbeat, renew, take the share that is ours, offer back the rest."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace

import structlog

from worker.coordination.assignment import assign
from worker.errors import StreamError
from worker.model.causes import LastOwner, StreamCause
from worker.runtime.metrics import Metrics
from worker.stream.client import Client
from worker.stream.leases import Lease, Leases, Member

TICKS_PER_TTL = 15
"""Ticks in one lease TTL: a clean hand-over waits for one tick, a crash for the TTL."""

RENEWALS_PER_TTL = 5
"""Each lease's; a failed one is tried again at every tick, and work stops two thirds of the TTL after the last."""

RELEASES_AT_ONCE = 8
"""Each takes a connection to Redis, and a worker that stops gives back all that it holds."""

log = structlog.get_logger()


class Ownership:
    """Keeps `leases`, the leases this worker holds, up to date; `surplus` are partitions that others should have.

    `difference` says what Redis records otherwise than our settings, for example after somebody flushed it.

    It only changes leases. Who works on the partitions looks at them, and calls `release` when nothing is under way.
    """

    def __init__(
        self,
        client: Client,
        leases: Leases,
        member: Member,
        trouble: Callable[[], Sequence[str]],
        metrics: Metrics,
    ) -> None:
        self._client = client
        self._leases = leases
        self._member = member
        self._trouble = trouble
        self._metrics = metrics
        self._ttl = leases.ttl
        self._tick_seconds = leases.ttl / TICKS_PER_TTL
        self._leaving = False
        self._release_slots = asyncio.Semaphore(RELEASES_AT_ONCE)
        self._ticking = asyncio.Lock()
        self._generations: dict[int, int] = {}
        self.difference = ""
        self.leases: dict[int, Lease] = {}
        self.surplus: set[int] = set()
        self.last_success = client.clock()

    async def run(self) -> None:
        """Tick for ever; what Redis does not answer is tried again at the next tick."""
        while True:
            try:
                await self.tick()
            except StreamError as error:
                self._metrics.redis_errors.labels(error.cause).inc()
                log.warning("ownership.redis_failed", error=str(error))
                self._count_owned()
                if error.cause is StreamCause.READONLY:
                    await self._client.reconnect()
            await asyncio.sleep(self._tick_seconds)

    async def tick(self) -> None:
        """One round: say that we live, see who else does, and move towards the even division."""
        async with self._ticking:
            await self._renew()
            if not self._leaving:
                await self._divide()
        self.last_success = self._client.clock()

    async def leave(self) -> None:
        """Want no partitions any more: from now on leases are only renewed until they are released."""
        self._leaving = True
        async with self._ticking:  # a heartbeat under way would put us back on the list
            await self._leases.leave(self._member.worker)

    async def release(self, partition: int) -> None:
        """Give a partition back; nothing of it may be under way."""
        lease = self.leases.pop(partition, None)
        self.surplus.discard(partition)
        if lease is None:
            return
        try:
            async with self._release_slots:
                await self._leases.release(lease)
        except StreamError as error:
            log.warning("partition.release_failed", partition=partition, free_in_s=self._ttl, error=str(error))

    def reachable(self) -> bool:
        """Whether Redis answered within the last TTL."""
        return self._client.clock() - self.last_success < self._ttl

    async def _renew(self) -> None:
        self._forget_lost()
        renewed_by = self._client.clock() - self._ttl / RENEWALS_PER_TTL
        await self._leases.renew([lease for lease in self.leases.values() if lease.renewed <= renewed_by])
        self._forget_lost()

    def _forget_lost(self) -> None:
        lost = [partition for partition, lease in self.leases.items() if lease.lost]
        for partition in lost:
            del self.leases[partition]
            self.surplus.discard(partition)
            self._metrics.leases_lost.inc()
        if lost:
            log.warning("partitions.lost", partitions=lost)

    async def _divide(self) -> None:
        us, members = self._member.worker, await self._introduce()
        owners = await self._leases.owners()
        wanted = assign(self._leases.partitions, members, owners, self._client.now_ms())
        ours = {partition for partition, worker in enumerate(wanted) if worker == us}
        self.surplus = self.leases.keys() - ours
        free = [partition for partition in sorted(ours - self.leases.keys()) if owners[partition] is None]
        taken, refused = await self._leases.acquire(free, us)
        for lease in taken:
            self._adopt(lease)
        if taken or self.surplus:
            log.info(
                "ownership.changed",
                workers=len(members),
                owned=len(self.leases),
                taken=len(taken),
                surplus=len(self.surplus),
            )
        self._metrics.workers.set(len(members))
        self._metrics.unowned.set(sum(owner is None for owner in owners))
        self._count_owned()
        self._report(refused)

    def _count_owned(self) -> None:
        """Without Redis none is left after a while, though nobody told us so."""
        now = self._client.clock()
        self._metrics.partitions_owned.set(sum(lease.usable(now) for lease in self.leases.values()))

    def _report(self, refused: Sequence[StreamError]) -> None:
        """Say what keeps a partition without an owner. Raises what has nothing to do with one partition."""
        for error in refused:
            if error.cause is not StreamCause.REFUSED:
                raise error
            self._metrics.redis_errors.labels(error.cause).inc()
            log.warning("partition.refused", error=str(error))

    async def _introduce(self) -> list[Member]:
        """All live workers; our own start is known once Redis has told us its time."""
        if not self._member.started:
            await self._leases.heartbeat(self._member)
            self._member = replace(self._member, started=self._client.now_ms())
        members = await self._leases.heartbeat(replace(self._member, trouble="; ".join(self._trouble())))
        self._compare()
        return members

    def _compare(self) -> None:
        """Say it loudly when others are configured otherwise; those who push as we read are still served."""
        if self._leases.difference:
            self._metrics.redis_errors.labels(StreamCause.CONFIG).inc()
            if self._leases.difference != self.difference:
                log.error("config.differs", error=self._leases.difference)
        self.difference = self._leases.difference

    def _adopt(self, lease: Lease) -> None:
        known = self._generations.get(lease.partition, 0)
        if lease.generation <= known:
            log.error("redis.data_lost", partition=lease.partition, generation=lease.generation, known=known)
        self._generations[lease.partition] = lease.generation
        self.leases[lease.partition] = lease
        self._metrics.takeovers.labels(LastOwner.RELEASED if lease.clean else LastOwner.DIED).inc()
