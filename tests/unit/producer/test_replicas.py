"""Replicas that lag: what only a primary has is repeated if `replicas` says so, otherwise counted once it is lost."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
import structlog.testing

from codec.entry import partition_of
from tests.support.failover import Pair
from tests.support.producing import PARTITIONS, Troubles, producing, push
from worker.producer import Limits, Producer, SettingsError
from worker.stream.keys import Keys

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from tests.support.redis_server import RedisServer

PREFIX = "pcm"
CONVERSATIONS = [f"c{number}" for number in range(20)]
QUICK = Limits(reply_timeout=0.2, close_within=0)
"""Replicas are waited for half as long as a reply."""


@pytest.fixture
async def pair(own_redis: Callable[..., RedisServer]) -> AsyncIterator[Pair]:
    async with Pair(own_redis) as pair:
        yield pair


def entries_of(server: RedisServer, conversation: str) -> list[tuple[str, bytes]]:
    """Ids and numbers of a conversation's entries."""
    stream = Keys(PREFIX).stream(partition_of(conversation, PARTITIONS))
    with server.client() as client:
        found = client.xrange(stream)
    return [(i.decode(), entry[b"seq"]) for i, entry in found if entry[b"conversation_id"] == conversation.encode()]


def numbers_of(server: RedisServer, conversation: str) -> list[bytes]:
    return list(dict.fromkeys(number for _, number in entries_of(server, conversation)))


async def fail_over(pair: Pair) -> None:
    pair.primary.kill()
    await pair.promote()
    pair.way.turn_to(pair.replica.port)


async def test_a_chunk_counts_as_sent_when_a_replica_has_it(pair: Pair, troubles: Troubles) -> None:
    async with producing(pair.way.url, PREFIX, limits=QUICK, on_trouble=troubles, replicas=1) as producer:
        await push(producer, "c1", 0)
        assert await producer.flush() == ()
        await pair.lag()
        await push(producer, "c1", 1)
        trouble = await troubles.of("unreplicated")
        assert trouble.message == "Redis: 0 of 1 replicas have confirmed the audio within 100 ms"
        assert [entry.seq for entry in await producer.flush(within=0.001)] == [1]
        assert producer.stats().sent_entries == 1
        pair.link.resume()
        await troubles.over()
        assert await producer.flush() == ()
    assert numbers_of(pair.primary, "c1") == [b"0", b"1"]


@pytest.mark.slow
async def test_what_is_not_replicated_is_repeated_sparingly(pair: Pair, troubles: Troubles) -> None:
    async with producing(pair.way.url, PREFIX, limits=QUICK, on_trouble=troubles, replicas=1) as producer:
        await pair.lag()
        for conversation in CONVERSATIONS:
            await push(producer, conversation)
        while (await troubles.of("unreplicated")).failures < 5:
            pass
        copies = sum(len(entries_of(pair.primary, conversation)) for conversation in CONVERSATIONS)
        lanes = len({partition_of(conversation, PARTITIONS) for conversation in CONVERSATIONS})
        assert lanes < copies <= lanes + producer.stats().retries  # after the first round trip one entry at a time
        pair.link.resume()
        assert await producer.flush() == ()
    for conversation in CONVERSATIONS:
        assert numbers_of(pair.primary, conversation) == [b"0"]


async def test_a_failover_loses_nothing_that_a_replica_had_to_have(
    pair: Pair, own_redis: Callable[..., RedisServer], troubles: Troubles
) -> None:
    limits = Limits(reply_timeout=0.2)
    async with producing(pair.way.url, PREFIX, limits=limits, on_trouble=troubles, replicas=1) as producer:
        for number in range(5):
            await push(producer, "c1", number)
        await producer.flush()
        await pair.lag()
        for number in range(5, 10):
            await push(producer, "c1", number)
        await troubles.of("unreplicated")
        await fail_over(pair)
        await troubles.of("unreplicated")  # the new primary has no replica yet
        await pair.follow_promoted(own_redis())
        assert await producer.flush() == ()
        assert producer.stats().lost_entries == 0
    assert numbers_of(pair.replica, "c1") == [str(number).encode() for number in range(10)]


