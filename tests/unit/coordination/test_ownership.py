"""How a worker moves towards its share, tick after tick, and what it asks Redis for while nothing changes."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack

import pytest

from tests.support.harness import eventually
from tests.support.partition_owner import Raw
from worker.coordination.ownership import RENEWALS_PER_TTL, TICKS_PER_TTL, Ownership
from worker.runtime.context import Context
from worker.runtime.tasks import end
from worker.stream.client import Client
from worker.stream.keys import Keys
from worker.stream.leases import Leases, Member
from worker.stream.servers.connecting import connect

PARTITIONS = 12
TTL = 60.0
TICK = TTL / TICKS_PER_TTL
BRIEF_TTL = 1.5


class CountedLeases(Leases):
    """Counts how often the owners of all partitions are read."""

    looks = 0

    async def owners(self) -> list[str | None]:
        self.looks += 1
        return await super().owners()


class HangingLeases(Leases):
    """Leases whose second look at all owners gets no answer, as from a server that hangs."""

    def __init__(self, client: Client, keys: Keys) -> None:
        super().__init__(client, keys, PARTITIONS, BRIEF_TTL)
        self._looks = 0
        self.hangs = asyncio.Event()

    async def owners(self) -> list[str | None]:
        self._looks += 1
        if self._looks > 1:
            self.hangs.set()
            await asyncio.Event().wait()
        return await super().owners()


class Worker:
    """One worker's share; it has no uploads, so it releases what it should give away at once."""

    def __init__(self, client: Client, keys: Keys, name: str) -> None:
        self.name = name
        self.leases = CountedLeases(client, keys, PARTITIONS, TTL)
        self.ownership = Ownership(client, self.leases, Member(name), lambda member: member, Context())

    async def tick(self) -> None:
        await self.ownership.renew()
        await self.ownership.divide()
        for partition in list(self.ownership.surplus):
            await self.ownership.release(partition)

    async def stop(self) -> None:
        await self.ownership.leave()
        for partition in list(self.ownership.leases):
            await self.ownership.release(partition)

    @property
    def owned(self) -> int:
        return len(self.ownership.leases)


class Crew:
    """Workers whose clock stands still between two ticks."""

    def __init__(self, join: Callable[[str, Callable[[], float]], Worker]) -> None:
        self._join = join
        self.now = 1000.0
        self.workers: list[Worker] = []

    def join(self, name: str) -> Worker:
        self.workers.append(self._join(name, lambda: self.now))
        return self.workers[-1]

    async def tick(self, times: int = 1) -> None:
        for _ in range(times):
            self.now += TICK
            for worker in self.workers:
                await worker.tick()

    def owned(self) -> dict[str, int]:
        return {worker.name: worker.owned for worker in self.workers}

    def looks(self) -> int:
        return sum(worker.leases.looks for worker in self.workers)


@pytest.fixture
async def crew(redis_url: str, prefix: str) -> AsyncIterator[Crew]:
    async with AsyncExitStack() as stack:

        def join(name: str, clock: Callable[[], float]) -> Worker:
            client = Client(connect(redis_url), clock)
            stack.push_async_callback(client.close)
            return Worker(client, Keys(prefix), name)

        yield Crew(join)


async def balanced(crew: Crew, names: Sequence[str]) -> None:
    """Let these workers share everything, and notice that nothing moves any more."""
    for name in names:
        crew.join(name)
    await crew.tick(4)
    assert set(crew.owned().values()) == {PARTITIONS // len(names)}
    await crew.tick()


async def test_while_nothing_changes_owners_are_read_once_in_a_ttl(crew: Crew) -> None:
    await balanced(crew, ["a", "b", "c"])
    before = crew.looks()
    await crew.tick(2 * TICKS_PER_TTL)
    assert crew.looks() - before == 2 * len(crew.workers)


async def test_a_worker_that_joins_has_its_share_after_two_ticks(crew: Crew) -> None:
    await balanced(crew, ["a", "b"])
    crew.join("c")
    await crew.tick(2)
    assert crew.owned() == {"a": 4, "b": 4, "c": 4}


async def test_what_a_worker_leaves_is_taken_at_the_next_tick(crew: Crew) -> None:
    await balanced(crew, ["a", "b", "c"])
    await crew.workers.pop().stop()
    await crew.tick()
    assert crew.owned() == {"a": 6, "b": 6}


async def test_what_a_dead_worker_had_is_taken_as_soon_as_its_lease_and_its_heartbeat_have_ended(
    crew: Crew, redis_client: Raw, prefix: str
) -> None:
    await balanced(crew, ["a", "b"])
    dead, keys = crew.workers.pop(), Keys(prefix)
    (version,) = [value async for name, value in redis_client.hscan_iter(keys.workers) if name == b" list"]
    await redis_client.hset(keys.workers, mapping={"b": "1 {}", " list": version.rpartition(b" ")[0] + b" 1"})
    await crew.tick()
    assert crew.owned() == {"a": 6}  # the leases outlive the heartbeat: nobody may take them yet
    for partition in dead.ownership.leases:
        await redis_client.delete(keys.lease(partition))
    await crew.tick()
    assert crew.owned() == {"a": 12}


async def test_a_lost_lease_is_missed_by_its_owner_at_its_renewal(crew: Crew, redis_client: Raw, prefix: str) -> None:
    await balanced(crew, ["a", "b"])
    lost = next(iter(crew.workers[0].ownership.leases))
    await redis_client.delete(Keys(prefix).lease(lost))
    await crew.tick(TICKS_PER_TTL // RENEWALS_PER_TTL)
    assert crew.owned() == {"a": 6, "b": 6}
    owners = await crew.workers[0].leases.owners()
    assert Counter(owners) == {"a": 6, "b": 6}


async def test_a_change_of_the_number_of_partitions_is_followed_at_the_next_tick(
    crew: Crew, redis_client: Raw, prefix: str
) -> None:
    await balanced(crew, ["a", "b", "c"])
    await redis_client.hset(Keys(prefix).config, "layouts", f"{PARTITIONS},{2 * PARTITIONS}")
    await crew.tick()
    assert crew.owned() == {"a": 8, "b": 8, "c": 8}


async def test_leases_are_renewed_while_a_division_waits_for_a_server_that_hangs(redis_url: str, prefix: str) -> None:
    async with Client(connect(redis_url)) as client:
        leases = HangingLeases(client, Keys(prefix))
        ownership = Ownership(client, leases, Member("a"), lambda member: member, Context())
        running = asyncio.create_task(ownership.run())
        try:
            await leases.hangs.wait()
            taken = [lease.renewed for lease in ownership.leases.values()]
            assert len(taken) == PARTITIONS
            await eventually(lambda: all(lease.renewed > max(taken) for lease in ownership.leases.values()))
        finally:
            await end([running])
