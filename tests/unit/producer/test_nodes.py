"""Nodes of a Redis Cluster die, hang and change places: each delays only its own partitions, and order is kept."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from itertools import chain
from typing import TYPE_CHECKING

import pytest
import redis.asyncio.cluster

from codec.entry import partition_of
from tests.support.harness import eventually
from tests.support.producing import PARTITIONS, PCM, Troubles, producing, push, stored_seqs
from worker.errors import NotSent
from worker.producer import Limits
from worker.producer.buffer import ENTRY_OVERHEAD
from worker.stream.keys import Keys

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from tests.support.redis_cluster import RedisCluster
    from tests.support.redis_server import RedisServer
    from worker.producer import Producer

pytestmark = pytest.mark.slow

PREFIX = "pcm"
CONVERSATIONS = [f"c{number}" for number in range(12)]
TURNS = 100
PATIENCE = Limits(reply_timeout=60.0, close_within=20.0)
"""What waits for a node that hangs waits until the test is over."""

ROOM_FOR = 40
SMALL = Limits(buffer_bytes=ROOM_FOR * (len(PCM) + ENTRY_OVERHEAD), reply_timeout=60.0)


@pytest.fixture
def cluster(own_cluster: Callable[..., RedisCluster]) -> RedisCluster:
    return own_cluster(3)


@pytest.fixture
async def admin(cluster: RedisCluster) -> AsyncIterator[redis.asyncio.cluster.RedisCluster]:
    async with redis.asyncio.cluster.RedisCluster.from_url(cluster.url) as client:
        yield client


def stream(conversation: str) -> str:
    return Keys(PREFIX).stream(partition_of(conversation, PARTITIONS))


def by_node(cluster: RedisCluster) -> dict[RedisServer, list[str]]:
    found = defaultdict(list)
    for conversation in CONVERSATIONS:
        found[cluster.owner(stream(conversation))].append(conversation)
    return found


def victim_and_others(cluster: RedisCluster) -> tuple[RedisServer, list[str], list[str]]:
    """A node that is neither the first one asked nor has the settings, its conversations, and those of the others."""
    nodes = by_node(cluster)
    spared = {cluster.servers[0], cluster.owner(Keys(PREFIX).config)}
    victim = next(server for server in nodes if server not in spared)
    return victim, nodes.pop(victim), [*chain.from_iterable(nodes.values())]


async def push_in_turns(producer: Producer, conversations: list[str], first: int = 0, turns: int = TURNS) -> None:
    """Push one chunk of each conversation, and the next ones when these are confirmed."""
    before = producer.stats().sent_entries
    for turn in range(turns):
        for conversation in conversations:
            await push(producer, conversation, first + turn, within=0)
        expected = before + (turn + 1) * len(conversations)
        await eventually(lambda expected=expected: producer.stats().sent_entries >= expected)  # type: ignore[misc]


async def assert_complete(admin: redis.asyncio.cluster.RedisCluster, count: Callable[[str], int]) -> None:
    for conversation in CONVERSATIONS:
        seqs = await stored_seqs(admin, PREFIX, conversation)  # type: ignore[arg-type]
        assert list(dict.fromkeys(seqs)) == list(range(count(conversation)))


async def test_a_node_that_hangs_does_not_delay_the_others_by_a_single_turn(
    cluster: RedisCluster, admin: redis.asyncio.cluster.RedisCluster
) -> None:
    victim, its, others = victim_and_others(cluster)
    async with producing(cluster.url, PREFIX, limits=PATIENCE) as producer:
        await push_in_turns(producer, CONVERSATIONS, turns=1)
        victim.pause()
        for conversation in its:
            for number in range(1, 4):
                await push(producer, conversation, number)
        await push_in_turns(producer, others, first=1)
        stats = producer.stats()
        assert (stats.retries, stats.buffered_entries) == (0, 3 * len(its))
        victim.resume()
        assert await producer.flush() == ()
    await assert_complete(admin, lambda conversation: 4 if conversation in its else TURNS + 1)


async def test_a_node_that_hangs_fills_half_of_the_buffer_and_blocks_only_its_own_pushes(
    cluster: RedisCluster, admin: redis.asyncio.cluster.RedisCluster
) -> None:
    victim, its, others = victim_and_others(cluster)
    async with producing(cluster.url, PREFIX, limits=SMALL) as producer:
        await push_in_turns(producer, CONVERSATIONS, turns=1)
        victim.pause()
        pushes = [asyncio.create_task(push(producer, its[0], number)) for number in range(1, ROOM_FOR + 1)]
        _, waiting = await asyncio.wait(pushes, timeout=0.01)
        assert len(waiting) == producer.stats().waiting == ROOM_FOR // 2
        await push_in_turns(producer, others, first=1)
        assert producer.stats().buffered_entries == ROOM_FOR // 2
        assert producer.stats().retries == 0
        victim.resume()
        await asyncio.gather(*pushes)
        await producer.flush()
    counts = dict.fromkeys(others, TURNS + 1) | dict.fromkeys(its, 1) | {its[0]: ROOM_FOR + 1}
    await assert_complete(admin, counts.__getitem__)


async def test_a_dead_node_is_the_trouble_of_its_own_conversations(
    cluster: RedisCluster, admin: redis.asyncio.cluster.RedisCluster, troubles: Troubles
) -> None:
    victim, its, others = victim_and_others(cluster)
    async with producing(cluster.url, PREFIX, limits=Limits(close_within=0), on_trouble=troubles) as producer:
        await push_in_turns(producer, CONVERSATIONS, turns=1)
        victim.kill()
        await push(producer, its[0], 1)
        trouble = await troubles.of("connection")
        assert trouble.node == f"127.0.0.1:{victim.port}"
        await push_in_turns(producer, others, first=1)
        stats = producer.stats()
        assert (stats.nodes, stats.troubles, stats.buffered_entries) == (3, (stats.trouble,), 1)
        assert stats.trouble is not None
        assert stats.trouble.node == trouble.node
        assert [entry.conversation_id for entry in await producer.flush(within=0.001)] == [its[0]]
        victim.start()
        await troubles.over()
        assert await producer.flush() == ()
        assert producer.stats().troubles == ()
    assert await stored_seqs(admin, PREFIX, its[0]) == [1]  # type: ignore[arg-type]


async def test_a_closed_producer_hands_over_what_the_dead_node_did_not_get(cluster: RedisCluster) -> None:
    victim, its, others = victim_and_others(cluster)
    async with producing(cluster.url, PREFIX, limits=Limits(close_within=0.2)) as producer:
        await push_in_turns(producer, CONVERSATIONS, turns=1)
        victim.kill()
        for conversation in (its[0], others[0]):
            await push(producer, conversation, 1)
        with pytest.raises(NotSent) as caught:
            await producer.close()
    assert [entry.conversation_id for entry in caught.value.entries] == [its[0]]


async def test_lanes_follow_moving_slots_and_nothing_is_sent_twice(
    cluster: RedisCluster, admin: redis.asyncio.cluster.RedisCluster
) -> None:
    rounds = 4
    async with producing(cluster.url, PREFIX) as producer:
        await push_in_turns(producer, CONVERSATIONS, turns=1)
        for number in range(rounds):
            key = stream(CONVERSATIONS[number])
            target = next(server for server in cluster.servers if server is not cluster.owner(key))
            with cluster.moving(key, target):
                await push_in_turns(producer, CONVERSATIONS, first=1 + 2 * number, turns=1)
            await push_in_turns(producer, CONVERSATIONS, first=2 + 2 * number, turns=1)
        assert producer.stats().lost_entries == 0
    for conversation in CONVERSATIONS:
        seqs = await stored_seqs(admin, PREFIX, conversation)  # type: ignore[arg-type]
        assert seqs == list(range(1 + 2 * rounds))


async def test_a_new_stream_goes_to_the_node_that_receives_its_slot(
    cluster: RedisCluster, admin: redis.asyncio.cluster.RedisCluster
) -> None:
    key = stream("c0")
    target = next(server for server in cluster.servers if server is not cluster.owner(key))
    with cluster.moving(key, target):
        async with producing(cluster.url, PREFIX) as producer:
            await push_in_turns(producer, CONVERSATIONS, turns=3)
            assert producer.stats().retries == 0
    for conversation in CONVERSATIONS:
        assert await stored_seqs(admin, PREFIX, conversation) == [0, 1, 2]  # type: ignore[arg-type]


async def test_lanes_follow_a_promoted_replica(own_cluster: Callable[..., RedisCluster], troubles: Troubles) -> None:
    cluster = own_cluster(3, replicas=1)
    first, replica = cluster.servers[0], cluster.servers[3]
    its = by_node(cluster)[first]
    async with producing(cluster.url, PREFIX, on_trouble=troubles) as producer:
        await push_in_turns(producer, CONVERSATIONS, turns=3)
        with first.client() as client:
            client.wait(1, 0)
        first.kill()
        for conversation in CONVERSATIONS:
            await push(producer, conversation, 3)
        await troubles.of("connection")
        await troubles.over()
        assert await producer.flush() == ()
        stats = producer.stats()
        assert (stats.troubles, stats.lost_entries, stats.nodes) == ((), 0, 3)
    with replica.client() as client:
        for conversation in its:
            found = [fields for _, fields in client.xrange(stream(conversation))]
            mine = [fields[b"seq"] for fields in found if fields[b"conversation_id"] == conversation.encode()]
            assert mine == [b"0", b"1", b"2", b"3"]
