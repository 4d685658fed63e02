"""Sends entries to one node of Redis: one round trip after the other, repeated until the node has confirmed."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, cast

import structlog
from redis import exceptions

from codec.entry import Chunk
from worker.errors import StreamError
from worker.producer.trouble import Cause, Failure, Trouble, cause_of, failure_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from redis.asyncio.client import Pipeline
    from redis.backoff import AbstractBackoff

    from worker.producer.agreement import Agreement
    from worker.producer.buffer import Buffer
    from worker.producer.lanes import Pending
    from worker.producer.losses import Losses
    from worker.producer.trouble import Troubles
    from worker.stream.client import Client
    from worker.stream.keys import Keys
    from worker.stream.servers.node import Node

ROUND_BYTES = 2 * 1024 * 1024
"""Most bytes per round trip, unless one entry is larger: a slow network must carry it before the reply is given up."""

ONE_ENTRY = 1
"""Bytes per round trip that let one entry through, whatever its size."""

MAX_EXPONENT = 16
"""Back-offs double up to here; they are capped in seconds long before, and 2**failures must not overflow."""

CONNECTED = frozenset({Cause.FULL, Cause.CLUSTER, Cause.UNREPLICATED})
"""Causes that say nothing against the connection, nor against the server's data."""

log: structlog.stdlib.BoundLogger = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class SendRules:
    """When an entry counts as sent, and what happens until then.

    It counts as sent when Redis and `replicas` replicas have it; the replicas have `replication_ms` milliseconds to
    confirm. `backoff` gives the seconds between two attempts. `on_trouble` is called with each failed attempt, and with
    None once all is well.
    """

    replicas: int
    replication_ms: int
    backoff: AbstractBackoff
    on_trouble: Callable[[Trouble | None], object]


@dataclass(slots=True)
class Counts:
    """What all nodes together have got and refused."""

    sent_entries: int = 0
    sent_bytes: int = 0
    retries: int = 0
    refusals: int = 0


@dataclass(frozen=True, slots=True)
class Shared:
    """What the senders of all nodes share; `follow` learns which nodes have which partitions, and moves lanes."""

    client: Client
    keys: Keys
    buffer: Buffer
    agreement: Agreement
    losses: Losses
    troubles: Troubles
    counts: Counts
    rules: SendRules
    follow: Callable[[], Awaitable[None]]


