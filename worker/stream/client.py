"""The connection to Redis: no silent retries, scripts by name, the library's errors translated into ours."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import cache
from hashlib import sha1
from importlib.resources import files
from typing import Any, Self, TypeVar, cast

from redis import DriverInfo
from redis.asyncio import Redis
from redis.asyncio.client import Pipeline
from redis.asyncio.connection import (
    AbstractConnection,
    Connection,
    ConnectionPool,
    SSLConnection,
    UnixDomainSocketConnection,
)
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import NoPermissionError, NoScriptError, ReadOnlyError, RedisError, ResponseError

from worker import __version__
from worker.errors import LeaseLost, StreamError
from worker.model.causes import StreamCause
from worker.stream.address import check_files, parse
from worker.stream.keys import expected_type
from worker.stream.reply_limit import BoundedParser, ReplyTooLarge

T = TypeVar("T")

READ_SIZE = 256 * 1024
"""Bytes per socket read: 10-20 % less client CPU than the library's 32 KiB when entries are 160 kB."""

_CONNECTIONS: Mapping[str, type[AbstractConnection]] = {
    "redis": Connection,
    "rediss": SSLConnection,
    "unix": UnixDomainSocketConnection,
}

FENCED = ("preamble", "fence")
BEGINNINGS: Mapping[str, Sequence[str]] = {
    **dict.fromkeys(("heartbeat", "acquire", "renew", "config", "store", "abandon"), ("preamble",)),
    **dict.fromkeys(("tombstone", "restore", "standing"), ("preamble", "order")),
    **dict.fromkeys(("done", "seen"), ("preamble", "order", "memory")),
    **dict.fromkeys(("accept", "identify", "seal", "account"), (*FENCED, "order")),
    "claim": (*FENCED, "paging"),
    "between": ("reading", "paging"),
    "forget": ("preamble", "letter", "paging"),
    **dict.fromkeys(("look", "next", "sizes", "stray", "newest"), ("reading",)),
    "letters": ("reading", "letter", "paging"),
    "contents": ("reading", "letter"),
    "stray_page": ("reading", "paging"),
    "stray_move": (),
    "replay": ("pushing", "order", "letter"),
}
"""Parts that are prepended to a script. All scripts that are not listed get `FENCED`, which checks the partition's
lease."""


@cache
def script(name: str) -> str:
    """Source of a script as Redis gets it."""
    folder = files(__package__) / "scripts"
    parts = [*BEGINNINGS.get(name, FENCED), name]
    return "\n".join((folder / f"{part}.lua").read_text() for part in parts)


@dataclass(frozen=True, slots=True)
class Call:
    """One script call inside a round trip."""

    script: str
    keys: Sequence[str]
    args: Sequence[str | bytes | int | float]


def connect(url: str, *, timeout: float = 5.0) -> Redis:
    """A client whose commands raise an error after `timeout` seconds at the latest, and are never repeated.

    The library repeats commands by default. A repeated command that had succeeded would take effect twice, unnoticed.

    Raises:
        SettingsError: REDIS_URL can't be understood, or names a file that can't be used.
    """
    address = parse(url)
    check_files(address)
    pool = ConnectionPool(
        connection_class=_CONNECTIONS[address.scheme],
        protocol=2,
        retry=Retry(NoBackoff(), 0),
        socket_timeout=timeout,
        socket_connect_timeout=timeout,
        socket_read_size=READ_SIZE,
        parser_class=BoundedParser,
        driver_info=DriverInfo().add_upstream_driver("audio-batch-worker", __version__),
        **address.arguments(),
    )
    return Redis.from_pool(pool)


