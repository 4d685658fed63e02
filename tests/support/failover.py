"""Two real Redis servers behind one name: a primary, and a replica that a test lets lag and makes the primary."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Self

from tests.support.harness import Harness, eventually
from tests.support.proxy import Proxy
from tests.support.redis_server import RedisServer


class Pair:
    """`way` leads to whoever is the primary, `link` is the replication, which may be stalled.

    Args:
        own_redis: the fixture that starts servers.
    """

    def __init__(self, own_redis: Callable[..., RedisServer]) -> None:
        self.primary, self.replica = (own_redis(repl_diskless_sync_delay="0") for _ in range(2))
        self.way, self.link = Proxy(self.primary.port), Proxy(self.primary.port)
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        await self._stack.enter_async_context(self.way)
        await self._stack.enter_async_context(self.link)
        await self._follow(self.replica, self.link.port)
        await self.synchronised()
        return self

    async def __aexit__(self, *_: object) -> None:
        for server in (self.primary, self.replica):
            server.kill()
        await self._stack.aclose()

    async def synchronised(self) -> None:
        """Wait until the replica has everything."""
        await eventually(lambda: asyncio.to_thread(self._is_synchronised))

    async def lag(self) -> None:
        """From now on the replica learns nothing, though it knows everything until now."""
        await self.synchronised()
        self.link.stall()

    async def fail_over(self, harness: Harness) -> None:
        """The primary dies, and the replica takes its place with what it has."""
        self.primary.kill()
        await self.promote()
        self.way.turn_to(self.replica.port)
        await harness.redis.connection_pool.disconnect()

    async def promote(self) -> None:
        """The replica becomes a primary, too."""
        await self._execute(self.replica, "REPLICAOF", "NO", "ONE")

    async def fail_back(self) -> None:
        """The former primary, which has lived on, takes over the promoted one's data and then its place."""
        await self._follow(self.primary, self.replica.port)
        await eventually(lambda: asyncio.to_thread(self._is_following))
        await self._execute(self.primary, "REPLICAOF", "NO", "ONE")

    async def follow_promoted(self, server: RedisServer) -> None:
        """A server becomes a replica of the promoted one."""
        await self._follow(server, self.replica.port)

    async def _follow(self, server: RedisServer, port: int) -> None:
        await self._execute(server, "REPLICAOF", "127.0.0.1", str(port))

    def _is_synchronised(self) -> bool:
        with self.primary.client() as client:
            client.set("synchronised", "?")
            return bool(client.wait(1, 100))

    def _is_following(self) -> bool:
        with self.primary.client() as client:
            return bool(client.info("replication")["master_link_status"] == "up")

    async def _execute(self, server: RedisServer, *command: str) -> None:
        def executed() -> None:
            with server.client() as client:
                client.execute_command(*command)

        await asyncio.to_thread(executed)
