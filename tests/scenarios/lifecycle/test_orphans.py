"""An object whose seal was gone when its upload ended: it stays while an event may count it, else it goes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from tests.support.failover import Pair
from tests.support.gcs.faults import Gate
from tests.support.harness import EXACT, Harness, Running, eventually, remove
from tests.support.oracle import Talk, assert_plays, played
from tests.support.timing import SHORT_RESTS
from worker.runtime.timing import Backoff, Timing

SHORT: dict[str, Any] = {"lease_ttl": 1.0, **EXACT}
OTHER: dict[str, Any] = {"worker_id": "the other worker", **SHORT}


@pytest.fixture
def timing() -> Timing:
    return replace(SHORT_RESTS, delivery=replace(SHORT_RESTS.delivery, orphans=0.05, erase_retry=Backoff(0.05, 0.1)))


async def all_read(running: Running, talk: Talk) -> None:
    await eventually(lambda: running.count("chunks_total") >= len(talk.chunks))


async def evict(harness: Harness, running: Running) -> None:
    """Let a worker lose its leases, as one that was paused does, while what it has under way goes on."""
    running.worker._ownership._leaving = True
    await harness.redis.delete(
        *(harness.keys.lease(number) for number in range(harness.partitions)), harness.keys.workers
    )
    await eventually(lambda: running.count("leases_lost_total") == harness.partitions)


@pytest.mark.parametrize("naming", ["start", "range"])
@pytest.mark.parametrize("known", [3, 5])
async def test_object_that_is_made_after_a_failover_has_forgotten_its_seal(
    paired: Harness, pair: Pair, naming: str, known: int
) -> None:
    """The next owner, which may be configured otherwise, has stored what the replica knew when the upload ends."""
    talk, harness = Talk("c"), paired
    gate = harness.server.hold()
    async with harness.worker(**SHORT) as former:
        await harness.say(talk, known / 2)
        await all_read(former, talk)
        await pair.lag()
        await harness.say(talk, 3 - known / 2)
        await gate.reached()
        await pair.fail_over(harness)
        await evict(harness, former)
        harness.server.script.gates.remove(gate)
        async with harness.worker(**OTHER, blob_naming=naming) as running:
            await harness.say(talk, 3)
            await eventually(lambda: running.count("batches_total", trigger="audio") == 1)
            gate.open()
            await eventually(lambda: not _busy(former))
    await harness.drain(**SHORT)
    assert played(talk, harness.blobs()) == [number for number in range(12) if not known <= number < 6]
    assert {event["object"] for event in await harness.events()} == {blob.name for blob in harness.blobs()}


def _busy(running: Running) -> bool:
    return any(partition.deliveries for partition in running.worker._consumer.abandoned)


async def test_worker_that_stops_ends_the_uploads_of_partitions_it_has_lost(harness: Harness) -> None:
    gate = harness.server.hold(stage="reply")
    async with harness.worker(**SHORT, shutdown_grace=1.0) as former:
        await harness.say(Talk("c"), 3)
        await gate.reached()
        await evict(harness, former)
        await eventually(lambda: _busy(former))
    assert not _busy(former)
    gate.open()


async def test_object_that_the_store_keeps_goes_when_it_is_let_go(harness: Harness) -> None:
    """Its audio was deleted on demand while it was uploaded, and the bucket holds it."""
    gate = harness.server.hold(name="chunks/*")
    async with harness.worker(**EXACT) as running:
        await harness.say(Talk("held"), 3)
        await gate.reached()
        await remove(harness, "held")
        harness.server.refuse("delete", "event hold", name="chunks/*/held/*")
        gate.open()
        await eventually(lambda: running.count("store_retries_total", cause="held") > 1)
        await harness.say(Talk("other"), 3)
        await eventually(lambda: running.count("batches_total", trigger="audio") == 1)
        assert len(harness.blobs()) == 2
        await eventually(lambda: running.count("batches_in_state", state="uploading") == 0)
        harness.server.script.clear()
        await eventually(lambda: running.count("abandoned_uploads_total", fate="uncounted") == 1)
    assert [blob.name.split("/")[2] for blob in harness.blobs()] == ["other"]


@asynccontextmanager
async def finished_by_another(harness: Harness, talk: Talk) -> AsyncIterator[tuple[Running, Gate]]:
    """A worker has made an object and waits for the answer; another owner has found that object and counted it."""
    gate = harness.server.hold(stage="reply")
    async with harness.worker(**SHORT) as former:
        await harness.say(talk, 3)
        await gate.reached()
        await evict(harness, former)
        harness.server.script.gates.remove(gate)
        async with harness.worker(**OTHER) as running:
            await eventually(lambda: running.count("batches_total", trigger="audio") == 1)
            yield former, gate


async def test_object_that_another_owner_has_found_and_counted_stays(harness: Harness) -> None:
    talk = Talk("c")
    async with finished_by_another(harness, talk) as (former, gate):
        gate.open()
        await eventually(lambda: former.count("abandoned_uploads_total", fate="counted") == 1)
    await harness.assert_empty()
    assert_plays(talk, harness.blobs())
    assert len(await harness.events()) == len(harness.blobs()) == 1


async def test_object_stays_if_redis_can_not_tell_whether_it_was_counted(harness: Harness) -> None:
    """The event is older than all that Redis still has."""
    talk = Talk("c")
    async with finished_by_another(harness, talk) as (former, gate):
        await harness.redis.delete(harness.keys.done(harness.partition("c")))
        gate.open()
        await eventually(lambda: former.count("abandoned_uploads_total", fate="unknown") == 1)
    assert_plays(talk, harness.blobs())


async def test_entries_leave_redis_if_they_were_deleted_while_their_seal_was_forgotten(
    paired: Harness, pair: Pair
) -> None:
    talk, harness = Talk("c"), paired
    gate = harness.server.hold(name="chunks/*")
    async with harness.worker(**SHORT) as running:
        await harness.say(talk, 2.5)
        await all_read(running, talk)
        await pair.lag()
        await harness.say(talk, 0.5)
        await gate.reached()
        await pair.fail_over(harness)
        await remove(harness, "c")
        gate.open()
        await eventually(lambda: not harness.blobs())
    await harness.drain(**SHORT)
    assert await harness.entries() == 0
    assert not harness.blobs()
    assert await harness.events() == []


async def test_object_whose_audio_is_read_again_is_counted(harness: Harness) -> None:
    talk = Talk("c")
    gate = harness.server.hold(stage="reply")
    async with harness.worker(**EXACT) as running:
        await harness.say(talk, 3)
        await gate.reached()
        await harness.redis.delete(harness.keys.ready(harness.partition("c")))
        gate.open()
        await eventually(lambda: running.count("abandoned_uploads_total", fate="counted") == 1)
    assert running.count("lost_entries_total") == 0
    assert_plays(talk, harness.blobs())
    assert [event["object"] for event in await harness.events()] == [blob.name for blob in harness.blobs()]


async def test_object_goes_once_others_have_stored_its_audio(harness: Harness) -> None:
    """Somebody else finishes the batch with an object of his own, while our upload is on its way."""
    gate = harness.server.hold(stage="reply")
    number = harness.partition("c")
    async with harness.worker(**EXACT) as running:
        ids = await harness.say(Talk("c"), 3)
        await gate.reached()
        await harness.redis.xadd(harness.keys.done(number), {"object": "chunks/user/c/another.batch.enc"})
        await harness.redis.delete(harness.keys.ready(number))
        await harness.redis.xdel(harness.keys.stream(number), *ids)
        assert len(harness.blobs()) == 1
        gate.open()
        await eventually(lambda: running.count("abandoned_uploads_total", fate="uncounted") == 1)
        await eventually(lambda: running.count("lost_entries_total") == len(ids))
        assert harness.blobs() == []