class Client:
    """Runs scripts and pipelines, and follows Redis' clock; `async with` closes it."""

    def __init__(self, redis: Redis, clock: Callable[[], float] = time.monotonic) -> None:
        self.redis = redis
        self.clock = clock
        self._offset_ms = 0.0
        self._run_id: str | None = None
        self.must_recheck_server = True
        """Whether a request failed or another server answered since the last check of the server, or none was made
        yet."""
        self.slots_apart = False
        """Whether a command may only name keys of one slot, because the server is a node of a Redis Cluster."""

    async def server_id(self) -> str:
        """Id of the server process and its data's history: a server with another id may have forgotten our writes.

        A primary that was a replica for a while is the same process, but it has another history.
        """
        process = await self.command(lambda redis: redis.info("server"))
        history = await self.command(lambda redis: redis.info("replication"))
        run_id = f"{process['run_id']}:{history.get('master_replid', '')}"
        self.note_run_id(run_id)
        self._run_id = run_id
        return run_id

    def note_run_id(self, run_id: str) -> None:
        """Note which server process answers now.

        A failover between two requests stays unnoticed otherwise: the library silently replaces a closed idle
        connection.
        """
        if self._run_id not in (None, run_id):
            self.must_recheck_server = True

    async def reconnect(self) -> None:
        """Drop all idle connections: the same name may lead to another primary by now."""
        await self.redis.connection_pool.disconnect(inuse_connections=False)

    async def close(self) -> None:
        """Close all connections."""
        await self.redis.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def together(self, items: Sequence[T], most: int) -> list[Sequence[T]]:
        """Divide partitions, or requests for them, into groups that one command may name: a matter of speed only.

        A group has at most `most` items, and only one where the slots of partitions may be on different servers.
        """
        step = 1 if self.slots_apart else most
        return [items[first : first + step] for first in range(0, len(items), step)]

    async def redis_ms(self) -> int:
        """Ask Redis for its time in ms since 1970. Raises `StreamError`."""
        seconds, micros = await self.command(lambda redis: redis.time())
        return int(seconds) * 1000 + int(micros) // 1000

    def sync_clock(self, redis_ms: int) -> None:
        """Learn Redis' time from a reply that has just arrived."""
        self._offset_ms = redis_ms - self.clock() * 1000

    def now_ms(self) -> int:
        """Redis' time in ms since 1970: the pods' own clocks do not matter."""
        return int(self.clock() * 1000 + self._offset_ms)

    async def run(self, call: Call) -> Any:
        """Run one script. Raises `StreamError`, `LeaseLost`."""
        return (await self.run_all([call]))[0]

    async def pages(self, call: Callable[[str], Call], start: str = "-") -> AsyncIterator[list[Any]]:
        """Run a script page by page, until the end; yields its reply for each page.

        `call` makes the call for the page that begins at a given id. Raises `StreamError`, `LeaseLost`.
        """
        while start:
            following, *found = await self.run(call(start))
            yield found
            start = following.decode()

    async def run_all(self, calls: Sequence[Call]) -> list[Any]:
        """Run scripts in one round trip; raises the first failure, though other calls may have succeeded."""
        replies = await self.gather(calls)
        for reply in replies:
            if isinstance(reply, Exception):
                raise reply
        return replies

    async def gather(self, calls: Sequence[Call]) -> list[Any]:
        """Run scripts in one round trip; failures come back as `StreamError` values in their places."""
        replies = await self.pipeline(lambda pipe: _queue(pipe, calls))
        missing = [i for i, reply in enumerate(replies) if isinstance(reply, NoScriptError)]
        if missing:
            repeated = await self.pipeline(lambda pipe: _queue_whole(pipe, [calls[i] for i in missing]))
            for i, reply in zip(missing, repeated, strict=True):
                replies[i] = reply
        return [await self._translated_reply(reply, call) for reply, call in zip(replies, calls, strict=True)]

    async def pipeline(self, queue: Callable[[Pipeline], None]) -> list[Any]:
        """Run any commands in one round trip, not in a transaction; errors of single commands come back as values."""
        async with self._translated(), self.redis.pipeline(transaction=False) as pipe:
            queue(pipe)
            return await pipe.execute(raise_on_error=False)

    async def command(self, call: Callable[[Redis], Awaitable[Any]], key: str = "") -> Any:
        """Run one plain command, with its error translated.

        With the `key` that it is about, a key of a wrong type is named in the error.
        """
        try:
            async with self._translated():
                return await call(self.redis)
        except StreamError as error:
            if key and _is_wrong_type(error.__cause__) and (sentence := await self.wrong_types([key])):
                raise StreamError(sentence, cause=StreamCause.REFUSED) from error
            raise

    async def _translated_reply(self, reply: Any, call: Call) -> Any:
        if _is_wrong_type(reply) and (sentence := await self.wrong_types(call.keys)):
            return StreamError(sentence, cause=StreamCause.REFUSED)
        return translate(reply, call)

    async def wrong_types(self, keys: Sequence[str]) -> str:
        """Say which of these keys hold what does not belong there; empty if none does, or Redis does not tell."""

        def queue(pipe: Pipeline) -> None:
            for key in keys:
                pipe.type(key)

        try:
            types = await self.pipeline(queue)
        except StreamError:
            return ""
        found = [(key, kind.decode()) for key, kind in zip(keys, types, strict=True) if isinstance(kind, bytes)]
        return "; ".join(wrong_type(key, kind) for key, kind in found if kind not in ("none", expected_type(key)))

    @asynccontextmanager
    async def _translated(self) -> AsyncIterator[None]:
        """Turn every error of the Redis library, and of the network below it, into `StreamError`."""
        async with _cancellable():
            try:
                yield
            except (RedisError, OSError, TimeoutError) as error:
                self.must_recheck_server = True
                raise stream_error(error) from error


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


