"""What becomes of a Redis Cluster under load, one thing after the other, while workers die beside it."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from random import Random

from redis.crc import key_slot

from tests.support.redis_server import RedisServer
from tests.tools.chaos.cluster_pushers import ClusterPushers
from tests.tools.chaos.fleet import Fleet
from tests.tools.chaos.shards import Received, Shards, some
from tests.tools.chaos.trouble import FEWEST, Plan

ATOMICALLY = "move_atomically"
TROUBLES = (
    "reshard",
    "hold_open",
    "crash",
    "crash_ahead",
    "hang",
    "hang_briefly",
    "restart",
    "roll",
    "lose_seed",
    "fail_over",
    ATOMICALLY,
)
"""What happens to a cluster; the last one only where the servers can do it."""

RESHARDED = 300
"""Slots of a reshard, beside those of partitions."""

LONGEST_OPEN = 5.0
LONGEST_LAG = 2.0
LONGEST_HANG = 8.0
SHORTEST_HANG = 5.0
"""Seconds; longer than the time-outs of pushers, workers and the cluster."""

REST = 1.0


class ClusterTrouble:
    """Makes it; `forgotten` counts acknowledged entries that replicas lacked when they took over."""

    def __init__(self, plan: Plan, shards: Shards, fleet: Fleet, pushers: ClusterPushers, keys: Sequence[str]) -> None:
        self._plan = plan
        self._shards = shards
        self._fleet = fleet
        self._pushers = pushers
        self._keys = keys
        self._random = Random(plan.seed)
        self.counts: Counter[str] = Counter()
        self.forgotten: Counter[str] = Counter()

    async def run(self, rounds: int, only: Collection[str]) -> None:
        """Make these troubles `rounds` times, each time in another order, and kill workers until the plan's number."""
        over = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._kill_workers(over))
            for _ in range(rounds):
                for trouble in await self._troubles(only):
                    await trouble()
                    await asyncio.to_thread(self._shards.settled)
                    await asyncio.sleep(REST)
            over.set()

    async def start(self) -> None:
        """Start a worker that is told all nodes, or only one of them."""
        shutdown = self._random.choice(("flush", "handoff"))
        seeds = self._random.choice(({}, {"redis_url": self._shards.servers[0].url}))
        await self._fleet.start("one", shutdown=shutdown, **seeds)

    async def _troubles(self, only: Collection[str]) -> list[Callable[[], Awaitable[None]]]:
        can_move = await asyncio.to_thread(self._shards.moves_atomically)
        names = [name for name in TROUBLES if name in only and (can_move or name != ATOMICALLY)]
        return [getattr(self, f"_{name}") for name in self._random.sample(names, len(names))]

    async def _kill_workers(self, over: asyncio.Event) -> None:
        while not over.is_set() or self._fleet.counts["killed"] < self._plan.kills:
            await asyncio.sleep(self._plan.pace * self._random.expovariate(1))
            await self._fleet.kill_any(self._random)
            while len(self._fleet.running) < FEWEST + 1:
                await self.start()

    async def _reshard(self) -> None:
        """Move many slots, and half of a node's partitions with them."""
        source, target, slots = await self._to_move()
        await asyncio.to_thread(self._shards.move, slots, source, target)
        self.counts["slots moved"] += len(slots)

    async def _move_atomically(self) -> None:
        """The same, by the servers themselves."""
        source, target, slots = await self._to_move()
        await asyncio.to_thread(self._shards.move_atomically, slots, source, target)
        self.counts["slots moved atomically"] += len(slots)

    async def _to_move(self) -> tuple[RedisServer, RedisServer, list[int]]:
        """Take from the node with the most slots, so that none runs out of them."""
        primaries = await asyncio.to_thread(self._shards.primaries)
        owned = {server: await asyncio.to_thread(self._shards.slots_of, server) for server in primaries}
        source = max(primaries, key=lambda server: len(owned[server]))
        target = self._random.choice([server for server in primaries if server is not source])
        used = [slot for slot in owned[source] if slot in self._used_slots()]
        moved = {*some(self._random, used, len(used) // 2), *some(self._random, owned[source], RESHARDED)}
        return source, target, self._random.sample(sorted(moved), len(moved))

    def _used_slots(self) -> set[int]:
        return {key_slot(key.encode()) for key in self._keys}

    async def _hold_open(self) -> None:
        """The slot of a partition is between two nodes for some seconds."""
        slot = self._random.choice(sorted(self._used_slots()))
        source = await asyncio.to_thread(self._shards.owner_of, slot)
        primaries = await asyncio.to_thread(self._shards.primaries)
        target = self._random.choice([server for server in primaries if server is not source])
        await asyncio.to_thread(self._shards.open, slot, source, target)
        await asyncio.sleep(LONGEST_OPEN * self._random.uniform(0.4, 1.0))
        await asyncio.to_thread(self._shards.finish, slot, source, target)
        self.counts["slots held open"] += 1

    async def _crash(self) -> None:
        """A primary dies, its replica takes over, and it comes back as a replica."""
        victim, replica = await self._pair()
        async with self._deposing(victim, replica, "crash"):
            victim.kill()
            await asyncio.to_thread(self._shards.await_primary, replica)
            await asyncio.sleep(self._random.random())
            await asyncio.to_thread(victim.start)

    async def _crash_ahead(self) -> None:
        """The same, of a primary whose replica has been cut off for a moment: what came meanwhile is lost."""
        victim, replica = await self._pair()
        async with self._deposing(victim, replica, "crash ahead of its replica"):
            await asyncio.to_thread(self._shards.cut_off, replica, victim)
            await asyncio.sleep(LONGEST_LAG * self._random.random())
            victim.kill()
            await asyncio.to_thread(self._shards.let_follow, replica)
            await asyncio.to_thread(self._shards.await_primary, replica)
            await asyncio.to_thread(victim.start)

    async def _hang(self) -> None:
        """A primary hangs until its replica has taken over, and longer."""
        victim, replica = await self._pair()
        async with self._deposing(victim, replica, "hang"):
            self._shards.hang(victim)
            await asyncio.sleep(self._random.uniform(SHORTEST_HANG, LONGEST_HANG))
            self._shards.wake(victim)

    async def _hang_briefly(self) -> None:
        """Any node hangs for less than the cluster's patience: nobody takes over."""
        victim = self._random.choice(self._shards.servers)
        self._shards.hang(victim)
        await asyncio.sleep(self._random.uniform(0.3, 1.0))
        self._shards.wake(victim)
        self.counts["hung briefly"] += 1

    async def _restart(self) -> None:
        """A primary dies and is back at once, with its append-only file."""
        victim, replica = await self._pair()
        async with self._deposing(victim, replica, "restart"):
            victim.kill()
            await asyncio.to_thread(victim.start)

    async def _fail_over(self) -> None:
        _, replica = await self._pair()
        await asyncio.to_thread(self._shards.fail_over, replica)
        self.counts["orderly failovers"] += 1

    async def _roll(self) -> None:
        """All nodes are restarted one after the other, as a rollout does it; some after an orderly failover."""
        for server in self._shards.servers:
            if server in await asyncio.to_thread(self._shards.primaries):
                await self._replace(server)
            else:
                await asyncio.to_thread(server.restart)
            await asyncio.to_thread(self._shards.settled)
        self.counts["rolling restarts"] += 1

    async def _replace(self, primary: RedisServer) -> None:
        replica = await asyncio.to_thread(self._shards.replica_of, primary)
        if self._random.random() < 0.5:
            await asyncio.to_thread(self._shards.fail_over, replica)
            await asyncio.to_thread(primary.restart)
        else:
            async with self._deposing(primary, replica, "SIGTERM"):
                await asyncio.to_thread(primary.restart)

    async def _lose_seed(self) -> None:
        """The first node of each REDIS_URL, and the only one of some, is away; meanwhile a worker starts."""
        victim = self._shards.servers[0]
        if victim not in await asyncio.to_thread(self._shards.primaries):
            victim.kill()
            await self._start_without(victim)
            return
        replica = await asyncio.to_thread(self._shards.replica_of, victim)
        async with self._deposing(victim, replica, "seed lost"):
            victim.kill()
            await self._start_without(victim)

    async def _start_without(self, seed: RedisServer) -> None:
        await self.start()
        await asyncio.sleep(REST + 4 * self._random.random())
        await asyncio.to_thread(seed.start)
        self.counts["seed lost"] += 1

    async def _pair(self) -> tuple[RedisServer, RedisServer]:
        victim = self._random.choice(await asyncio.to_thread(self._shards.primaries))
        return victim, await asyncio.to_thread(self._shards.replica_of, victim)

    @asynccontextmanager
    async def _deposing(self, victim: RedisServer, replica: RedisServer, what: str) -> AsyncIterator[None]:
        """Surround what may let a replica take over; then note what that has lost."""
        slots = set(await asyncio.to_thread(self._shards.slots_of, victim))
        keys = [key for key in self._keys if key_slot(key.encode()) in slots]
        received = Received(self._shards, replica, keys)
        async with asyncio.TaskGroup() as group:
            group.create_task(received.look())
            try:
                yield
                await asyncio.to_thread(self._shards.settled)
            finally:
                received.end()
        self.counts[f"{what}, a replica took over" if received.promoted else f"{what}, no failover"] += 1
        if received.promoted:
            last = {key: received.last.get(key, (0, 0)) for key in keys}
            self.forgotten[what] += self._pushers.receipts.deposed(victim.port, last)
