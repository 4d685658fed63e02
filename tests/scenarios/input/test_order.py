"""What comes again after a loss is stored in its place: nothing later of a conversation gets before it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.support.failover import Pair
from tests.support.harness import EXACT, Harness, HarnessMaker, Running, eventually, forgotten_seal
from tests.support.oracle import Talk, assert_plays, played
from tests.support.redis_server import RedisServer
from tests.support.timing import SHORT_RESTS
from worker.runtime.timing import Timing
from worker.stream.keys import GROUP

JOINING: dict[str, Any] = {"gap_tolerance": 60.0, **EXACT}
"""Settings with which chunks are joined across any hole that is left."""

SHORT: dict[str, Any] = {"lease_ttl": 1.0, **JOINING}
FIVE: dict[str, Any] = {"batch_max_bytes": 5 * 16_000}
"""Setting with which a batch has five chunks of half a second, and not six."""


@pytest.fixture
def timing() -> Timing:
    return SHORT_RESTS


@pytest.fixture
async def forgetful(own_redis: Callable[..., RedisServer], harness_at: HarnessMaker) -> tuple[Harness, RedisServer]:
    """On a server that, when it is killed, goes back to its latest snapshot."""
    server = own_redis()
    return await harness_at(server, server), server


async def all_read(running: Running, talk: Talk) -> None:
    await eventually(lambda: running.count("chunks_total") >= len(talk.chunks))


async def go_back(harness: Harness, server: RedisServer) -> None:
    """Lose everything since the latest snapshot."""
    server.kill()
    await harness.restarted(server)


async def assert_all_announced(harness: Harness) -> None:
    assert {event["object"] for event in await harness.events()} == {blob.name for blob in harness.blobs()}


@pytest.mark.parametrize("clear", [(), (5, 6), (2,)], ids=str)
@pytest.mark.parametrize("same_worker", [True, False])
async def test_old_snapshot_comes_back(
    forgetful: tuple[Harness, RedisServer], clear: tuple[int, ...], same_worker: bool
) -> None:
    """The first chunks are stored. Chunks that are `clear` have another protection, which closes batches."""
    harness, server = forgetful
    talk = Talk("c")
    for number in range(7):
        talk.protection = "standard" if number in clear else "enhanced"
        await harness.say(talk, 0.5)
    await harness.redis.save()
    async with harness.worker(**SHORT, **FIVE, shutdown="handoff") as running:
        await eventually(lambda: sum(blob.samples for blob in harness.blobs()) >= 3 * 8000)
        await all_read(running, talk)
        if same_worker:
            await go_back(harness, server)
            await harness.say(talk, 2.5)
            await eventually(lambda: running.count("recoveries_total") >= 1)
    if not same_worker:
        await go_back(harness, server)
        await harness.say(talk, 2.5)
    await harness.drain(**JOINING)
    assert_plays(talk, harness.blobs())
    await assert_all_announced(harness)


async def test_batch_that_is_stored_in_part_though_nothing_tells_that_redis_has_lost_it(harness: Harness) -> None:
    """While the upload that finds this out is on its way, later chunks fill another batch."""
    talk = Talk("c")
    await forgotten_seal(harness, talk, 1.5)
    gate = harness.server.hold("*", stage="request")
    await harness.say(talk, 6)
    async with harness.worker(**JOINING) as running:
        await all_read(running, talk)
        await gate.reached()
        gate.open()
        await eventually(lambda: running.count("rewinds_total", cause="part") == 1)
    await harness.drain(**JOINING)
    assert_plays(talk, harness.blobs())


async def test_consumer_is_deleted_with_all_that_it_held(harness: Harness) -> None:
    talk = Talk("c")
    gate = harness.server.hold()
    stream = harness.keys.stream(harness.partition("c"))
    async with harness.worker(**SHORT) as running:
        await harness.say(talk, 4)
        await gate.reached()
        await all_read(running, talk)
        for consumer in await harness.redis.xinfo_consumers(stream, GROUP):
            await harness.redis.xgroup_delconsumer(stream, GROUP, consumer["name"])
        await harness.say(talk, 3)
        gate.open()
        await eventually(lambda: running.count("batches_total", trigger="audio") == 2)
    await harness.drain(**JOINING)
    assert_plays(talk, harness.blobs())
    await assert_all_announced(harness)


async def test_seal_that_is_refused_because_somebody_else_holds_entries(harness: Harness) -> None:
    talk = Talk("c")
    gate = harness.server.hold()
    stream = harness.keys.stream(harness.partition("c"))
    async with harness.worker(**SHORT) as running:
        await harness.say(talk, 3)
        await gate.reached()
        ids = await harness.say(talk, 1)
        await all_read(running, talk)
        await harness.redis.xclaim(stream, GROUP, "a paused owner", 0, ids[:1])
        await harness.say(talk, 5)
        await eventually(lambda: running.count("rewinds_total", cause="foreign") >= 1)
        gate.open()
        await eventually(lambda: running.count("batches_total", trigger="audio") == 3)
    assert_plays(talk, harness.blobs())
    await assert_all_announced(harness)


@pytest.mark.parametrize("known", [1, 3, 5, 7, 8])
async def test_failover_to_a_lagging_replica_while_batches_are_on_their_way(
    paired: Harness, pair: Pair, known: int
) -> None:
    """The replica knows the first `known` of eight chunks. What is nowhere else is lost, and counted.

    Six of all are in an object by then, which is found by those that Redis holds: none of the six is lost.
    """
    talk, lost = Talk("c"), range(max(known, 6), 8)
    gate = paired.server.hold(stage="reply")
    async with paired.worker(**SHORT) as running:
        await paired.say(talk, known / 2)
        await all_read(running, talk)
        await pair.lag()
        await paired.say(talk, 4 - known / 2)
        await all_read(running, talk)
        await gate.reached()
        await pair.fail_over(paired)
        await paired.say(talk, 4)
        gate.open()
        await eventually(lambda: running.count("batches_total", trigger="audio") >= 1)
        await eventually(lambda: running.count("lost_entries_total") >= len(lost))
    await paired.drain(**SHORT)
    assert played(talk, paired.blobs()) == [number for number in range(16) if number not in lost]
    assert running.count("lost_entries_total") == len(lost)
