"""A worker's connection to the model of Redis: what `worker.stream.servers` uses of redis-py, with faults."""

from __future__ import annotations

from typing import Any, cast

from redis.asyncio import ConnectionPool, Redis
from redis.asyncio.client import Pipeline
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from tests.tools.simulation.faults import Edge, Fate
from tests.tools.simulation.node import Node
from tests.tools.simulation.redis_model import ModelRedis
from worker.stream.servers.address import Place

Command = tuple[Any, ...]


class OneServer:
    """In the place of `worker.stream.servers.connecting.Connector`: all names lead to the same primary."""

    seeds = (Place("redis", 6379),)

    def __init__(self, link: RedisLink) -> None:
        self._link = link

    def open(self, _place: Place) -> Redis:
        """A client of that primary."""
        return cast("Redis", self._link)


class RedisLink:
    """In the place of `redis.asyncio.Redis`."""

    def __init__(self, node: Node, server: ModelRedis, edge: Edge) -> None:
        self._node = node
        self._server = server
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
        incarnation = self._server.incarnation

        def act(share: float) -> list[Any]:
            if self._server.incarnation != incarnation:
                return []
            return [self._server.execute(*command) for command in commands[: round(share * len(commands))]]

        replies = await self._edge.cross(
            self._node, lambda: ", ".join(map(self._server.describe, commands)), act, _connection_error
        )
        if self._server.incarnation != incarnation:
            raise RedisConnectionError("Connection closed by server.")
        return replies


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
