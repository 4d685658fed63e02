"""A producer for a test: what it pushes, what it reports, and what Redis has of it."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, cast

from redis.backoff import ConstantBackoff

from codec.entry import Chunk, End, parse, partition_of
from worker.producer import Limits, Producer, Trouble
from worker.producer.buffer import ENTRY_OVERHEAD

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from redis.asyncio import Redis

    from tests.support.proxy import Proxy


PARTITIONS = 8
SESSION = b"life 1"
PCM = bytes(range(256)) * 10
PATIENT = Limits(close_within=5)
SOON = ConstantBackoff(0.001)
TIGHT = Limits(buffer_bytes=2 * (len(PCM) + ENTRY_OVERHEAD), close_within=0)


class Troubles:
    """Collects what a producer reports, and lets a test wait for it."""

    def __init__(self) -> None:
        self._queue: asyncio.Queue[Trouble | None] = asyncio.Queue()

    def __call__(self, trouble: Trouble | None) -> None:
        self._queue.put_nowait(trouble)

    async def of(self, cause: str) -> Trouble:
        while True:
            trouble = await self._queue.get()
            if trouble is not None and trouble.cause == cause:
                return trouble

    async def over(self) -> None:
        while await self._queue.get() is not None:
            pass


@asynccontextmanager
async def producing(
    url: str,
    prefix: str,
    *,
    limits: Limits = PATIENT,
    on_trouble: Callable[[Trouble | None], object] = id,
    session: bytes | None = SESSION,
    replicas: int = 0,
) -> AsyncIterator[Producer]:
    async with Producer(
        url,
        partitions=PARTITIONS,
        prefix=prefix,
        limits=limits,
        on_trouble=on_trouble,
        backoff=SOON,
        session=session,
        replicas=replicas,
    ) as producer:
        yield producer


@asynccontextmanager
async def cut_off(proxy: Proxy, prefix: str) -> AsyncIterator[Producer]:
    """A producer with room for two entries, whose Redis has just become unreachable."""
    async with producing(proxy.url, prefix, limits=TIGHT) as producer:
        await proxy.refuse()
        yield producer


async def raw_entries(redis: Redis, prefix: str, conversation_id: str) -> list[dict[bytes, bytes]]:
    stream = f"{prefix}:{{{partition_of(conversation_id, PARTITIONS)}}}"
    entries = cast("list[tuple[bytes, dict[bytes, bytes]]]", await redis.xrange(stream))
    return [fields for _, fields in entries if fields[b"conversation_id"] == conversation_id.encode()]


async def stored(redis: Redis, prefix: str, conversation_id: str) -> list[Chunk | End]:
    return [parse(fields) for fields in await raw_entries(redis, prefix, conversation_id)]


async def stored_seqs(redis: Redis, prefix: str, conversation_id: str) -> list[int | None]:
    return [entry.seq for entry in await stored(redis, prefix, conversation_id) if isinstance(entry, Chunk)]


async def push(producer: Producer, conversation_id: str, number: int = 0, *, within: float | None = None) -> None:
    await producer.push("u1", conversation_id, 1000.0 + number, PCM, within=within)
