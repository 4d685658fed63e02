"""One Redis server: its connections, its clock, and which process with which data answers."""

from __future__ import annotations

import asyncio
import secrets
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeAlias
from weakref import WeakSet

import structlog
from redis.asyncio import Redis
from redis.asyncio.client import Pipeline
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import RedisError

from worker.errors import StreamError
from worker.stream.servers.failures import is_hiding, stream_error
from worker.stream.servers.pool import Pool

Command: TypeAlias = tuple[tuple[Any, ...], dict[str, Any]]
"""A command as the library's pipelines record it: its words and the options of its reply."""

Callbacks: TypeAlias = dict[Any, Any]
"""The library's functions that turn replies into values, by command."""

HIDDEN = "hidden"
"""In the place of the id of a server that does not tell it, as in preamble.lua."""

ASKING: Command = (("ASKING",), {})
"""Lets the next command of a connection use a slot that the server is receiving."""

NO_INFO = (
    "it refuses INFO or leaves its id out, so a lost connection counts as a failover, and each take-over of a partition"
    " looks its audio up in the store; allow +info, or see to maxmemory-policy and appendonly yourself"
)

log = structlog.get_logger()


class Node:
    """One server. It answers for all keys, or for some slots of a cluster.

    `must_recheck` tells whether a request failed or another server answered since the last check, or none was made yet.
    `is_hidden` tells whether the server refuses to say who it is. `failing_since` is the monotonic time of the first
    failure since its last answer, None if it answers. `seen_id` is the `server_id` that it told last, None before the
    first time.
    """

    def __init__(self, name: str, redis: Redis, clock: Callable[[], float]) -> None:
        self.name = name
        self.redis = redis
        self.must_recheck = True
        self.is_hidden = False
        self.failing_since: float | None = None
        self.seen_id: str | None = None
        self._clock = clock
        self._witness = secrets.token_hex(8)
        self._failures = 0
        self._offset_ms = 0.0
        self._server_id: str | None = None
        self._connections: WeakSet[AbstractConnection] = WeakSet()

    async def connect(self) -> None:
        """Connect, unless an idle connection is there; a new connection sets `must_recheck`.

        The library silently replaces an idle connection that a server has closed: another one may answer by now.

        Raises:
            StreamError: the server can't be reached.
        """
        pool = self.redis.connection_pool
        async with self._translated():
            connection = await pool.get_connection()  # type: ignore[no-untyped-call]
            if connection not in self._connections:
                self._connections.add(connection)
                connection.register_connect_callback(self._connected)  # it tells when it is replaced later
                self._connected(connection)
            await pool.release(connection)

    async def execute(self, commands: Sequence[Command], callbacks: Callbacks, *, asking: bool = False) -> list[Any]:
        """Run commands in one round trip, not in a transaction; refusals come back as values.

        Raises:
            StreamError: the server can't be reached.
        """
        async with self._translated(), self.redis.pipeline(transaction=False) as pipe:
            pipe.response_callbacks = callbacks
            pipe.command_stack = [part for command in commands for part in (ASKING, command)] if asking else [*commands]
            replies: list[Any] = await pipe.execute(raise_on_error=False)
        if not asking:
            return replies
        return [ask if isinstance(ask, Exception) else reply for ask, reply in zip(*[iter(replies)] * 2, strict=True)]

    async def pipeline(self, queue: Callable[[Pipeline], object]) -> list[Any]:
        """Run any commands of this server in one round trip. Raises as `execute`."""
        async with self._translated(), self.redis.pipeline(transaction=False) as pipe:
            queue(pipe)
            return await pipe.execute(raise_on_error=False)

    async def command(self, queue: Callable[[Pipeline], object]) -> Any:
        """Run one command of this server. Raises `StreamError`, also if the server refuses."""
        (reply,) = await self.pipeline(queue)
        if isinstance(reply, Exception):
            raise stream_error(reply) from reply
        return reply

    async def transaction(self, work: Callable[[Pipeline], Awaitable[None]], key: str) -> None:
        """Run a transaction that starts again when `key` changes. Raises `StreamError`."""
        async with self._translated():
            await self.redis.transaction(work, key)

    @property
    def presumed_id(self) -> str:
        """What stands for the id of a server that does not tell it.

        After a failed request, and for every other client, it is another one: the server may have changed.
        """
        return f"{HIDDEN}:{self._witness}:{self._failures}"

    async def server_id(self) -> str:
        """Id of the server process and its data's history: a server with another id may have forgotten our writes.

        A primary that was a replica for a while is the same process, but it has another history. This is the check that
        `must_recheck` demands. Raises `StreamError`.
        """
        self.must_recheck = False  # before the request: a failure meanwhile demands another check
        try:
            self._server_id = await self._asked()
        except StreamError:
            self.must_recheck = True
            raise
        return self._server_id

    async def observe(self) -> None:
        """Learn the server's time, and note if another process answers than at the last `server_id`.

        A failover between two requests stays unnoticed otherwise: the library silently replaces a closed idle
        connection. Raises `StreamError`.
        """
        server_id = await self._asked()
        if self._server_id not in (None, server_id):
            self.must_recheck = True

    def _connected(self, _: AbstractConnection) -> None:
        self.must_recheck = True

    async def _asked(self) -> str:
        replies = await self.pipeline(lambda pipe: (pipe.time(), pipe.info("server"), pipe.info("replication")))
        time, *facts = replies
        if isinstance(time, Exception):
            raise stream_error(time) from time
        self.sync_clock(int(time[0]) * 1000 + int(time[1]) // 1000)
        for reply in facts:
            if isinstance(reply, Exception) and not is_hiding(reply):
                raise stream_error(reply) from reply
        told = {name: fact for reply in facts if isinstance(reply, dict) for name, fact in reply.items()}
        if "run_id" in told and "master_replid" in told:
            self.is_hidden = False
            self.seen_id = f"{told['run_id']}:{told['master_replid']}"
            return self.seen_id
        await self._watch()
        self.seen_id = self.presumed_id
        return self.seen_id

    async def _watch(self) -> None:
        """Notice a failover by the connections, because the server does not tell it."""
        if not self.is_hidden:
            log.warning("redis.hidden", node=self.name, meaning=NO_INFO)
        self.is_hidden = True
        if isinstance(self.redis.connection_pool, Pool):
            async with self._translated():
                await self.redis.connection_pool.watch()

    def sync_clock(self, redis_ms: int) -> None:
        """Learn the server's time from a reply that has just arrived."""
        self._offset_ms = redis_ms - self._clock() * 1000

    def now_ms(self) -> int:
        """The server's time in ms since 1970: the pods' own clocks do not matter."""
        return int(self._clock() * 1000 + self._offset_ms)

    async def reconnect(self) -> None:
        """Drop all idle connections: the same name may lead to another primary by now."""
        await self.redis.connection_pool.disconnect(inuse_connections=False)

    async def close(self) -> None:
        """Close all connections."""
        await self.redis.aclose()

    @asynccontextmanager
    async def _translated(self) -> AsyncIterator[None]:
        """Turn every error of the Redis library, and of the network below it, into `StreamError`."""
        async with _cancellable():
            try:
                yield
            except (RedisError, OSError, TimeoutError) as error:
                self.must_recheck = True
                self._failures += 1
                self.failing_since = self._clock() if self.failing_since is None else self.failing_since
                raise stream_error(error) from error
            self.failing_since = None


@asynccontextmanager
async def _cancellable() -> AsyncIterator[None]:
    """Cancel the task again if asyncio.wait_for, which the library uses, has swallowed a cancellation in the block.

    Python 3.11 does so when the awaited result has just arrived: https://github.com/python/cpython/issues/86296
    A cancellation that came while the task was at work, and waited for nothing, is raised before the block.
    """
    task = asyncio.current_task()
    before = task.cancelling() if task else 0
    if before:
        await asyncio.sleep(0)
    try:
        yield
    finally:
        if task and task.cancelling() > before and not isinstance(sys.exception(), asyncio.CancelledError):
            raise asyncio.CancelledError
