"""Redis fails in every way it can; the worker heals without a restart, and what Redis kept is stored once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from redis.exceptions import OutOfMemoryError
from structlog.testing import capture_logs

from tests.support.harness import EXACT, Harness, HarnessMaker, eventually
from tests.support.oracle import Talk, assert_stored_once, blobs_of
from tests.support.proxy import Proxy
from tests.support.redis_server import RedisServer
from tests.support.seals import SEAL
from worker.errors import SettingsError
from worker.producer import Producer
from worker.runtime.timing import ReadingTiming, Timing
from worker.stream.keys import GROUP
from worker.stream.scripting import digest, script

SHORT: dict[str, Any] = {"lease_ttl": 1.0, **EXACT}


@pytest.fixture
def timing() -> Timing:
    return Timing(reading=ReadingTiming(poll=0.05, rest=0.1))


@pytest.fixture
async def proxied(proxy: Proxy, redis_server: RedisServer, harness_at: HarnessMaker) -> Harness:
    """The workers' way to Redis is the proxy."""
    return await harness_at(proxy, redis_server)


@pytest.fixture
async def forgetful(own_redis: Callable[..., RedisServer], harness_at: HarnessMaker) -> tuple[Harness, RedisServer]:
    """On a server that may be stopped, and then knows nothing any more."""
    server = own_redis()
    return await harness_at(server, server), server


@pytest.fixture
async def durable(own_redis: Callable[..., RedisServer], harness_at: HarnessMaker) -> tuple[Harness, RedisServer]:
    """On a server that may be killed, and then knows all that it has acknowledged."""
    server = own_redis(appendonly="yes", appendfsync="always")
    return await harness_at(server, server), server


async def test_everything_is_flushed(forgetful: tuple[Harness, RedisServer]) -> None:
    harness, _ = forgetful
    async with harness.worker(**SHORT) as running:
        await harness.say(Talk("forgotten"), 1)
        await eventually(lambda: running.count("chunks_total") == 2)
        await harness.redis.flushall()
        talk = Talk("after")
        await harness.say(talk, 4)
        await eventually(lambda: running.count("chunks_total") >= 10)
        await eventually(lambda: running.count("lost_entries_total") == 2)
    await harness.assert_empty()
    assert_stored_once(talk, harness.blobs())


async def test_what_all_must_have_alike_is_recorded_again_when_redis_was_flushed(
    forgetful: tuple[Harness, RedisServer],
) -> None:
    """A pusher that is configured otherwise is refused as before."""
    harness, server = forgetful
    async with harness.worker(**SHORT) as running:
        await eventually(running.worker._ownership.leases.copy)
        before = await harness.redis.hgetall(harness.keys.config)
        await harness.redis.flushall()
        await eventually(lambda: harness.redis.exists(harness.keys.config))
        assert await harness.redis.hgetall(harness.keys.config) == before
        with pytest.raises(SettingsError, match="PARTITIONS is 3, but"):
            async with Producer(server.url, partitions=harness.partitions + 1, prefix=harness.keys.prefix):
                pass


async def test_worker_that_finds_others_configured_otherwise_says_so_and_serves_its_own(
    forgetful: tuple[Harness, RedisServer],
) -> None:
    harness, _ = forgetful
    talk = Talk("c")
    with capture_logs() as events:
        async with harness.worker(**SHORT) as running:
            await eventually(running.worker._ownership.leases.copy)
            await harness.redis.hset(harness.keys.config, mapping={"partitions": "3", "layouts": "3"})
            await eventually(lambda: any("PARTITIONS is 2, but" in reason for reason in running.health.ready()))
            assert running.count("redis_errors_total", cause="config") >= 1
            await harness.say(talk, 3)
            await eventually(lambda: running.count("batches_total", trigger="audio") == 1)
            await harness.redis.hset(harness.keys.config, mapping={"partitions": "2", "layouts": "2"})
            await eventually(lambda: list(running.health.ready()) == [])
    assert [event["log_level"] for event in events if event["event"] == "config.differs"] == ["error"]
    assert_stored_once(talk, harness.blobs())


async def test_entries_of_a_deleted_stream_are_counted_as_lost(harness: Harness) -> None:
    async with harness.worker(**EXACT, batch_max_age=2.0) as running:
        await harness.say(Talk("c"), 1)
        await eventually(lambda: running.count("chunks_total") == 2)
        await harness.redis.delete(harness.keys.stream(harness.partition("c")))
        await eventually(lambda: running.count("lost_entries_total") == 2)


async def test_group_is_destroyed(harness: Harness) -> None:
    talk = Talk("c")
    async with harness.worker(**EXACT) as running:
        await harness.say(talk, 1)
        await eventually(lambda: running.count("chunks_total") == 2)
        await harness.redis.xgroup_destroy(harness.keys.stream(harness.partition("c")), GROUP)
        await harness.say(talk, 4)
        await eventually(lambda: running.count("batches_total", trigger="audio") == 1)
        await eventually(lambda: running.count("chunks_total") >= 12)
    await harness.assert_empty()
    assert_stored_once(talk, harness.blobs())