class NodeSender:
    """Sends the heads of all lanes of a node in one round trip, and the next ones when Redis has confirmed these.

    So a conversation has one entry on its way at any time. Entries may be refused, lost or repeated, and the bytes of
    an old connection may arrive in any order: the first copies of entries are still in the order of the pushes. A
    repeated XADD has the very same fields.
    """

    def __init__(self, node: Node, shared: Shared) -> None:
        self._node = node
        self._shared = shared
        self._client = shared.client
        self._buffer = shared.buffer
        self._counts = shared.counts
        self._troubles = shared.troubles
        self._replicas = shared.rules.replicas
        self._backoff = copy.copy(shared.rules.backoff)
        self._round_bytes = ROUND_BYTES
        self._server = ""
        self._confirmed = 0

    async def run(self) -> None:
        """Send until the node has no partitions any more. Raises `SettingsError` if Redis records other settings."""
        while await self._has_work():
            confirmed_before = self._confirmed
            failure = await self._attempt()
            if failure is None:
                self._recover()
            else:
                # One lane that stays refused must not slow the others down more and more.
                trouble = self._troubles.of(self._node.name)
                failures = trouble.failures if trouble and self._confirmed == confirmed_before else 0
                await self._back_off(failure, failures + 1)

    async def _has_work(self) -> bool:
        """Wait until there is something to send; returns False if nothing comes to this node any more."""
        if not self._buffer.holds(self._node) and self._troubles.over(self._node.name):
            log.info("producer.node_left", node=self._node.name)  # what waited for it is at other nodes now
        return await self._buffer.filled(self._node)

    async def _attempt(self) -> Failure | None:
        try:
            await self._shared.follow()
            if not self._buffer.holds(self._node):
                return None
            await self._shared.agreement.compare_before(self._node)
            await self._watch_server()
            return await self._send()
        except StreamError as error:
            return Failure(cause_of(error), str(error))

    async def _watch_server(self) -> None:
        """Learn whether another server answers now, which may have lost what the last one had confirmed."""
        await self._client.connect_to(self._node)
        if self._node.must_recheck:
            self._node.must_recheck = False
            self._server = await self._shared.losses.server_of(self._node)

    async def _send(self) -> Failure | None:
        heads = self._buffer.take(self._node, self._round_bytes)
        if not heads:  # they are at other nodes by now
            return None
        try:
            await self._shared.losses.count(self._node, [head.partition for head in heads], self._server)
            replies = await self._client.pipeline_at(self._node, lambda pipe: self._queue(pipe, heads))
        except BaseException:
            for head in heads:
                self._buffer.put_back(head)
            raise
        return self._settle(heads, replies)

    def _queue(self, pipe: Pipeline, heads: Sequence[Pending]) -> None:
        for head in heads:
            if self._buffer.is_asking(head):
                pipe.execute_command("ASKING")
            pipe.xadd(self._shared.keys.stream(head.partition), cast("dict[Any, Any]", head.entry.fields()))
        if self._replicas:
            pipe.wait(self._replicas, self._shared.rules.replication_ms)

    def _settle(self, heads: Sequence[Pending], replies: Sequence[Any]) -> Failure | None:
        """Give all heads back to the buffer; returns the last failure."""
        shortage = self._shortage(replies[-1]) if self._replicas else None
        failed = None
        for head, reply in zip(heads, self._without_asking(heads, replies), strict=True):
            if isinstance(reply, Exception):
                failed = self._refused(head, reply) or failed
            elif shortage is not None:
                self._buffer.put_back(head)
            else:
                self._confirm(head, reply)
        self._adapt(shortage, heads)
        return failed or shortage

    def _adapt(self, shortage: Failure | None, heads: Sequence[Pending]) -> None:
        """What was not replicated is repeated: the less at once, the less it fills a Redis that waits for a replica."""
        sent = sum(head.size for head in heads)
        self._round_bytes = ONE_ENTRY if shortage else min(ROUND_BYTES, 2 * max(sent, self._round_bytes))

    def _without_asking(self, heads: Sequence[Pending], replies: Sequence[Any]) -> list[Any]:
        """The replies to the entries alone."""
        following = iter(replies)
        return [next(islice(following, int(self._buffer.is_asking(head)), None)) for head in heads]

    def _refused(self, head: Pending, reply: Exception) -> Failure | None:
        """Redis does not take an entry, or another node does."""
        target = self._client.redirection(reply, self._node)
        if target is not None and self._buffer.redirect(head, target.node, asking=target.asking):
            return None
        if target is None:
            self._buffer.put_back(head)
        self._counts.refusals += isinstance(reply, exceptions.OutOfMemoryError)
        return failure_of(reply)

    def _shortage(self, replicas: int | Exception) -> Failure | None:
        """What is wrong if too few replicas have all that was sent on this connection."""
        if isinstance(replicas, Exception):
            return failure_of(replicas)
        if replicas >= self._replicas:
            return None
        within = self._shared.rules.replication_ms
        message = f"Redis: {replicas} of {self._replicas} replicas have confirmed the audio within {within} ms"
        return Failure(Cause.UNREPLICATED, message)

    def _confirm(self, head: Pending, entry: bytes) -> None:
        self._confirmed += 1
        self._counts.sent_entries += 1
        self._counts.sent_bytes += len(head.entry.pcm) if isinstance(head.entry, Chunk) else 0
        self._shared.losses.confirmed(head.partition, entry.decode(), self._server)
        self._buffer.confirm(head)

    async def _back_off(self, failure: Failure, failures: int) -> None:
        delay = self._backoff.compute(min(failures, MAX_EXPONENT))
        self._report(Trouble(*failure, failures, delay, self._node.name))
        self._counts.retries += 1
        if failure.cause not in CONNECTED:
            # After a failover the old address may lead to the new primary, but not over the old connection. It may be
            # another Redis now, or one that lost its data, so the settings are compared again.
            self._shared.agreement.doubt(self._node)
            await self._node.reconnect()
        await self._buffer.emptied(self._node, within=delay)

    def _report(self, trouble: Trouble) -> None:
        log.warning(
            "producer.retrying",
            cause=trouble.cause,
            error=trouble.message,
            failures=trouble.failures,
            delay=round(trouble.delay, 3),
            node=trouble.node,
            buffered_entries=self._buffer.entries,
            buffered_bytes=self._buffer.bytes,
            oldest_age=round(self._buffer.oldest_age(), 3),
        )
        self._troubles.report(trouble)

    def _recover(self) -> None:
        if trouble := self._troubles.over(self._node.name):
            failures, held = trouble.failures, self._buffer.bytes
            log.info("producer.recovered", failures=failures, node=trouble.node, buffered_bytes=held)
