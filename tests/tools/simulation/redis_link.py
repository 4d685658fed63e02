"""A worker's connections to the models of Redis: what `worker.stream.servers` uses of redis-py, with faults."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

from redis.asyncio import ConnectionPool, Redis
from redis.asyncio.client import Pipeline
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from tests.tools.simulation.faults import Edge, Fate
from tests.tools.simulation.node import Node
from tests.tools.simulation.redis_cluster import SERVICE, ModelServers
from tests.tools.simulation.redis_model import Ailment, ModelRedis
from worker.stream.servers.address import Place

Command = tuple[Any, ...]


class ModelConnector:
    """In the place of `worker.stream.servers.connecting.Connector`: the way of one worker to all servers."""

    seeds = (SERVICE,)

    def __init__(self, node: Node, servers: ModelServers, edge: Edge) -> None:
        self._node = node
        self._servers = servers
        self._edge = edge

    def open(self, place: Place) -> Redis:
        """A client of whoever listens there."""
        return cast("Redis", RedisLink(self._node, lambda: self._servers.listening_at(place), self._edge))


class RedisLink:
    """In the place of `redis.asyncio.Redis`."""

    def __init__(self, node: Node, find: Callable[[], ModelRedis | None], edge: Edge) -> None:
        self._node = node
        self._find = find
        self._edge = edge

    @property
    def connection_pool(self) -> RedisLink:
        return self

    async def disconnect(self, *, inuse_connections: bool = True) -> None:
        """Connections are only names here: each request goes to whoever is the primary."""

    async def aclose(self) -> None:
        """See `disconnect`."""

    def pipeline(self, *, transaction: bool) -> LinkPipeline:
        assert not transaction
        return LinkPipeline(self)

    async def trip(self, commands: list[Command]) -> list[Any]:
        """Send commands in one go; other workers' commands may come between them, and a failover may end it."""
        server = self._find()
        if server is None or server.ails(Ailment.REFUSES):
            await self._refused()
        assert server is not None
        incarnation = server.incarnation

        def act(share: float) -> list[Any]:
            if server.incarnation != incarnation:
                return []
            return server.execute_all(commands[: round(share * len(commands))])

        if server.ails(Ailment.HANGS):
            await self._hang(server.ails_until, act)
        replies = await self._edge.cross(
            self._node, lambda: ", ".join(map(server.describe, commands)), act, _connection_error
        )
        if server.incarnation != incarnation or server.ails(Ailment.BREAKS_OFF):
            raise RedisConnectionError("Connection closed by server.")
        return replies

    async def _refused(self) -> None:
        await asyncio.sleep(0.001)
        await self._node.awake()
        raise RedisConnectionError("Connection refused.")

    async def _hang(self, until: float, act: Callable[[float], object]) -> None:
        """Wait for a server that hangs; if that takes too long, it does all the same later what it was asked."""
        loop, patience = asyncio.get_running_loop(), self._edge.rates.timeout
        if until - loop.time() <= patience:
            await asyncio.sleep(until - loop.time())
            return
        loop.call_at(until, act, 1.0)
        await asyncio.sleep(patience)
        await self._node.awake()
        raise RedisTimeoutError("Timeout reading from the server.")


class LinkPipeline(Pipeline):
    """The library's pipeline, whose commands go to the model; the model's replies need no more parsing."""

    def __init__(self, link: RedisLink) -> None:
        super().__init__(cast("ConnectionPool", link), {}, transaction=False, shard_hint=None)
        self._link = link

    async def execute(self, raise_on_error: bool = True) -> list[Any]:
        assert not raise_on_error
        commands = [words for words, _ in self.command_stack]
        return await self._link.trip(commands) if commands else []


def _connection_error(fate: str) -> Exception:
    return RedisTimeoutError(fate) if fate == Fate.LATE else RedisConnectionError(fate)
