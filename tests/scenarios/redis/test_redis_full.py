"""Redis has reached maxmemory: pushes are refused and buffered, the worker drains, and nothing is lost or doubled."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
from redis.backoff import ConstantBackoff
from redis.exceptions import OutOfMemoryError

from tests.support.harness import EXACT, Harness, HarnessMaker, eventually
from tests.support.oracle import Talk, assert_stored_once
from tests.support.redis_server import RedisServer
from worker.producer import Limits, Producer, Trouble

SPEAKERS = 10
SECONDS = 24

UNCLEAN = """#!lua flags=allow-oom
return redis.call('HSET', KEYS[1], 'clean', '0')"""
"""Makes it look as if a partition's owner had died."""


@pytest.fixture
async def full(own_redis: Callable[..., RedisServer], harness_at: HarnessMaker) -> Harness:
    """Room for about a third of what is pushed."""
    server = own_redis(maxmemory="4mb")
    return await harness_at(server, server)


class Pushing:
    """A producer's conversations, and what it reported meanwhile."""

    def __init__(self, harness: Harness) -> None:
        self.talks = [Talk(f"talk-{number}") for number in range(SPEAKERS)]
        self.reports: list[Trouble | None] = []
        self.producer = Producer(
            harness.settings().redis_url,
            partitions=harness.partitions,
            prefix=harness.settings().stream_prefix,
            limits=Limits(close_within=10),
            on_trouble=self.reports.append,
            backoff=ConstantBackoff(0.05),
        )

    async def push_all(self) -> None:
        for _ in range(SECONDS):
            for talk in self.talks:
                chunk = talk.say(1)
                await self.producer.push(talk.uid, talk.conversation_id, chunk.timestamp, chunk.pcm)

    async def push_until_full(self) -> None:
        await self.push_all()
        await eventually(lambda: self.causes() == {"full"})

    def causes(self) -> set[str]:
        return {report.cause for report in self.reports if report is not None}


async def test_audio_waits_in_the_producer_while_the_worker_makes_room(full: Harness) -> None:
    """The store hangs until Redis is full; then everything drains through the little room there is."""
    pushing = Pushing(full)
    gate = full.server.hold(stage="request")
    async with pushing.producer, full.worker(**EXACT) as running:
        await pushing.push_until_full()
        waiting = pushing.producer.stats()
        assert waiting.buffered_entries > 0
        assert waiting.refusals > 0
        gate.open()
        await eventually(lambda: running.count("stored_seconds_total") == SPEAKERS * SECONDS)
        assert await pushing.producer.flush() == ()
        await eventually(lambda: pushing.reports[-1] is None)
    await full.assert_empty()
    assert_all_stored_once(pushing.talks, full)
    assert await full.dead() == []
    assert running.count("redis_errors_total", cause="refused") == 0


async def test_worker_that_starts_at_a_full_redis_takes_it_over_and_drains_it(full: Harness) -> None:
    pushing = Pushing(full)
    async with pushing.producer:
        await pushing.push_until_full()
        with pytest.raises(OutOfMemoryError):
            await full.push(Talk("refused").say(1))
        async with full.worker(**EXACT) as running:
            await eventually(lambda: running.count("stored_seconds_total") == SPEAKERS * SECONDS)
    await full.assert_empty()
    assert_all_stored_once(pushing.talks, full)


async def test_crashed_worker_is_followed_by_another_while_redis_is_full(full: Harness) -> None:
    """Leases, claims and trials need a little memory too."""
    pushing = Pushing(full)
    gate = full.server.hold(stage="request")
    async with pushing.producer:
        async with full.worker(**EXACT, lease_ttl=1.0, shutdown="handoff", shutdown_grace=2.1):
            await pushing.push_until_full()
            await eventually(full.seals)
        for partition in range(full.partitions):
            await full.redis.eval(UNCLEAN, 1, full.keys.epoch(partition))
        gate.open()
        async with full.worker(**EXACT, lease_ttl=1.0) as running:
            await eventually(lambda: running.count("stored_seconds_total") == SPEAKERS * SECONDS)
    assert_all_stored_once(pushing.talks, full)
    assert await full.dead() == []


def assert_all_stored_once(talks: Sequence[Talk], harness: Harness) -> None:
    blobs = harness.blobs()
    for talk in talks:
        assert_stored_once(talk, blobs)
