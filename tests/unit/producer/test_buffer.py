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
from worker.producer.buffer import ENTRY_OVERHEAD, MAX_REDIRECTIONS, Buffer

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from tests.support.proxy import Proxy


ENTRY = End("u", "c")
ONE = ENTRY_OVERHEAD


def placed(limit: int, places: dict[int, str] | None = None) -> Buffer:
    """A buffer whose partitions are at the given nodes; by default all are at one."""
    where = places if places is not None else {}
    buffer = Buffer(limit, Clock(), lambda partition: where.get(partition, ""))
    buffer.rearrange({*where.values()} or {""})
    return buffer


async def fill(buffer: Buffer, partition: int) -> int:
    """Push entries of one byte size until there is no room; returns how many got in."""
    for count in range(1000):
        try:
            await buffer.admit(partition, 0, lambda: ENTRY, within=0)
        except BufferFull:
            return count
    raise AssertionError("there is always room")


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

    buffer, entry = placed(1), End("u", "c")
    await buffer.admit(0, 1, lambda: entry, None)
    bad = asyncio.create_task(buffer.admit(0, 1, refused, None))
    good = asyncio.create_task(buffer.admit(0, 1, lambda: entry, None))
    await asyncio.wait([bad, good], timeout=0.001)
    (head,) = buffer.take("", 1)
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
    buffer = placed(10**6)
    entries = [End("u", f"{partition}-{number}") for number in range(2) for partition in range(3)]
    for position, entry in enumerate(entries):
        await buffer.admit(position % 3, 0, lambda entry=entry: entry, within=0)  # type: ignore[misc]
    rounds = []
    while heads := buffer.take("", 2 * ENTRY_OVERHEAD):
        rounds.append([head.partition for head in heads])
        for head in heads:
            buffer.confirm(head)
    assert rounds == [[0, 1], [2, 0], [1, 2]]


async def test_the_age_of_the_oldest_entry_is_known() -> None:
    clock = Clock(0)
    buffer = Buffer(10**6, clock, lambda _: "")
    assert buffer.oldest_age() == 0
    await buffer.admit(0, 0, lambda: End("u", "c"), within=0)
    clock.now = 7
    assert buffer.oldest_age() == 7


async def test_nodes_that_take_nothing_leave_room_for_the_others() -> None:
    buffer = placed(60 * ONE, {0: "dead", 1: "hung", 2: "well"})
    assert await fill(buffer, 0) == 30
    assert await fill(buffer, 1) == 15
    assert await fill(buffer, 2) == 7
    for _ in range(7):
        for head in buffer.take("well", 1):
            buffer.confirm(head)
    assert await fill(buffer, 2) == 7


async def test_a_single_node_may_fill_the_whole_buffer() -> None:
    assert await fill(placed(60 * ONE), 0) == 60


async def test_an_entry_of_any_size_gets_in_if_nothing_of_its_node_waits() -> None:
    buffer = placed(60 * ONE, {0: "dead", 1: "well"})
    await fill(buffer, 0)
    assert await buffer.admit(1, 100 * ONE, lambda: ENTRY, within=0) is ENTRY
    with pytest.raises(BufferFull):
        await buffer.admit(1, 0, lambda: ENTRY, within=0)


async def test_a_push_waits_only_for_room_of_its_own_node() -> None:
    buffer = placed(4 * ONE, {0: "dead", 1: "well"})
    await fill(buffer, 0)
    waiting = asyncio.create_task(buffer.admit(0, 0, lambda: ENTRY, None))
    await asyncio.wait([waiting], timeout=0.001)
    assert await buffer.admit(1, 0, lambda: ENTRY, within=0) is ENTRY
    assert buffer.waiting == 1
    for place in ("well", "dead"):
        (head,) = buffer.take(place, 1)
        buffer.confirm(head)
    assert await waiting is ENTRY


async def test_a_lane_moves_with_its_entries_and_with_those_that_wait() -> None:
    places = {0: "old", 1: "other"}
    buffer = placed(4 * ONE, places)
    entries = [End("u", str(number)) for number in range(4)]
    pushes = [
        asyncio.create_task(buffer.admit(0, 0, lambda entry=entry: entry, None))  # type: ignore[misc]
        for entry in entries
    ]
    await asyncio.wait(pushes, timeout=0.001)
    assert buffer.waiting == 2
    places[0] = "new"
    buffer.rearrange({"new", "other"})
    assert set(buffer.places) == {"new", "other"}
    assert not await buffer.filled("old")
    sent = []
    while heads := buffer.take("new", 1):
        sent += [head.entry for head in heads]
        buffer.confirm(heads[0])
        await asyncio.sleep(0)
    assert sent == entries
    assert buffer.bytes == buffer.waiting == 0


async def test_an_entry_on_its_way_stays_with_its_node_until_the_reply() -> None:
    places = {0: "old", 1: "other"}
    buffer = placed(60 * ONE, places)
    for _ in range(2):
        await buffer.admit(0, 0, lambda: ENTRY, None)
    (head,) = buffer.take("old", 1)
    places[0] = "new"
    buffer.rearrange({"new", "other"})
    assert buffer.take("new", 1) == []
    buffer.put_back(head)
    assert buffer.take("new", 1) == [head]
    assert not await buffer.filled("old")


async def test_a_redirected_entry_goes_to_the_other_node_once() -> None:
    buffer = placed(60 * ONE, {0: "source", 1: "target"})
    for _ in range(2):
        await buffer.admit(0, 0, lambda: ENTRY, None)
    (head,) = buffer.take("source", 1)
    assert buffer.redirect(head, "target", asking=True)
    assert buffer.take("target", 1) == [head]
    assert buffer.is_asking(head)
    buffer.confirm(head)
    (following,) = buffer.take("source", 1)
    assert not buffer.is_asking(following)


async def test_nodes_that_disagree_for_ever_are_a_failure() -> None:
    buffer = placed(60 * ONE, {0: "one", 1: "other"})
    await buffer.admit(0, 0, lambda: ENTRY, None)
    moves = 0
    for place in ("one", "other") * 10:
        (head,) = buffer.take(place, 1)
        if not buffer.redirect(head, "other" if place == "one" else "one", asking=False):
            break
        moves += 1
    assert moves == MAX_REDIRECTIONS
    assert buffer.take("one", 1) == [head]


async def test_what_was_refused_comes_behind_the_other_lanes() -> None:
    buffer = placed(60 * ONE)
    for partition in range(3):
        await buffer.admit(partition, 0, lambda: ENTRY, None)
    taken = []
    for _ in range(3):
        (head,) = buffer.take("", 1)
        taken.append(head.partition)
        buffer.put_back(head)
    assert taken == [0, 1, 2]
