"""Deletions in Redis: entries of a deleted user or conversation that are still in the streams are never stored."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from redis.asyncio.client import Pipeline

from codec.entry import check_id
from worker.model.ids import EntryId
from worker.model.layouts import Layouts
from worker.stream.client import Client
from worker.stream.config import record_or_check
from worker.stream.keys import GROUP, Keys
from worker.stream.scripting import Call, texts
from worker.stream.servers.checks import count_replicas
from worker.stream.servers.connecting import connect
from worker.stream.servers.failures import stream_error
from worker.stream.servers.node import Node

RETENTION = 30 * 24 * 3600.0
"""Seconds that a tombstone stays at least: longer than a blob may wait in a spool, or an upload may hang."""

PAGE = 20
"""Dead letters read per script call: some MB of payload, a few ms of Redis' time."""

REPLICATION = 2.0
"""Seconds in which replicas should confirm a deletion; healthy ones lag a few ms behind."""


@dataclass(frozen=True, slots=True)
class RecordedDeletion:
    """The effect of a deletion in Redis: partitions that recorded it, and dead letters that were removed.

    `streams` maps the random id of each stream to the last entry that the deletion covers. Some `replicas` may be
    `unconfirmed`: if one of these becomes the primary now, it may not know of the deletion.
    """

    partitions: int
    dead_letters: int
    streams: Mapping[str, EntryId] = field(default_factory=dict)
    replicas: int = 0
    unconfirmed: int = 0


@asynccontextmanager
async def open_tombstones(
    redis_url: str, prefix: str, partitions: int | None, *, replication: float = REPLICATION
) -> AsyncIterator[Tombstones]:
    """Open the `Tombstones` of the workers on that Redis, STREAM_PREFIX and PARTITIONS (None: as Redis records it).

    Raises:
        SettingsError: REDIS_URL can't be understood, or the workers have other PARTITIONS.
        StreamError: Redis is unreachable or refuses.
    """
    keys = Keys(prefix)
    async with Client(connect(redis_url)) as client:
        layouts = await record_or_check(client, keys, partitions)
        yield Tombstones(client, keys, layouts, replication=replication)


class Tombstones:
    """Writes deletions under one prefix; a full Redis takes them too. Every method raises `StreamError`.

    `replication` is how many seconds replicas may take to confirm a deletion.
    """

    def __init__(self, client: Client, keys: Keys, layouts: Layouts, *, replication: float = REPLICATION) -> None:
        self._client = client
        self._keys = keys
        self._layouts = layouts
        self._replication = replication

    async def record_deletion(self, uid: str, conversation_id: str | None = None) -> RecordedDeletion:
        """Record that audio of a conversation or a user which was pushed until now must not be stored any more.

        Audio that is pushed afterwards is new. Call this before the store is cleared: then a worker with an upload in
        flight removes that object itself.

        Raises:
            BadEntry: an id is invalid.
        """
        check_id(uid, "uid")
        partitions: Sequence[int] = range(self._layouts.total)
        if conversation_id is not None:
            check_id(conversation_id, "conversation_id")
            partitions = self._layouts.partitions_of(conversation_id)
        calls = [self._tombstone(partition, f"{uid}/{conversation_id or ''}") for partition in partitions]
        positions = [texts(reply) for reply in await self._client.run_all(calls)]
        letters = [await self._forget(partition, uid, conversation_id or "") for partition in partitions]
        written = [call for call, (_, stream) in zip(calls, positions, strict=True) if stream]
        replicas, unconfirmed = await self._confirm(written)
        return RecordedDeletion(len(partitions), sum(letters), _by_stream(positions), replicas, unconfirmed)

    def _tombstone(self, partition: int, name: str) -> Call:
        of = self._keys
        keys = [of.stream(partition), of.ready(partition), of.deleted(partition), of.epoch(partition)]
        return Call("tombstone", keys, [name, int(RETENTION * 1000), GROUP, secrets.token_hex(16)])

    async def _forget(self, partition: int, uid: str, conversation_id: str) -> int:
        dead = [self._keys.dead(partition)]
        pages = self._client.pages(lambda start: Call("forget", dead, [uid, conversation_id, start, PAGE]))
        return sum([removed async for (removed,) in pages])

    async def _confirm(self, written: Sequence[Call]) -> tuple[int, int]:
        """How many replicas the nodes have that recorded these deletions, and how many of these did not confirm them.

        One deletion per node is enough: a replica that has the last write has all writes before it.
        """
        last = {self._client.node_of(call.keys[0]): call for call in written}
        counts = await asyncio.gather(*(self._confirmations(node, call) for node, call in last.items()))
        return sum(replicas for replicas, _ in counts), sum(unconfirmed for _, unconfirmed in counts)

    async def _confirmations(self, node: Node, repeated: Call) -> tuple[int, int]:
        """How many replicas a node has, and how many of these lack what was written so far.

        WAIT covers the last write of its own connection, so one deletion is recorded again right before it.
        """
        replicas = await count_replicas(node)
        if not replicas:
            return 0, 0

        def queue(pipe: Pipeline) -> None:
            repeated.queue_whole(pipe)
            pipe.wait(replicas, int(self._replication * 1000))

        for reply in (replies := await node.pipeline(queue)):
            if isinstance(reply, Exception):
                raise stream_error(reply) from reply
        return replicas, max(0, replicas - int(replies[-1]))


def _by_stream(positions: Sequence[Sequence[str]]) -> dict[str, EntryId]:
    return {stream: last for last, stream in positions if stream}
