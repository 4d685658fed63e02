"""An object whose seal was gone when it was there: it stays while somebody may count it, and goes when nobody did."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.support.failover import Pair
from tests.support.harness import EXACT, Rig, Running, eventually
from tests.support.oracle import Talk, assert_plays, played
from tests.support.timing import SHORT_RESTS
from worker.archive import Archive
from worker.runtime.timing import Timing
from worker.stores import open_store
from worker.stream.tombstones import open_tombstones

SHORT: dict[str, Any] = {"lease_ttl": 1.0, **EXACT}
OTHER: dict[str, Any] = {"worker_id": "the other worker", **SHORT}


@pytest.fixture
def timing() -> Timing:
    return replace(SHORT_RESTS, delivery=replace(SHORT_RESTS.delivery, orphans=0.05))


async def all_read(running: Running, talk: Talk) -> None:
    await eventually(lambda: running.count("chunks_total") >= len(talk.chunks))


async def evict(rig: Rig, running: Running) -> None:
    """Let a worker lose its leases, as one that was paused does, while what it has under way goes on."""
    running.worker._ownership._leaving = True
    await rig.redis.delete(*(rig.keys.lease(number) for number in range(rig.partitions)), rig.keys.workers)
    await eventually(lambda: running.count("leases_lost_total") == rig.partitions)


@pytest.mark.parametrize("naming", ["start", "range"])
@pytest.mark.parametrize("known", [3, 5])
async def test_object_that_is_made_after_a_failover_has_forgotten_its_seal(
    paired: Rig, pair: Pair, naming: str, known: int
) -> None:
    """The next owner, which may be configured otherwise, has stored what the replica knew when the upload ends."""
    talk, rig = Talk("c"), paired
    gate = rig.server.hold()
    async with rig.worker(**SHORT) as former:
        await rig.say(talk, known / 2)
        await all_read(former, talk)
        await pair.lag()
        await rig.say(talk, 3 - known / 2)
        await gate.reached()
        await pair.fail_over(rig)
        await evict(rig, former)
        rig.server.script.gates.remove(gate)
        async with rig.worker(**OTHER, blob_naming=naming) as running:
            await rig.say(talk, 3)
            await eventually(lambda: running.count("batches_total", trigger="audio") == 1)
            gate.open()
            await eventually(lambda: not _busy(former))
    await rig.drain(**SHORT)
    assert played(talk, rig.blobs()) == [number for number in range(12) if not known <= number < 6]
    assert {event["object"] for event in await rig.events()} == {blob.name for blob in rig.blobs()}


def _busy(running: Running) -> bool:
    return any(partition.deliveries for partition in running.worker._consumer.abandoned)


async def test_object_that_another_owner_has_found_and_counted_stays(rig: Rig) -> None:
    talk = Talk("c")
    gate = rig.server.hold(stage="reply")
    async with rig.worker(**SHORT) as former:
        await rig.say(talk, 3)
        await gate.reached()
        await evict(rig, former)
        rig.server.script.gates.remove(gate)
        async with rig.worker(**OTHER) as running:
            await eventually(lambda: running.count("batches_total", trigger="audio") == 1)
            gate.open()
            await eventually(lambda: former.count("abandoned_uploads_total", fate="counted") == 1)
    await rig.assert_empty()
    assert_plays(talk, rig.blobs())
    assert len(await rig.events()) == len(rig.blobs()) == 1


async def test_object_stays_if_nobody_can_tell_whether_it_was_counted(rig: Rig) -> None:
    """The event is older than all that Redis still has."""
    talk = Talk("c")
    gate = rig.server.hold(stage="reply")
    async with rig.worker(**SHORT) as former:
        await rig.say(talk, 3)
        await gate.reached()
        await evict(rig, former)
        rig.server.script.gates.remove(gate)
        async with rig.worker(**OTHER) as running:
            await eventually(lambda: running.count("batches_total", trigger="audio") == 1)
        await rig.redis.delete(rig.keys.done(rig.partition("c")))
        gate.open()
        await eventually(lambda: former.count("abandoned_uploads_total", fate="unknown") == 1)
    assert_plays(talk, rig.blobs())


async def test_entries_leave_redis_if_they_were_deleted_while_their_seal_was_forgotten(paired: Rig, pair: Pair) -> None:
    talk, rig = Talk("c"), paired
    gate = rig.server.hold(name="chunks/*")
    async with rig.worker(**SHORT) as running:
        await rig.say(talk, 2.5)
        await all_read(running, talk)
        await pair.lag()
        await rig.say(talk, 0.5)
        await gate.reached()
        await pair.fail_over(rig)
        store, settings = open_store(f"gs://{rig.server.bucket}", emulator_host=rig.server.url), rig.settings()
        async with open_tombstones(settings.redis_url, settings.stream_prefix, settings.partitions) as tombstones:
            await Archive(store).delete("user", "c", tombstones=tombstones)
        await store.close()
        gate.open()
        await eventually(lambda: not rig.blobs())
    await rig.drain(**SHORT)
    assert await rig.entries() == 0
    assert not rig.blobs()
    assert await rig.events() == []


async def test_object_whose_audio_is_read_again_is_counted(rig: Rig) -> None:
    talk = Talk("c")
    gate = rig.server.hold(stage="reply")
    async with rig.worker(**EXACT) as running:
        await rig.say(talk, 3)
        await gate.reached()
        await rig.redis.delete(rig.keys.ready(rig.partition("c")))
        gate.open()
        await eventually(lambda: running.count("abandoned_uploads_total", fate="counted") == 1)
    assert running.count("lost_entries_total") == 0
    assert_plays(talk, rig.blobs())
    assert [event["object"] for event in await rig.events()] == [blob.name for blob in rig.blobs()]


async def test_object_goes_once_others_have_stored_its_audio(rig: Rig) -> None:
    """Somebody else finishes the batch with an object of his own, while our upload is on its way."""
    gate = rig.server.hold(stage="reply")
    number = rig.partition("c")
    async with rig.worker(**EXACT) as running:
        ids = await rig.say(Talk("c"), 3)
        await gate.reached()
        await rig.redis.xadd(rig.keys.done(number), {"object": "chunks/user/c/another.batch.enc"})
        await rig.redis.delete(rig.keys.ready(number))
        await rig.redis.xdel(rig.keys.stream(number), *ids)
        assert len(rig.blobs()) == 1
        gate.open()
        await eventually(lambda: running.count("abandoned_uploads_total", fate="uncounted") == 1)
        assert rig.blobs() == []
    assert running.count("lost_entries_total") == len(ids)
