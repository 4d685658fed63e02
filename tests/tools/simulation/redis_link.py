"""A worker's connection to the model of Redis: what `worker.stream.client` uses of redis-py, with faults."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping, Sequence
from typing import Any, Self

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from tests.tools.simulation.faults import Edge, Fate
from tests.tools.simulation.node import Node
from tests.tools.simulation.redis_model import Argument, ModelRedis, Reply

Command = tuple[Any, ...]


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

    def pipeline(self, *, transaction: bool) -> Pipeline:
        assert not transaction
        return Pipeline(self)

    def info(self, *sections: str) -> Awaitable[Any]:
        return self._one("info", *sections)

    def hgetall(self, key: str) -> Awaitable[Any]:
        return self._one("hgetall", key)

    def hmget(self, key: str, *fields: str) -> Awaitable[Any]:
        return self._one("hmget", key, *fields)

    def hdel(self, key: str, field: str) -> Awaitable[Any]:
        return self._one("hdel", key, field)

    def scan(self, cursor: int, *, count: int, _type: str) -> Awaitable[Any]:
        assert (cursor, _type) == (0, "stream")
        return self._one("scan", count)

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

    async def _one(self, *command: Argument) -> Reply:
        reply = (await self.trip([command]))[0]
        if isinstance(reply, ResponseError):
            raise reply
        return reply


class Pipeline:
    """In the place of `redis.asyncio.client.Pipeline`."""

    def __init__(self, link: RedisLink) -> None:
        self._link = link
        self._commands: list[Command] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self._commands.clear()

    def xread(self, streams: Mapping[str, str], count: int) -> None:
        self._commands.append(("xread", streams, count))

    def mget(self, keys: Sequence[str]) -> None:
        self._commands.append(("mget", *keys))

    def evalsha(self, digest: str, count: int, *keys_and_args: Argument) -> None:
        self._commands.append(("evalsha", digest, count, *keys_and_args))

    def eval(self, source: str, count: int, *keys_and_args: Argument) -> None:
        self._commands.append(("eval", source, count, *keys_and_args))

    async def execute(self, *, raise_on_error: bool) -> list[Any]:
        assert not raise_on_error
        return await self._link.trip(self._commands) if self._commands else []


def _connection_error(fate: str) -> Exception:
    return RedisTimeoutError(fate) if fate == Fate.LATE else RedisConnectionError(fate)
