"""More than the worker can hold or store: it reads less, goes on by itself, and no one waits for the loud."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from tests.support.harness import EXACT, PATIENCE, Harness, HarnessMaker, eventually
from tests.support.oracle import Talk, assert_stored_once
from tests.support.redis_server import RedisServer
from worker import app
from worker.batching import memory
from worker.batching.memory import MemoryBudget
from worker.consuming import node_reader
from worker.delivery.delivery import DONE_AT_ONCE

MIB = 1024 * 1024
PAGES = 4 * MIB
"""What may be read at once when reading is still allowed: a page of both partitions, and the encoders it needs."""

TIGHT: dict[str, Any] = {"memory_limit": MIB, **EXACT}


class Watched(MemoryBudget):
    """Remembers the most that was ever held."""

    peak = 0

    @property
    def used(self) -> int:
        return self._used

    @used.setter
    def used(self, value: int) -> None:
        self._used = value
        self.peak = max(self.peak, value)


@pytest.fixture
def budget(monkeypatch: pytest.MonkeyPatch) -> Watched:
    """That of the one worker with a tight limit."""
    budget = Watched(MIB)
    monkeypatch.setattr(app, "MemoryBudget", lambda _: budget)
    return budget


def talks(count: int) -> list[Talk]:
    return [Talk(f"talk-{number}") for number in range(count)]


async def test_reading_pauses_at_the_limit_while_the_store_hangs_and_goes_on_with_it(
    harness: Harness, budget: Watched
) -> None:
    speakers = talks(20)
    gate = harness.server.hold(stage="request")
    async with harness.worker(**TIGHT) as running:
        for _ in range(3):
            for talk in speakers:
                await harness.say(talk, 3)
        await eventually(lambda: running.count("reading_paused") == 1)
        assert running.count("chunks_total") < sum(len(talk.chunks) for talk in speakers)
        assert list(running.health.live()) == []
        gate.open()
        await eventually(lambda: running.count("batches_total", trigger="audio") == 60)
        await eventually(lambda: running.count("reading_paused") == 0)
    await harness.assert_empty()
    assert budget.peak < MIB + PAGES
    assert budget.used == 0
    for talk in speakers:
        assert_stored_once(talk, harness.blobs())


async def test_limit_below_what_is_open_closes_batches_by_age_and_never_stops_for_good(
    harness: Harness, budget: Watched
) -> None:
    """Sixty conversations of which no batch is full: only time can close them."""
    speakers = talks(60)
    async with harness.worker(**TIGHT, batch_max_age=0.5) as running:
        for talk in speakers:
            await harness.say(talk, 1)
        await eventually(lambda: running.count("stored_seconds_total") == 60)
    assert budget.peak < MIB + PAGES
    for talk in speakers:
        assert_stored_once(talk, harness.blobs())


async def test_more_sealed_batches_than_fit_are_finished_by_a_worker_that_inherits_them(
    harness: Harness, budget: Watched
) -> None:
    """Each waits for entries that come late in the stream, so that none can be stored before much is read."""
    speakers = talks(30)
    harness.server.hold(stage="request")
    budget.limit = 100 * MIB
    async with harness.worker(**EXACT, shutdown="handoff", shutdown_grace=2.1) as former:
        for _ in range(3):
            for talk in speakers:
                await harness.say(talk, 1)
        await eventually(lambda: former.count("batches_total") == 0 and former.count("chunks_total") == 180)
        await eventually(harness.seals)
    assert await harness.seals() == 30
    await harness.server.stop()
    await harness.server.start()
    budget.limit = MIB
    await harness.drain(**TIGHT)
    for talk in speakers:
        assert_stored_once(talk, harness.blobs())


async def delays(harness: Harness, talk: Talk) -> list[float]:
    """Per batch the seconds between its last chunk's arrival in Redis and its done step, by Redis' clock."""
    done = await harness.redis.xrange(harness.keys.done(harness.partition(talk.conversation_id)))
    return [
        (_ms(event) - _ms(fields[b"last_entry"])) / 1000
        for event, fields in done
        if fields[b"conversation_id"] == talk.conversation_id.encode()
    ]


def _ms(entry: bytes) -> int:
    return int(entry.partition(b"-")[0])


async def test_conversation_at_fifty_times_real_time_delays_its_neighbours_hardly(harness: Harness) -> None:
    """Measured with Opus: the loud one is 50 s of speech per second, pushed into the partition of one neighbour."""
    loud, near = Talk("loud"), Talk(_placed(harness, harness.partition("loud")))
    far = Talk(_placed(harness, 1 - harness.partition("loud")))
    async with harness.worker() as running:
        for _ in range(2):
            await harness.say(loud, 25, chunk=5)
            await harness.say(near, 3)
            await harness.say(far, 3)
            await asyncio.sleep(0.5)
        await eventually(lambda: running.count("stored_seconds_total") == 2 * 6 + 50)
    near_delays, far_delays = await delays(harness, near), await delays(harness, far)
    assert len(near_delays) == len(far_delays) == 2
    assert max(near_delays + far_delays) < 4.0
    for talk in (loud, near, far):
        assert_stored_once(talk, harness.blobs())


async def test_thousands_of_tiny_chunks_are_one_batch_and_delay_nobody(harness: Harness) -> None:
    loud, near = Talk("tiny"), Talk(_placed(harness, harness.partition("tiny")))
    await harness.say(loud, 40, chunk=0.02)
    await harness.say(near, 3)
    running = await harness.drain(**EXACT, batch_max_seconds=60)
    assert running.count("chunks_total") == 2000 + 6
    assert len(harness.blobs()) == 2
    assert max(await delays(harness, near)) < 4.0
    assert_stored_once(loud, harness.blobs())
    assert_stored_once(near, harness.blobs())


async def test_partitions_with_endless_backlogs_do_not_keep_the_last_one_from_being_read(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The encoder is always behind; only so many partitions are read before it has caught up."""
    monkeypatch.setattr(memory, "READ_AHEAD", 1)
    monkeypatch.setattr(node_reader, "READ_PAGES", 1)
    harness.partitions = 4
    loud = [Talk(_placed(harness, number)) for number in range(3)]
    quiet = Talk(_placed(harness, 3))
    for talk in loud:
        await harness.say(talk, 80, chunk=5)
    await harness.say(quiet, 3)
    await harness.drain(encode_threads=1, opus_complexity=0)
    done = [_ms(event) for number in range(3) for event, _ in await harness.redis.xrange(harness.keys.done(number))]
    ((quiet_done, _),) = await harness.redis.xrange(harness.keys.done(3))
    assert sum(at > _ms(quiet_done) for at in done) > len(done) / 4


