"""What happens to the servers of a cluster beside all other troubles: slots move, and single servers fail."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from random import Random
from typing import Protocol

from tests.tools.simulation.redis_cluster import ClusterServer, ModelServers
from tests.tools.simulation.redis_model import Ailment, Database, ModelRedis
from worker.stream.keys import Keys

LONGEST_REST = 0.6
"""Seconds between two troubles."""

LONGEST_SPREAD = 0.5
"""Seconds until the last server knows of a slot that has moved."""

LONGEST_AILMENT = 3.0
"""Seconds for which something is wrong with a server."""

PATIENCE, POLL = 4.0, 0.1
"""Seconds for which, and after which, a trouble looks whether its moment has come."""

LONGEST_STEP = 0.3
"""Seconds between two keys of a slot that moves key by key."""


class Surroundings(Protocol):
    """Of a `Run`, what the troubles of a cluster need."""

    redis: ModelServers
    keys: Keys

    def promote(self, server: ModelRedis, replica: Database) -> None:
        """Let a server fail over."""

    def keep_working(self) -> None:
        """Start a worker if none is left."""

    def write(self, text: str) -> None:
        """Add a line to the trace."""


class ClusterTroubles:
    """Troubles by the seed, one after the other; `kinds` are those that may happen."""

    def __init__(self, run: Surroundings, partitions: int, random: Random, *, failovers: bool) -> None:
        self._run = run
        self._redis = run.redis
        self._random = random
        self._streams = [run.keys.stream(partition) for partition in range(partitions)]
        self._movable = [*3 * self._streams, run.keys.workers, run.keys.config]
        self.kinds: Sequence[Callable[[], Awaitable[None]]]
        self.kinds = [*2 * [self.move, self.move_slowly], self.hang, self.refuse, self.break_off]
        if failovers:
            self.kinds = [*self.kinds, self.fail_over, self.fail_over, self.fail_over_and_move, self.forget_stored]

    async def make(self, number: int) -> None:
        """Make so many troubles."""
        for _ in range(number):
            await asyncio.sleep(LONGEST_REST * self._random.random())
            self._run.keep_working()
            trouble = self._random.choice(self.kinds)
            self._run.write(f"cluster: {getattr(trouble, '__name__', '')}")
            await trouble()

    async def move(self) -> None:
        """A slot moves with all its keys at once."""
        key, target = self._choice()
        if not self._redis.is_open(key) and not self._redis.owner(key).readonly and not target.readonly:
            self._move(key, target)

    async def move_slowly(self) -> None:
        """A slot moves key by key, and stays open for a while before and after."""
        async with self._redis.reshaping:
            key, target = self._choice()
            self._redis.open(key, target)
            self._run.write(f"slot of {key} opens towards {target.place}")
            await self._step()
            while self._redis.migrate_one(key, target):
                await self._step()
            self._redis.close(key, target, self._spread())
            self._run.write(f"slot of {key} has moved")

    async def fail_over(self) -> None:
        """A server fails over to a replica that lags, or begins again with what its disk has."""
        async with self._redis.reshaping:
            await self._fail_over()

    async def fail_over_and_move(self) -> None:
        """A slot moves away from a server that has just failed over, before anybody knows that."""
        async with self._redis.reshaping:
            server = await self._fail_over()
            for key in self._movable:
                if self._redis.owner(key) is server:
                    self._move(key, self._random.choice(self._redis.others(server)))

    async def forget_stored(self) -> None:
        """A server fails over to a replica that still has all audio which was in a stream, and stored since."""
        async with self._redis.reshaping:
            stream = self._random.choice(self._streams)
            server, entries = self._redis.owner(stream), self._redis.data.stream(stream).entries
            await self._until(lambda: len(entries) > 0)
            replica = server.snapshot()
            await self._until(lambda: not entries)
            self._replace(server, replica)

    async def hang(self) -> None:
        """A server hangs, and then does what it was asked meanwhile."""
        await self._ail(Ailment.HANGS)

    async def refuse(self) -> None:
        """A server accepts no connections."""
        await self._ail(Ailment.REFUSES)

    async def break_off(self) -> None:
        """A server does what it is asked, and nobody learns that."""
        await self._ail(Ailment.BREAKS_OFF)

    async def _fail_over(self) -> ModelRedis:
        server = self._random.choice(self._redis.others(None))
        replica = server.snapshot()
        if self._random.random() < 0.3:
            server.fall_ill(Ailment.HANGS, 2.0)
        await asyncio.sleep(1.5 * self._random.random() ** 2)
        self._replace(server, replica)
        return server

    def _replace(self, server: ClusterServer, replica: Database) -> None:
        if self._random.random() < 0.7:
            server.change_places()
        self._run.promote(server, replica)

    async def _until(self, holds: Callable[[], bool]) -> None:
        """Wait until something is so, or patience ends."""
        for _ in range(round(PATIENCE / POLL)):
            if holds():
                return
            await asyncio.sleep(POLL)

    async def _ail(self, ailment: Ailment) -> None:
        server, seconds = self._random.choice(self._redis.all), LONGEST_AILMENT * self._random.random()
        server.fall_ill(ailment, seconds)
        await asyncio.sleep(seconds)

    def _choice(self) -> tuple[str, ClusterServer]:
        key = self._random.choice(self._movable)
        return key, self._random.choice(self._redis.others(self._redis.owner(key)))

    def _move(self, key: str, target: ClusterServer) -> None:
        self._redis.move(key, target, self._spread())
        self._run.write(f"slot of {key} is at {target.place}")

    def _spread(self) -> float:
        return LONGEST_SPREAD * self._random.random() ** 2

    async def _step(self) -> None:
        await asyncio.sleep(LONGEST_STEP * self._random.random() ** 2)
