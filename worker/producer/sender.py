"""Sends entries from the buffer to Redis: one round trip after the other, repeated until Redis has confirmed."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, cast

import structlog
from redis import exceptions

from codec.entry import Chunk
from worker.errors import StreamError
from worker.model.causes import StreamCause
from worker.stream.config import record_or_check
from worker.stream.servers.failures import stream_error

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from redis.asyncio.client import Pipeline
    from redis.backoff import AbstractBackoff

    from worker.producer.buffer import Buffer, Pending
    from worker.stream.client import Client
    from worker.stream.keys import Keys


class Cause(StrEnum):
    """Why Redis does not take audio now."""

    FULL = "full"  # it has no memory left
    READONLY = "readonly"  # it is a replica
    LOADING = "loading"  # it starts, and reads its data
    TIMEOUT = "timeout"  # it does not answer in time
    CONNECTION = "connection"  # it can't be reached
    REFUSED = "refused"  # it refuses the user, or this command


CAUSES: tuple[tuple[type[Exception], Cause], ...] = (
    (exceptions.OutOfMemoryError, Cause.FULL),
    (exceptions.ReadOnlyError, Cause.READONLY),
    (exceptions.BusyLoadingError, Cause.LOADING),
    (exceptions.AuthenticationError, Cause.REFUSED),
    (exceptions.TimeoutError, Cause.TIMEOUT),
    (TimeoutError, Cause.TIMEOUT),
    (exceptions.ConnectionError, Cause.CONNECTION),
    (OSError, Cause.CONNECTION),
)
"""The first match counts: in the library, "loading" and "authentication" are connection errors; in Python, a
TimeoutError is an OSError."""

BY_STREAM_CAUSE = {StreamCause.READONLY: Cause.READONLY, StreamCause.REFUSED: Cause.REFUSED}
"""Causes of errors that the library did not raise. All other errors mean that the connection is useless."""

ROUND_BYTES = 2 * 1024 * 1024
"""Bytes per round trip, unless one entry is larger: a slow network must carry it before the reply is given up."""

MAX_EXPONENT = 16
"""Back-offs double up to here; they are capped in seconds long before, and 2**failures must not overflow."""

log: structlog.stdlib.BoundLogger = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Trouble:
    """Redis does not take audio now.

    `failures` counts the attempts in a row that stored nothing, `delay` is the seconds until the next one.
    """

    cause: Cause
    message: str
    failures: int
    delay: float


class Sender:
    """Sends the heads of all lanes in one round trip, and the next ones only when Redis has confirmed these.

    So a conversation has one entry on its way at any time. Entries may be refused, lost or repeated, and the bytes of
    an old connection may arrive in any order: the first copies of entries are still in the order of the pushes. A
    repeated XADD has the very same fields.
    """

    def __init__(
        self,
        client: Client,
        keys: Keys,
        partitions: int,
        buffer: Buffer,
        backoff: AbstractBackoff,
        on_trouble: Callable[[Trouble | None], object],
    ) -> None:
        self._client = client
        self._keys = keys
        self._partitions = partitions
        self._buffer = buffer
        self._backoff = backoff
        self._on_trouble = on_trouble
        self._checked = False
        self.trouble: Trouble | None = None
        self.sent_entries = 0
        self.sent_bytes = 0
        self.retries = 0
        self.refusals = 0

    async def check(self) -> None:
        """Make sure that Redis answers, and records the same settings. Raises `SettingsError`, `StreamError`."""
        await record_or_check(self._client, self._keys, self._partitions)
        self._checked = True

    async def run(self) -> None:
        """Send until cancelled. Raises `SettingsError` if Redis turns out to record other settings."""
        while True:
            await self._buffer.filled()
            sent_before = self.sent_entries
            error = await self._attempt()
            if error is None:
                self._recover()
            else:
                # One lane that stays refused must not slow the others down more and more.
                failures = self.trouble.failures if self.trouble and self.sent_entries == sent_before else 0
                await self._back_off(error, failures + 1)

    async def _attempt(self) -> StreamError | None:
        try:
            if not self._checked:
                await self.check()
            return await self._send(self._buffer.heads(ROUND_BYTES))
        except StreamError as error:
            return error

    async def _send(self, heads: Sequence[Pending]) -> StreamError | None:
        replies = await self._client.pipeline(lambda pipe: self._queue(pipe, heads))
        failed = None
        for head, reply in zip(heads, replies, strict=True):
            if isinstance(reply, Exception):
                failed = self._refused(reply)
            else:
                self._confirmed(head)
        return failed

    def _queue(self, pipe: Pipeline, heads: Sequence[Pending]) -> None:
        for head in heads:
            pipe.xadd(self._keys.stream(head.partition), cast("dict[Any, Any]", head.entry.fields()))

    def _refused(self, reply: Exception) -> StreamError:
        self.refusals += isinstance(reply, exceptions.OutOfMemoryError)
        error = stream_error(reply)
        error.__cause__ = reply
        return error

    def _confirmed(self, head: Pending) -> None:
        self.sent_entries += 1
        self.sent_bytes += len(head.entry.pcm) if isinstance(head.entry, Chunk) else 0
        self._buffer.confirm(head)

    async def _back_off(self, error: StreamError, failures: int) -> None:
        cause = cause_of(error)
        delay = self._backoff.compute(min(failures, MAX_EXPONENT))
        self._report(Trouble(cause, str(error), failures, delay))
        self.retries += 1
        if cause is not Cause.FULL:
            await self._reconnect()
        await asyncio.sleep(delay)

    async def _reconnect(self) -> None:
        # After a failover the old address may lead to the new primary, but not over the old connection. It may be
        # another Redis now, or one that lost its data, so the settings are compared again.
        self._checked = False
        await self._client.reconnect()

    def _report(self, trouble: Trouble) -> None:
        self.trouble = trouble
        log.warning(
            "producer.retrying",
            cause=trouble.cause,
            error=trouble.message,
            failures=trouble.failures,
            delay=round(trouble.delay, 3),
            buffered_entries=self._buffer.entries,
            buffered_bytes=self._buffer.bytes,
            oldest_age=round(self._buffer.oldest_age(), 3),
        )
        self._call_back(trouble)

    def _recover(self) -> None:
        if self.trouble is None:
            return
        log.info("producer.recovered", failures=self.trouble.failures, buffered_bytes=self._buffer.bytes)
        self.trouble = None
        self._call_back(None)

    def _call_back(self, trouble: Trouble | None) -> None:
        # Called by the loop: it reports an error in the caller's function, and sending goes on.
        asyncio.get_running_loop().call_soon(self._on_trouble, trouble)


def cause_of(error: StreamError) -> Cause:
    """The cause of an error of Redis, for logs and decisions."""
    for kind, cause in CAUSES:
        if isinstance(error.__cause__, kind):
            return cause
    return BY_STREAM_CAUSE.get(error.cause, Cause.CONNECTION)