async def test_group_is_destroyed_while_a_batch_is_open_and_nothing_more_arrives(harness: Harness) -> None:
    talk = Talk("c")
    async with harness.worker(**EXACT, batch_max_age=0.5) as running:
        await harness.say(talk, 1)
        await eventually(lambda: running.count("chunks_total") == 2)
        await harness.redis.xgroup_destroy(harness.keys.stream(harness.partition("c")), GROUP)
        await eventually(lambda: running.count("batches_total", trigger="age") == 1)
    await harness.assert_empty()
    assert_stored_once(talk, harness.blobs())


async def test_group_is_destroyed_and_the_worker_is_stopped_before_it_notices(harness: Harness) -> None:
    talk = Talk("c")
    async with harness.worker(**EXACT) as running:
        await harness.say(talk, 1)
        await eventually(lambda: running.count("chunks_total") == 2)
        await harness.redis.xgroup_destroy(harness.keys.stream(harness.partition("c")), GROUP)
    await harness.drain(**EXACT)
    assert_stored_once(talk, harness.blobs())


async def test_scripts_are_flushed(harness: Harness) -> None:
    talk = Talk("c")
    async with harness.worker(**EXACT) as running:
        for seconds in (1, 3, 2):
            await harness.say(talk, seconds)
            await harness.redis.script_flush()
            await eventually(lambda: running.count("chunks_total") == len(talk.chunks))
    await harness.assert_empty()
    assert running.count("rewinds_total", cause="refused") == 0
    assert_stored_once(talk, harness.blobs())


async def test_server_crashes_and_comes_back_with_its_data(durable: tuple[Harness, RedisServer]) -> None:
    harness, server = durable
    talk = Talk("c")
    async with harness.worker(**EXACT) as running:
        await harness.say(talk, 1)
        await eventually(lambda: running.count("chunks_total") == 2)
        server.kill()
        await harness.restarted(server)
        await harness.say(talk, 3)
        await eventually(lambda: running.count("batches_total", trigger="audio") == 1)
        await eventually(lambda: running.count("chunks_total") >= 8)
    await harness.drain(**EXACT)
    assert_stored_once(talk, harness.blobs())


async def test_server_comes_back_with_its_data_while_an_upload_is_under_way(
    durable: tuple[Harness, RedisServer],
) -> None:
    harness, server = durable
    talk = Talk("c")
    gate = harness.server.hold()
    async with harness.worker(**EXACT) as running:
        await harness.say(talk, 3)
        await gate.reached()
        server.kill()
        gate.open()
        await eventually(lambda: len(harness.blobs()) == 1)
        await harness.restarted(server)
        await eventually(lambda: running.count("batches_total", trigger="audio") == 1)
    await harness.drain(**EXACT)
    assert len(harness.blobs()) == len(await harness.events()) == 1
    assert_stored_once(talk, harness.blobs())


async def test_server_comes_back_empty(forgetful: tuple[Harness, RedisServer]) -> None:
    harness, server = forgetful
    async with harness.worker(**EXACT) as running:
        await harness.say(Talk("forgotten"), 1)
        await eventually(lambda: running.count("chunks_total") == 2)
        server.kill()
        await harness.restarted(server)
        talk = Talk("after")
        await harness.say(talk, 4)
        await eventually(lambda: running.count("batches_total", trigger="audio") == 1)
        await eventually(lambda: running.count("chunks_total") >= 10)
    await harness.assert_empty()
    assert_stored_once(talk, harness.blobs())


async def fill(harness: Harness, talk: Talk) -> None:
    """Continue a conversation until Redis takes no more."""
    while True:
        said = list(talk.chunks), talk.pcm
        try:
            await harness.say(talk, 1, chunk=1)
        except OutOfMemoryError:
            talk.chunks, talk.pcm = said
            return


async def test_full_server_is_drained(own_redis: Callable[..., RedisServer], harness_at: HarnessMaker) -> None:
    server = own_redis(maxmemory="6mb")
    harness = await harness_at(server, server)
    talk = Talk("c")
    await fill(harness, talk)
    await harness.drain(**EXACT)
    assert len(talk.chunks) > 50
    assert_stored_once(talk, harness.blobs())


@pytest.mark.parametrize(
    "asked", ["XREAD", "heartbeat", "acquire", "claim", "sweep", "accept", "seal", "done", "renew", "release"]
)
async def test_reply_is_lost_with_its_connection(proxied: Harness, proxy: Proxy, asked: str) -> None:
    """What was asked for may have happened or not; either way it ends well."""
    talk = Talk("c")
    await proxied.say(talk, 5)
    happened = proxy.drop_reply((asked if asked == "XREAD" else digest(asked)).encode())
    async with proxied.worker(**SHORT) as running:
        await eventually(proxied.events)
        await eventually(lambda: running.count("chunks_total") >= 10)
        await eventually(lambda: happened.is_set() or asked == "release", f"{asked} was not sent")
    await proxied.drain(**SHORT)
    assert happened.is_set()
    assert_stored_once(talk, proxied.blobs())
    assert len(await proxied.events()) == len(proxied.blobs()) == 2
    assert await proxied.dead() == []


