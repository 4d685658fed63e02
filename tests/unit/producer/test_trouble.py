"""Redis goes away, refuses or keeps silent: audio waits and arrives in order, and the pusher is told."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING

import pytest
from redis import exceptions

from codec.entry import partition_of
from tests.support.producing import PARTITIONS, PCM, Troubles, producing, push, raw_entries, stored_seqs
from worker.errors import NotSent, StreamError
from worker.producer import Limits, Trouble
from worker.producer.trouble import cause_of
from worker.stream.servers.failures import stream_error

if TYPE_CHECKING:
    from collections.abc import Callable

    from redis.asyncio import Redis

    from tests.support.proxy import Proxy
    from tests.support.redis_server import RedisServer


@pytest.mark.slow
async def test_order_and_completeness_survive_cut_connections(redis_client: Redis, proxy: Proxy, prefix: str) -> None:
    dice = random.Random(7)
    conversations = [f"c{n}" for n in range(12)]
    async with producing(proxy.url, prefix) as producer:
        for number in range(60):
            for conversation in conversations:
                await push(producer, conversation, number)
            if dice.random() < 0.3:
                proxy.cut()
            if dice.random() < 0.2:
                await proxy.drop_reply(to=b"XADD").wait()
            await asyncio.sleep(0)
    assert proxy.connections > 10
    for conversation in conversations:
        seqs = await stored_seqs(redis_client, prefix, conversation)
        assert list(dict.fromkeys(seqs)) == list(range(60))


async def test_a_lost_reply_leaves_exactly_one_duplicate_with_the_same_fields(
    redis_client: Redis, proxy: Proxy, prefix: str, troubles: Troubles
) -> None:
    async with producing(proxy.url, prefix, on_trouble=troubles) as producer:
        lost = proxy.drop_reply(to=b"XADD")
        await push(producer, "c1", 0)
        await lost.wait()
        assert (await troubles.of("connection")).failures == 1
        await push(producer, "c1", 1)
        assert await producer.flush() == ()
        assert producer.stats().retries == 1
        assert (producer.stats().sent_entries, producer.stats().sent_bytes) == (2, 2 * len(PCM))
    first, duplicate, second = await raw_entries(redis_client, prefix, "c1")
    assert first == duplicate
    assert (first[b"seq"], second[b"seq"]) == (b"0", b"1")


async def test_a_silent_connection_is_given_up_and_everything_arrives_later(
    redis_client: Redis, proxy: Proxy, prefix: str, troubles: Troubles
) -> None:
    limits = Limits(reply_timeout=0.1)
    async with producing(proxy.url, prefix, limits=limits, on_trouble=troubles) as producer:
        proxy.stall()
        for number in range(3):
            await push(producer, "c1", number)
        await troubles.of("timeout")
        proxy.resume()
        await troubles.over()
        assert await producer.flush() == ()
    assert list(dict.fromkeys(await stored_seqs(redis_client, prefix, "c1"))) == [0, 1, 2]


async def test_a_full_redis_delays_audio_and_is_reported_until_it_has_room(
    own_redis: Callable[..., RedisServer], troubles: Troubles
) -> None:
    server = own_redis()
    with server.client() as admin:
        async with producing(server.url, "pcm", on_trouble=troubles) as producer:
            await push(producer, "c1", 0)
            await producer.flush()
            admin.config_set("maxmemory", "1kb")
            for number in range(1, 4):
                await push(producer, "c1", number)
            assert "OutOfMemoryError" in (await troubles.of("full")).message
            stats = producer.stats()
            assert stats.trouble is not None
            assert stats.trouble.cause == "full"
            assert (stats.refusals > 0, stats.buffered_entries, stats.oldest_age > 0) == (True, 3, True)
            admin.config_set("maxmemory", "0")
            await troubles.over()
            assert await producer.flush() == ()
            assert producer.stats().trouble is None
        stream = f"pcm:{{{partition_of('c1', PARTITIONS)}}}"
        assert [fields[b"seq"] for _, fields in admin.xrange(stream)] == [b"0", b"1", b"2", b"3"]


async def test_a_producer_can_start_at_a_full_redis(own_redis: Callable[..., RedisServer]) -> None:
    server = own_redis(maxmemory="1kb")
    async with producing(server.url, "pcm") as producer:
        await producer.check()
    with server.client() as admin:
        assert admin.hgetall("pcm:config") == {b"partitions": b"8", b"contract": b"1", b"layouts": b"8"}


async def test_a_demoted_primary_is_left_and_retried(own_redis: Callable[..., RedisServer], troubles: Troubles) -> None:
    server = own_redis()
    with server.client() as admin:
        async with producing(server.url, "pcm", on_trouble=troubles) as producer:
            admin.replicaof("127.0.0.1", "1")
            await push(producer, "c1")
            await troubles.of("readonly")
            admin.replicaof("no", "one")
            assert await producer.flush() == ()
        assert admin.xlen(f"pcm:{{{partition_of('c1', PARTITIONS)}}}") == 1


async def test_a_stream_that_stays_refused_does_not_hold_up_the_others(
    redis_client: Redis, redis_url: str, prefix: str, troubles: Troubles
) -> None:
    await redis_client.set(f"{prefix}:{{{partition_of('c1', PARTITIONS)}}}", "no stream")
    limits = Limits(close_within=0)
    async with producing(redis_url, prefix, limits=limits, on_trouble=troubles) as producer:
        await push(producer, "c1")
        for number in range(5):
            await push(producer, "c2", number)
        while len(await producer.flush(within=0.01)) > 1:
            await troubles.of("refused")
        with pytest.raises(NotSent, match="WRONGTYPE") as caught:
            await producer.close()
    assert [entry.conversation_id for entry in caught.value.entries] == ["c1"]
    assert await stored_seqs(redis_client, prefix, "c2") == [0, 1, 2, 3, 4]


async def test_pushes_are_buffered_when_redis_is_not_there_at_the_start(
    redis_client: Redis, proxy: Proxy, prefix: str, troubles: Troubles
) -> None:
    await proxy.refuse()
    async with producing(proxy.url, prefix, on_trouble=troubles) as producer:
        with pytest.raises(StreamError):
            await producer.check()
        await push(producer, "c1")
        await troubles.of("connection")
        await proxy.accept()
        assert await producer.flush() == ()
    assert await stored_seqs(redis_client, prefix, "c1") == [0]


async def test_an_error_in_the_callback_stops_no_audio(redis_client: Redis, proxy: Proxy, prefix: str) -> None:
    reported: list[str] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(str(context["exception"])))

    def broken(_: Trouble | None) -> None:
        raise RuntimeError("broken callback")

    async with producing(proxy.url, prefix, on_trouble=broken) as producer:
        proxy.cut()
        await push(producer, "c1")
        assert await producer.flush() == ()
    assert set(reported) == {"broken callback"}
    assert set(await stored_seqs(redis_client, prefix, "c1")) == {0}


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (exceptions.OutOfMemoryError(), "full"),
        (exceptions.ReadOnlyError(), "readonly"),
        (exceptions.BusyLoadingError(), "loading"),
        (exceptions.AuthenticationError(), "refused"),
        (exceptions.NoPermissionError(), "refused"),
        (exceptions.ResponseError(), "refused"),
        (exceptions.TimeoutError(), "timeout"),
        (TimeoutError(), "timeout"),
        (exceptions.ConnectionError(), "connection"),
        (ConnectionResetError(), "connection"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_causes_are_told_apart(error: Exception, cause: str) -> None:
    failed = stream_error(error)
    failed.__cause__ = error
    assert cause_of(failed) == cause
