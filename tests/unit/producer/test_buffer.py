"""The bounded buffer between pushes and Redis: who waits for room, who is refused, whose turn it is."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from codec.entry import Chunk, End
from codec.errors import BadEntry
from tests.support.clock import Clock
from tests.support.producing import TIGHT, cut_off, producing, push, stored, stored_seqs
from worker.errors import BufferFull
from worker.producer import Limits
from worker.producer.buffer import ENTRY_OVERHEAD, Buffer

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from tests.support.proxy import Proxy


async def test_a_full_buffer_refuses_pushes_that_do_not_wait(redis_client: Redis, proxy: Proxy, prefix: str) -> None:
    async with cut_off(proxy, prefix) as producer:
        await push(producer, "c1", 0)
        await push(producer, "c1", 1)
        with pytest.raises(BufferFull, match="wait for Redis"):
            await push(producer, "c1", 2, within=0)
        with pytest.raises(BufferFull):
            await push(producer, "c1", 2, within=0.001)
        assert producer.stats().buffer_full == 2
        assert producer.stats().buffered_bytes == TIGHT.buffer_bytes
        await proxy.accept()
        await producer.flush()
        await push(producer, "c1", 3)
        await producer.flush()
    assert await stored_seqs(redis_client, prefix, "c1") == [0, 1, 2]
    chunks = await stored(redis_client, prefix, "c1")
    assert [chunk.timestamp for chunk in chunks if isinstance(chunk, Chunk)] == [1000, 1001, 1003]


async def test_pushes_that_wait_for_room_come_in_in_their_order(redis_client: Redis, proxy: Proxy, prefix: str) -> None:
    async with cut_off(proxy, prefix) as producer:
        pushes = [asyncio.create_task(push(producer, "c1", number)) for number in range(20)]
        _, waiting = await asyncio.wait(pushes, timeout=0.01)
        assert len(waiting) == producer.stats().waiting == 18
        await proxy.accept()
        await asyncio.gather(*pushes)
        await producer.flush()
    chunks = await stored(redis_client, prefix, "c1")
    assert [(c.seq, c.timestamp) for c in chunks if isinstance(c, Chunk)] == [(n, 1000 + n) for n in range(20)]


async def test_a_push_that_can_not_be_numbered_fails_alone() -> None:
    def refused() -> Chunk:
        raise BadEntry("no number is left")

    buffer, entry = Buffer(1, Clock()), End("u", "c")
    await buffer.admit(0, 1, lambda: entry, None)
    bad = asyncio.create_task(buffer.admit(0, 1, refused, None))
    good = asyncio.create_task(buffer.admit(0, 1, lambda: entry, None))
    await asyncio.wait([bad, good], timeout=0.001)
    (head,) = buffer.heads(1)
    buffer.confirm(head)
    with pytest.raises(BadEntry, match="no number is left"):
        await bad
    assert await good is entry


async def test_a_push_given_up_makes_way_for_those_behind_it(redis_client: Redis, proxy: Proxy, prefix: str) -> None:
    async with cut_off(proxy, prefix) as producer:
        for number in range(2):
            await push(producer, "c1", number)
        impatient = asyncio.create_task(push(producer, "c1", 2))
        patient = asyncio.create_task(push(producer, "c1", 3))
        await asyncio.wait([impatient], timeout=0.001)
        impatient.cancel()
        await proxy.accept()
        await patient
        await producer.flush()
        assert impatient.cancelled()
    chunks = await stored(redis_client, prefix, "c1")
    assert [(c.seq, c.timestamp) for c in chunks if isinstance(c, Chunk)] == [(0, 1000), (1, 1001), (2, 1003)]


async def test_an_entry_larger_than_the_buffer_goes_through_alone(
    redis_client: Redis, redis_url: str, prefix: str
) -> None:
    async with producing(redis_url, prefix, limits=Limits(buffer_bytes=1)) as producer:
        for number in range(3):
            await push(producer, "c1", number)
    assert await stored_seqs(redis_client, prefix, "c1") == [0, 1, 2]


async def test_a_round_trip_takes_one_entry_per_partition_and_lanes_take_turns() -> None:
    buffer = Buffer(limit=10**6, clock=Clock(0))
    entries = [End("u", f"{partition}-{number}") for number in range(2) for partition in range(3)]
    for position, entry in enumerate(entries):
        await buffer.admit(position % 3, 0, lambda entry=entry: entry, within=0)  # type: ignore[misc]
    rounds = []
    while heads := buffer.heads(2 * ENTRY_OVERHEAD):
        rounds.append([head.partition for head in heads])
        for head in heads:
            buffer.confirm(head)
    assert rounds == [[0, 1], [2, 0], [1, 2]]


async def test_the_age_of_the_oldest_entry_is_known() -> None:
    clock = Clock(0)
    buffer = Buffer(limit=10**6, clock=clock)
    assert buffer.oldest_age() == 0
    await buffer.admit(0, 0, lambda: End("u", "c"), within=0)
    clock.now = 7
    assert buffer.oldest_age() == 7