async def test_connections_are_cut_again_and_again(proxied: Harness, proxy: Proxy) -> None:
    talk = Talk("c")
    async with proxied.worker(**SHORT) as running:
        for _ in range(3):
            await proxied.say(talk, 2)
            proxy.cut()
            await eventually(lambda: running.count("chunks_total") >= len(talk.chunks))
    await proxied.drain(**SHORT)
    assert_stored_once(talk, proxied.blobs())


async def test_silent_server_costs_the_lease_and_nothing_else(proxied: Harness, proxy: Proxy) -> None:
    talk = Talk("c")
    lease = proxied.keys.lease(proxied.partition("c"))
    async with proxied.worker(**SHORT) as running:
        await proxied.say(talk, 1)
        await eventually(lambda: running.count("chunks_total") == 2)
        proxy.stall()

        async def expired() -> bool:
            return not await proxied.redis.exists(lease)

        await eventually(expired)
        await proxied.say(talk, 3)
        proxy.resume()
        await eventually(lambda: running.count("batches_total", trigger="audio") == 1)
    await proxied.drain(**SHORT)
    assert_stored_once(talk, proxied.blobs())


async def test_stop_while_redis_is_away_ends_in_time_and_loses_nothing(proxied: Harness, proxy: Proxy) -> None:
    talk = Talk("c")
    async with proxied.worker(**SHORT, shutdown_grace=3.0) as running:
        await proxied.say(talk, 1)
        await eventually(lambda: running.count("chunks_total") == 2)
        await proxy.refuse()
    await proxy.accept()
    await proxied.drain(**SHORT)
    assert len(blobs_of(talk, proxied.blobs())) == 1
    assert_stored_once(talk, proxied.blobs())


async def test_partition_whose_keys_are_of_a_wrong_type_does_not_stop_the_others(harness: Harness) -> None:
    await harness.redis.set(harness.keys.stream(0), "not a stream")
    talk = Talk("x" if harness.partition("x") == 1 else "y")
    assert harness.partition(talk.conversation_id) == 1
    async with harness.worker(**EXACT) as running:
        await harness.say(talk, 3)
        await eventually(lambda: running.count("batches_total", trigger="audio") == 1)
    assert_stored_once(talk, harness.blobs())


async def test_heartbeat_that_can_not_be_read_stops_nobody(harness: Harness) -> None:
    await harness.redis.hset(harness.keys.workers, "other", '9999999999999 {"started": "soon"}')
    talk = Talk("c")
    await harness.say(talk, 1)
    await harness.push(talk.end())
    async with harness.worker(**EXACT) as running:
        await eventually(lambda: running.count("batches_total", trigger="end") == 1)
    assert_stored_once(talk, harness.blobs())


NO_SEALS = ["nonsense", replace(SEAL, entries=("x",)).to_json(), replace(SEAL, entries=()).to_json()]


@pytest.mark.parametrize("text", NO_SEALS, ids=["nonsense", "no-ids", "empty"])
async def test_seal_that_is_no_seal_does_not_stop_the_other_partitions(harness: Harness, text: str) -> None:
    await harness.redis.hset(harness.keys.ready(0), "1-1", text)
    talk = Talk("x" if harness.partition("x") == 1 else "y")
    async with harness.worker(**EXACT) as running:
        await harness.say(talk, 3)
        await eventually(lambda: running.count("batches_total", trigger="audio") == 1)
    assert_stored_once(talk, harness.blobs())


async def test_replies_lost_while_entries_of_a_dead_owner_are_on_trial_do_not_condemn_them(
    proxied: Harness, proxy: Proxy
) -> None:
    """Only an owner that died counts, not one that lost its connection."""
    talk = Talk("c")
    async with proxied.worker(**SHORT, shutdown="handoff") as former:
        await proxied.say(talk, 1)
        await eventually(lambda: former.count("chunks_total") == 2)
    await proxied.redis.hset(proxied.keys.epoch(proxied.partition("c")), "clean", "0")
    await proxied.redis.script_load(script("suspect"))
    async with proxied.worker(**SHORT) as running:
        for _ in range(4):
            await proxy.drop_reply(digest("suspect").encode()).wait()
        await eventually(lambda: running.count("chunks_total") >= 2)
    await proxied.drain(**SHORT)
    assert await proxied.dead() == []
    assert_stored_once(talk, proxied.blobs())


async def test_done_step_that_is_refused_is_tried_again_loudly(harness: Harness) -> None:
    talk = Talk("c")
    ready = harness.keys.ready(harness.partition("c"))
    gate = harness.server.hold()
    async with harness.worker(**EXACT) as running:
        await harness.say(talk, 3)
        await gate.reached()
        await harness.redis.rename(ready, f"{ready}-aside")
        await harness.redis.set(ready, "of a wrong type")
        gate.open()
        await eventually(lambda: running.count("redis_errors_total", cause="refused") >= 2)
        await harness.redis.rename(f"{ready}-aside", ready)
        await eventually(lambda: running.count("batches_total", trigger="audio") == 1)
    await harness.assert_empty()
    assert_stored_once(talk, harness.blobs())