async def test_a_primary_that_itself_refuses_for_want_of_replicas_is_told_alike(
    own_redis: Callable[..., RedisServer], troubles: Troubles
) -> None:
    server = own_redis()
    async with producing(server.url, PREFIX, on_trouble=troubles) as producer:
        with server.client() as admin:
            await producer.check()
            admin.config_set("min-replicas-to-write", "1")
            await push(producer, "c1")
            assert "NOREPLICAS" in (await troubles.of("unreplicated")).message
            admin.config_set("min-replicas-to-write", "0")
        await troubles.over()
    assert numbers_of(server, "c1") == [b"0"]


async def test_entries_that_a_failover_loses_are_counted_and_named(pair: Pair) -> None:
    with structlog.testing.capture_logs() as events:
        async with producing(pair.way.url, PREFIX) as producer:
            await push(producer, "c1", 0)
            await push(producer, "c2", 0)
            await producer.flush()
            await pair.lag()
            for number in range(1, 6):
                await push(producer, "c1", number)
            await producer.flush()
            lost = [entry for entry, number in entries_of(pair.primary, "c1") if number != b"0"]
            await fail_over(pair)
            await push(producer, "c1", 6)
            await producer.flush()
            assert producer.stats().lost_entries == 5
            await push(producer, "c2", 1)
            await producer.flush()
            assert producer.stats().lost_entries == 5
    assert numbers_of(pair.replica, "c1") == [b"0", b"6"]
    assert [event for event in events if event["event"] == "producer.lost"] == [
        {
            "event": "producer.lost",
            "log_level": "error",
            "partition": partition_of("c1", PARTITIONS),
            "entries": 5,
            "first": lost[0],
            "last": lost[-1],
            "node": f"127.0.0.1:{pair.way.port}",
        }
    ]


@pytest.mark.slow
async def test_losses_of_conversations_that_got_nothing_since_are_counted_too(pair: Pair) -> None:
    async with producing(pair.way.url, PREFIX) as producer:
        await push(producer, "c2", 0)
        await producer.flush()
        await pair.lag()
        await push(producer, "c1", 0)
        await producer.flush()
        await fail_over(pair)
        await push(producer, "c2", 1)
        await producer.flush()
        assert producer.stats().lost_entries == 1


async def test_a_failover_to_a_replica_that_had_everything_loses_nothing(pair: Pair) -> None:
    async with producing(pair.way.url, PREFIX) as producer:
        for number in range(5):
            await push(producer, "c1", number)
        await producer.flush()
        await pair.lag()
        await fail_over(pair)
        await push(producer, "c1", 5)
        await producer.flush()
        assert producer.stats().lost_entries == 0
    assert numbers_of(pair.replica, "c1") == [str(number).encode() for number in range(6)]


@pytest.mark.slow
async def test_a_name_that_leads_to_a_replica_for_a_while_loses_nothing(pair: Pair, troubles: Troubles) -> None:
    async with producing(pair.way.url, PREFIX, on_trouble=troubles) as producer:
        await pair.lag()
        await push(producer, "c1", 0)
        await producer.flush()
        pair.way.turn_to(pair.replica.port)
        await push(producer, "c1", 1)
        await troubles.of("readonly")
        pair.way.turn_to(pair.primary.port)
        await troubles.over()
        assert producer.stats().lost_entries == 0
    assert numbers_of(pair.primary, "c1") == [b"0", b"1"]


async def test_a_redis_that_has_forgotten_everything_has_lost_what_it_confirmed(
    own_redis: Callable[..., RedisServer],
) -> None:
    server = own_redis()
    async with producing(server.url, PREFIX) as producer:
        for number in range(3):
            await push(producer, "c1", number)
        await producer.flush()
        await asyncio.to_thread(server.restart)
        await push(producer, "c1", 3)
        await producer.flush()
        assert producer.stats().lost_entries == 3
    assert numbers_of(server, "c1") == [b"3"]


@pytest.mark.parametrize("replicas", [-1, "1", None])
def test_an_impossible_number_of_replicas_is_refused(replicas: Any) -> None:  # noqa: ANN401 -- anything
    with pytest.raises(SettingsError, match="replicas is"):
        Producer("redis://localhost", replicas=replicas)