def _queue(pipe: Pipeline, calls: Sequence[Call]) -> None:
    for call in calls:
        pipe.evalsha(_sha(call.script), len(call.keys), *call.keys, *call.args)


def _queue_whole(pipe: Pipeline, calls: Sequence[Call]) -> None:
    # EVAL also caches the script in Redis. After SCRIPT LOAD another SCRIPT FLUSH could come before EVALSHA.
    for call in calls:
        pipe.eval(script(call.script), len(call.keys), *call.keys, *call.args)


@cache
def _sha(name: str) -> str:
    return sha1(script(name).encode(), usedforsecurity=False).hexdigest()


USERS = (
    "a pusher needs the Redis user pusher, a worker the user worker, and all other commands the user operator, each as"
    " in deploy/helm/SECURITY.md (Users of Redis)"
)
"""What to do if Redis forbids a command."""


def stream_error(error: Exception) -> StreamError:
    """One sentence on the error of Redis or the network; the text is cut, because it may repeat untrusted input."""
    text = f"Redis: {type(error).__name__}: {str(error)[:200]}"
    if isinstance(error, NoPermissionError):
        text = f"{text}; {USERS}"
    if isinstance(error, ReplyTooLarge):
        return StreamError(text, cause=StreamCause.LARGE)
    if isinstance(error, ReadOnlyError):
        return StreamError(text, cause=StreamCause.READONLY)
    is_refusal = isinstance(error, ResponseError)
    return StreamError(text, cause=StreamCause.REFUSED if is_refusal else StreamCause.CONNECTION)


def wrong_type(key: str, found: str) -> str:
    """One sentence on a key that holds another type than the workers keep there, and what to do."""
    escape = f"redis-cli RENAME '{key}' 'wrong:{key}'"
    if found == "stream":
        escape = f"`audio-batch-worker streams move '{key}'` saves the audio in it; else {escape}"
    return f"Redis: {key} is a {found}, where a {expected_type(key)} belongs: another program wrote it; {escape}"


def _is_wrong_type(reply: object) -> bool:
    return isinstance(reply, ResponseError) and "WRONGTYPE" in str(reply)


def translate(reply: Any, call: Call) -> Any:
    """A script's reply, or the error it stands for."""
    if not isinstance(reply, Exception):
        return reply
    if isinstance(reply, ResponseError) and "LEASELOST" in str(reply):
        return LeaseLost(call.keys[0])
    error = stream_error(reply)
    return StreamError(f"{error} ({call.script} at {call.keys[0]})", cause=error.cause)


def texts(replies: Any) -> list[str]:
    """A list of byte strings as text."""
    return [reply.decode() for reply in cast("list[bytes]", replies)]
