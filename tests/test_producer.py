from __future__ import annotations

import asyncio
import random
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, cast

import pytest
from redis import exceptions
from redis.backoff import ConstantBackoff

from codec.entry import Chunk, End, parse, partition_of
from codec.errors import BadEntry
from tests.proxy import Proxy
from worker.errors import BufferFull, NotSent, PushRefused, SettingsError, StreamError
from worker.producer import Limits, Producer, Trouble
from worker.producer.buffer import ENTRY_OVERHEAD, Buffer
from worker.producer.numbering import IDLE_SECONDS, Numbering
from worker.producer.sender import cause_of
from worker.stream.client import stream_error

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from redis.asyncio import Redis

    from tests.redis_server import RedisServer

PARTITIONS = 8
PCM = bytes(range(256)) * 10
PATIENT = Limits(close_within=5)
SOON = ConstantBackoff(0.001)
TIGHT = Limits(buffer_bytes=2 * (len(PCM) + ENTRY_OVERHEAD), close_within=0)


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


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


@pytest.fixture
def troubles() -> Troubles:
    return Troubles()


@asynccontextmanager
async def producing(
    url: str, prefix: str, *, limits: Limits = PATIENT, on_trouble: Callable[[Trouble | None], object] = id
) -> AsyncIterator[Producer]:
    async with Producer(
        url, partitions=PARTITIONS, prefix=prefix, limits=limits, on_trouble=on_trouble, backoff=SOON
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


async def test_pushes_and_end_become_the_entries_of_the_contract(
    redis_client: Redis, redis_url: str, prefix: str
) -> None:
    async with producing(redis_url, prefix) as producer:
        await producer.push("u1", "c1", 1000.5, bytearray(PCM), sample_rate=8000, protection="standard")
        await producer.push("u1", "c1", 1001.5, memoryview(PCM))
        await producer.end("u1", "c1")
    assert await stored(redis_client, prefix, "c1") == [
        Chunk("u1", "c1", 1000.5, PCM, 8000, "standard", seq=0),
        Chunk("u1", "c1", 1001.5, PCM, 16000, "enhanced", seq=1),
        End("u1", "c1"),
    ]


async def test_every_conversation_has_its_own_counter(redis_client: Redis, redis_url: str, prefix: str) -> None:
    async with producing(redis_url, prefix) as producer:
        for number in range(3):
            await push(producer, "c1", number)
            await push(producer, "c2", number)
    assert await stored_seqs(redis_client, prefix, "c1") == [0, 1, 2]
    assert await stored_seqs(redis_client, prefix, "c2") == [0, 1, 2]


async def test_a_conversation_that_goes_on_after_its_end_counts_on(
    redis_client: Redis, redis_url: str, prefix: str
) -> None:
    async with producing(redis_url, prefix) as producer:
        await push(producer, "c1", 0)
        await producer.end("u1", "c1")
        await push(producer, "c1", 1)
    assert await stored_seqs(redis_client, prefix, "c1") == [0, 1]


async def test_a_new_process_counts_on_where_the_old_one_stopped_if_told(
    redis_client: Redis, redis_url: str, prefix: str
) -> None:
    async with producing(redis_url, prefix) as old:
        await push(old, "c1", 0)
        following = old.next_seq("c1")
    async with producing(redis_url, prefix) as new:
        new.resume("c1", following)
        await push(new, "c1", 1)
    assert await stored_seqs(redis_client, prefix, "c1") == [0, 1]


@pytest.mark.parametrize(
    "bad",
    [
        {"uid": ""},
        {"conversation_id": "a/b"},
        {"timestamp": float("nan")},
        {"pcm": b""},
        {"pcm": b"odd"},
        {"sample_rate": 44100},
        {"protection": "none"},
    ],
    ids=lambda bad: next(iter(bad)),
)
async def test_what_a_worker_would_refuse_is_refused_at_once_and_uses_no_number(
    redis_client: Redis, redis_url: str, prefix: str, bad: dict[str, object]
) -> None:
    good: dict[str, object] = {"uid": "u1", "conversation_id": "c1", "timestamp": 1000.0, "pcm": PCM}
    async with producing(redis_url, prefix) as producer:
        with pytest.raises(BadEntry):
            await producer.push(**good | bad)  # type: ignore[arg-type]
        await push(producer, "c1")
    assert await stored_seqs(redis_client, prefix, "c1") == [0]


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


async def test_a_lost_reply_leaves_exactly_one_twin_with_the_same_fields(
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
    first, twin, second = await raw_entries(redis_client, prefix, "c1")
    assert first == twin
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
            admin.config_set("maxmemory", "1mb")
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
    server = own_redis(maxmemory="1mb")
    async with producing(server.url, "pcm") as producer:
        await producer.check()
    with server.client() as admin:
        assert admin.hgetall("pcm:config") == {b"partitions": b"8", b"contract": b"1"}


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


async def test_flush_reports_what_is_still_on_its_way(proxy: Proxy, prefix: str) -> None:
    async with cut_off(proxy, prefix) as producer:
        await push(producer, "c1")
        (chunk,) = await producer.flush(within=0.001)
        assert chunk == Chunk("u1", "c1", 1000.0, PCM, seq=0)
        await proxy.accept()
        assert await producer.flush() == ()


async def test_close_hands_over_what_redis_never_confirmed_and_it_can_be_pushed_again(
    redis_client: Redis, redis_url: str, proxy: Proxy, prefix: str
) -> None:
    async with cut_off(proxy, prefix) as producer:
        await push(producer, "c1", 0)
        await producer.end("u1", "c1")
        with pytest.raises(NotSent, match="2 entries are not known to be in Redis") as caught:
            await producer.close()
    async with producing(redis_url, prefix) as successor:
        for entry in caught.value.entries:
            await successor.put(entry)
        await push(successor, "c1", 1)
    assert await stored(redis_client, prefix, "c1") == [
        Chunk("u1", "c1", 1000.0, PCM, seq=0),
        End("u1", "c1"),
        Chunk("u1", "c1", 1001.0, PCM, seq=1),
    ]


async def test_close_refuses_the_pushes_that_still_wait_and_all_later_ones(proxy: Proxy, prefix: str) -> None:
    async with cut_off(proxy, prefix) as producer:
        pushes = [asyncio.create_task(push(producer, "c1", number)) for number in range(3)]
        await asyncio.wait(pushes, timeout=0.001)
        with pytest.raises(NotSent) as caught:
            await producer.close()
        with pytest.raises(PushRefused, match="closed"):
            await push(producer, "c1", 3)
    results = await asyncio.gather(*pushes, return_exceptions=True)
    assert len(caught.value.entries) == 2
    assert [type(result) for result in results] == [type(None), type(None), PushRefused]


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


async def test_another_number_of_partitions_is_refused_in_one_sentence(
    redis_client: Redis, redis_url: str, prefix: str
) -> None:
    async with producing(redis_url, prefix):
        pass
    with pytest.raises(
        SettingsError, match=r"PARTITIONS is 9, but test-\w+:config in Redis records 8: set PARTITIONS=8"
    ):
        async with Producer(redis_url, partitions=9, prefix=prefix):
            pass
    assert await redis_client.hgetall(f"{prefix}:config") == {b"partitions": b"8", b"contract": b"1"}


async def test_another_contract_version_is_refused(redis_client: Redis, redis_url: str, prefix: str) -> None:
    await redis_client.hset(f"{prefix}:config", "contract", "2")
    with pytest.raises(SettingsError, match="contract version 2, this program speaks 1"):
        async with producing(redis_url, prefix):
            pass


async def test_settings_that_turn_out_different_later_stop_the_producer_and_hand_over_the_audio(
    redis_client: Redis, proxy: Proxy, prefix: str
) -> None:
    await redis_client.hset(f"{prefix}:config", "partitions", "9")
    await proxy.refuse()
    async with producing(proxy.url, prefix, limits=Limits(close_within=None)) as producer:
        await push(producer, "c1")
        await proxy.accept()
        assert len(await producer.flush()) == 1
        with pytest.raises(PushRefused, match="PARTITIONS is 8"):
            await push(producer, "c1")
        with pytest.raises(NotSent, match="PARTITIONS is 8") as caught:
            await producer.close()
    assert len(caught.value.entries) == 1


@pytest.mark.parametrize("url", ["http://localhost", "redis://localhost:port"])
def test_a_wrong_url_is_a_settings_error(url: str) -> None:
    with pytest.raises(SettingsError, match="REDIS_URL"):
        Producer(url)


def test_no_partitions_is_a_settings_error() -> None:
    with pytest.raises(SettingsError, match="PARTITIONS is 0"):
        Producer("redis://localhost", partitions=0)


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


def test_counters_are_forgotten_after_an_hour_without_pushes() -> None:
    clock = Clock()
    numbering = Numbering(clock)
    numbering.take("old")
    clock.now = IDLE_SECONDS
    numbering.take("new")
    assert numbering.following("old") == 1
    clock.now = IDLE_SECONDS + 1
    numbering.take("new")
    assert (numbering.following("old"), numbering.following("new"), len(numbering)) == (0, 2, 1)


def test_past_the_limit_the_longest_idle_counter_is_forgotten() -> None:
    numbering = Numbering(Clock(), limit=2)
    for conversation in ("a", "b", "a", "c"):
        numbering.take(conversation)
    assert [numbering.following(conversation) for conversation in "abc"] == [2, 0, 1]


def test_counting_never_goes_back() -> None:
    numbering = Numbering(Clock())
    assert [numbering.take("c", seq) for seq in (None, 7, 3, None)] == [0, 7, 3, 8]


async def test_a_round_trip_takes_one_entry_per_partition_and_lanes_take_turns() -> None:
    buffer = Buffer(limit=10**6, clock=Clock())
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
    clock = Clock()
    buffer = Buffer(limit=10**6, clock=clock)
    assert buffer.oldest_age() == 0
    await buffer.admit(0, 0, lambda: End("u", "c"), within=0)
    clock.now = 7
    assert buffer.oldest_age() == 7