async def test_crowd_of_batches_that_are_stored_at_once_does_not_open_a_connection_each(
    own_redis: Callable[..., RedisServer], harness_at: HarnessMaker
) -> None:
    server = own_redis()
    harness = await harness_at(server, server)
    gate = harness.server.hold()
    await harness.push(*(talk.say(0.02) for talk in talks(100)))
    async with harness.worker(**EXACT, batch_max_age=0.1, upload_concurrency=200) as running:
        await gate.reached(100)
        gate.open()
        await eventually(lambda: running.count("batches_total", trigger="age") == 100)
        info = await harness.redis.info("stats")
    assert info["total_connections_received"] < DONE_AT_ONCE + 15


async def test_partition_that_was_taken_over_and_not_read_yet_counts_from_then(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "READ_AHEAD", 0)
    await harness.push(Talk("unread").say(1))
    async with harness.worker(shutdown="handoff") as running:
        await eventually(lambda: running.worker._consumer.partitions)
        await eventually(lambda: all(p.rewind_cause is None for p in running.worker._consumer.partitions.values()))
        running.worker._monitor.observe_memory()
        assert running.count("chunks_total") == 0
        assert running.count("oldest_unstored_seconds") < PATIENCE


def _placed(harness: Harness, partition: int) -> str:
    return next(name for name in map("talk-{}".format, range(100)) if harness.partition(name) == partition)
