"""What a failover has lost is counted exactly, also if other workers have the partitions then."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
from structlog.testing import capture_logs

from tests.support.command import command
from tests.support.failover import Pair
from tests.support.harness import HANDOFF, Harness, Running, eventually
from tests.support.oracle import Talk
from tests.support.proxy import Proxy
from tests.support.timing import SHORT_RESTS
from worker.runtime.timing import Timing

LONG: dict[str, Any] = {**HANDOFF, "batch_max_seconds": 60.0}
"""Settings with which all chunks are in hand until the test ends."""


@pytest.fixture
def timing() -> Timing:
    return SHORT_RESTS


def talks(count: int) -> list[Talk]:
    return [Talk(f"c{number}") for number in range(count)]


def total(workers: Sequence[Running], metric: str) -> float:
    return sum(running.count(metric) for running in workers)


@asynccontextmanager
async def cut_off(paired: Harness, pair: Pair) -> AsyncIterator[tuple[Running, Proxy]]:
    """A worker that owns all partitions, with a way to Redis of its own."""
    async with Proxy(pair.primary.port) as way, paired.worker(redis_url=way.url, **LONG) as running:
        await eventually(lambda: running.count("partitions_owned") == paired.partitions)
        yield running, way


async def expire_leases(harness: Harness) -> None:
    """Let leases expire, as if their TTL was over."""
    for number in range(harness.partitions):
        await harness.redis.delete(harness.keys.lease(number))


@pytest.mark.parametrize("lost", [0, 1, 23])
async def test_what_the_former_owner_had_in_hand_is_counted_by_it(paired: Harness, pair: Pair, lost: int) -> None:
    paired.partitions = 4
    spoken = talks(8)
    with capture_logs() as events:
        async with cut_off(paired, pair) as (former, way):
            for talk in spoken:
                await paired.say(talk, 1)
            await eventually(lambda: former.in_hand() == 16)
            await pair.lag()
            for number in range(lost):
                await paired.say(spoken[number % len(spoken)], 0.5)
            await eventually(lambda: former.in_hand() == 16 + lost)
            await way.refuse()
            way.turn_to(pair.replica.port)
            await pair.fail_over(paired)
            await expire_leases(paired)
            async with paired.worker(**LONG) as successor:
                await eventually(lambda: successor.in_hand() == 16)
                await way.accept()
                await eventually(lambda: former.count("leases_lost_total") == paired.partitions)
                await eventually(lambda: former.count("lost_entries_total") == lost)
    told = [event for event in events if event["event"] == "entries.lost"]
    assert sum(event["entries"] for event in told) == lost
    assert all(event["failover"] for event in told)
    assert len({event["partition"] for event in told}) == len(told)
    assert total([former, successor], "lost_entries_total") == lost
    await told_by_status(paired, lost)
    assert (await paired.drain(**LONG)).count("lost_entries_total") == 0


async def told_by_status(harness: Harness, lost: int) -> None:
    """`status` tells how many entries were lost lately, and of which partitions."""
    result = await asyncio.to_thread(command, harness.settings(), "status", "--check")
    assert (f"entries were lost: {lost} " in result.output) == (lost > 0), result.output


@pytest.mark.parametrize("lost", [0, 7])
@pytest.mark.parametrize("expired", [True, False])
async def test_two_workers_count_together_what_is_lost(paired: Harness, pair: Pair, lost: int, expired: bool) -> None:
    """Whether leases hold, or expire so that the workers divide the partitions anew."""
    paired.partitions = 8
    spoken, brief = talks(12), {**LONG, "lease_ttl": 1.5}
    async with paired.worker(**brief) as one, paired.worker(**brief) as other:
        both = [one, other]
        await eventually(lambda: [running.count("partitions_owned") for running in both] == [4, 4])
        for talk in spoken:
            await paired.say(talk, 1)
        await eventually(lambda: sum(running.in_hand() for running in both) == 24)
        await pair.lag()
        for talk in spoken[:lost]:
            await paired.say(talk, 0.5)
        await eventually(lambda: sum(running.in_hand() for running in both) == 24 + lost)
        await pair.way.refuse()
        await pair.fail_over(paired)
        if expired:
            async with Proxy(pair.replica.port):
                with pair.replica.client() as client:
                    await eventually(lambda: not client.keys("*:lease"))
        await pair.way.accept()
        await eventually(lambda: total(both, "partitions_owned") == 8)
        await eventually(lambda: total(both, "lost_entries_total") == lost)
        await paired.say(spoken[0], 1)
        read = total(both, "chunks_total")
        await eventually(lambda: total(both, "chunks_total") >= read)
    assert total(both, "lost_entries_total") == lost
    assert (await paired.drain(**LONG)).count("lost_entries_total") == 0


async def test_paused_worker_counts_nothing_that_others_have_stored(paired: Harness, pair: Pair) -> None:
    """Neither on the same server, nor on another one that knows what was stored."""
    talk = Talk("c")
    async with cut_off(paired, pair) as (former, way):
        await paired.say(talk, 2)
        await eventually(lambda: former.in_hand() == 4)
        way.stall()
        await expire_leases(paired)
        await paired.drain(**HANDOFF)
        await pair.synchronised()
        await way.refuse()
        way.turn_to(pair.replica.port)
        await pair.fail_over(paired)
        way.resume()
        await way.accept()
        await eventually(lambda: former.count("leases_lost_total") == paired.partitions)
    assert former.count("lost_entries_total") == 0


async def test_entries_that_nobody_had_read_show_as_missing_numbers(paired: Harness, pair: Pair) -> None:
    talk = Talk("c")
    async with cut_off(paired, pair) as (running, way):
        await paired.say(talk, 2)
        await eventually(lambda: running.in_hand() == 4)
        await pair.lag()
        await way.refuse()
        way.turn_to(pair.replica.port)
        await paired.say(talk, 2.5)
        await pair.fail_over(paired)
        await paired.say(talk, 1)
        await way.accept()
        await eventually(lambda: running.count("seq_missing_total") == 5)
    assert running.count("lost_entries_total") == 0
