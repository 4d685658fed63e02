"""Deletions as Redis must know them: what is still in the streams of a deleted user or conversation is never stored."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from codec.entry import check_id, partition_of
from worker.stream.client import Call, Client, connect
from worker.stream.config import record_or_check
from worker.stream.keys import Keys

RETENTION = 30 * 24 * 3600.0
"""Seconds that a tombstone stays at least: longer than a blob may wait in a spool, or an upload hang."""

PAGE = 20
"""Dead letters looked through per script call: some MB of payload, a few ms of Redis' time."""


@dataclass(frozen=True, slots=True)
class Buried:
    """What a deletion did in Redis: partitions that know of it, and dead letters that went."""

    partitions: int
    dead_letters: int


@asynccontextmanager
async def opened(redis_url: str, prefix: str, partitions: int) -> AsyncIterator[Tombstones]:
    """Tombstones of the workers on that Redis, STREAM_PREFIX and PARTITIONS.

    Raises:
        SettingsError: they have other partitions.
        StreamError: Redis is unreachable or refuses.
    """
    keys = Keys(prefix)
    async with Client(connect(redis_url)) as client:
        await record_or_check(client, keys, partitions)
        yield Tombstones(client, keys, partitions)


class Tombstones:
    """Writes deletions under one prefix; a full Redis takes them too. Every method raises `StreamError`."""

    def __init__(self, client: Client, keys: Keys, partitions: int) -> None:
        self._client = client
        self._keys = keys
        self._partitions = partitions

    async def bury(self, uid: str, conversation_id: str | None = None) -> Buried:
        """Let nothing that was pushed of a conversation, or of a user, until now be stored any more.

        Audio that is pushed afterwards is new. Call it before the store is cleared: then whatever an upload under way
        still puts there is removed by the worker that did it.

        Raises:
            BadEntry: an id is none.
        """
        check_id(uid, "uid")
        partitions = range(self._partitions)
        if conversation_id is not None:
            check_id(conversation_id, "conversation_id")
            number = partition_of(conversation_id, self._partitions)
            partitions = range(number, number + 1)
        field = f"{uid}/{conversation_id or ''}"
        await self._client.run_all([self._tombstone(partition, field) for partition in partitions])
        letters = [await self._forget(partition, uid, conversation_id or "") for partition in partitions]
        return Buried(len(partitions), sum(letters))

    def _tombstone(self, partition: int, field: str) -> Call:
        keys = [self._keys.stream(partition), self._keys.ready(partition), self._keys.deleted(partition)]
        return Call("tombstone", keys, [field, int(RETENTION * 1000)])

    async def _forget(self, partition: int, uid: str, conversation_id: str) -> int:
        dead = [self._keys.dead(partition)]
        pages = self._client.pages(lambda start: Call("forget", dead, [uid, conversation_id, start, PAGE]))
        return sum([removed async for (removed,) in pages])
