"""One owner leaves, the next one continues: nothing is missing, nothing is stored twice."""

from __future__ import annotations

import pytest

from tests.support.gcs.api import LOOK_UPS
from tests.support.harness import EXACT, HANDOFF, Rig, eventually, forgotten_seal
from tests.support.oracle import Talk, assert_stored_once, blobs_of


async def test_handoff_leaves_open_batches_to_the_next_owner_who_makes_one_blob_of_them(rig: Rig) -> None:
    talk = Talk("c")
    async with rig.worker(**HANDOFF) as first:
        await rig.say(talk, 1)
        await eventually(lambda: first.count("chunks_total") == 2)
    assert rig.blobs() == []
    assert await rig.pending() == 2
    await rig.say(talk, 1)
    await rig.drain(**EXACT)
    assert len(rig.blobs()) == 1
    assert_stored_once(talk, rig.blobs())


async def test_clean_release_frees_the_partitions_at_once(rig: Rig) -> None:
    async with rig.worker(**HANDOFF) as first:
        await eventually(lambda: first.count("partitions_owned") == rig.partitions)
    assert not [key async for key in rig.redis.scan_iter(f"{rig.keys.prefix}:*:lease")]
    assert await rig.redis.hgetall(rig.keys.workers) == {}


async def test_two_workers_share_and_the_second_one_takes_over_in_the_middle_of_conversations(rig: Rig) -> None:
    rig.partitions = 8
    talks = [Talk(f"c{number}") for number in range(16)]
    async with rig.worker(**HANDOFF) as first:
        for talk in talks:
            await rig.say(talk, 1)
        await eventually(lambda: first.count("chunks_total") == 32)
        async with rig.worker(**HANDOFF) as second:
            await eventually(lambda: (first.count("partitions_owned"), second.count("partitions_owned")) == (4, 4))
            for talk in talks:
                await rig.say(talk, 3)
            await eventually(lambda: len(rig.blobs()) == 16)
    await rig.drain(**EXACT)
    for talk in talks:
        assert_stored_once(talk, rig.blobs())
    assert len(await rig.events()) == len(rig.blobs()) == 32


async def test_upload_that_outlives_the_grace_time_is_finished_by_the_next_owner(rig: Rig) -> None:
    talk = Talk("c")
    gate = rig.server.hold(stage="request")
    async with rig.worker(shutdown_grace=2.1, **EXACT):
        await rig.say(talk, 3)
        await gate.reached()
    assert await rig.seals() == 1
    gate.open()
    await rig.drain(**EXACT)
    assert len(rig.blobs()) == len(await rig.events()) == 1
    assert_stored_once(talk, rig.blobs())


async def test_next_owner_of_a_lost_lease_finishes_what_the_first_one_sealed(rig: Rig) -> None:
    """Both upload the same batch under the same name; one of them wins, and there is one event."""
    talk = Talk("c")
    gate = rig.server.hold(stage="request")
    async with rig.worker(**EXACT) as first:
        await rig.say(talk, 3)
        await gate.reached()
        await rig.redis.delete(rig.keys.lease(rig.partition("c")))
        await eventually(lambda: first.count("leases_lost_total") == 1)
        gate.open()
    await rig.drain(**EXACT)
    assert len(rig.blobs()) == len(await rig.events()) == 1
    assert_stored_once(talk, rig.blobs())


async def test_lost_lease_while_shutting_down_ends_quietly(rig: Rig) -> None:
    talk = Talk("c")
    gate = rig.server.hold(stage="request")
    async with rig.worker(**EXACT) as running:
        await rig.say(talk, 3)
        await gate.reached()
        running.stop.set()
        await rig.redis.delete(rig.keys.lease(rig.partition("c")))
        await eventually(lambda: running.count("leases_lost_total") == 1)
        gate.open()
    await rig.drain(**EXACT)
    assert_stored_once(talk, rig.blobs())


async def test_batch_whose_seal_was_forgotten_is_recognised_in_the_bucket(rig: Rig) -> None:
    talk = Talk("c")
    blob = await forgotten_seal(rig, talk, 2)
    running = await rig.drain(**EXACT)
    assert running.count("store_conflicts_total", outcome="same") == 1
    assert rig.blobs() == [blob]
    assert [event["object"] for event in await rig.events()] == [blob.name]


@pytest.mark.parametrize("naming", ["start", "range"])
async def test_blob_that_holds_a_part_is_kept_and_the_rest_is_stored_beside_it(rig: Rig, naming: str) -> None:
    talk = Talk("c")
    blob = await forgotten_seal(rig, talk, 1.5, blob_naming=naming)
    await rig.say(talk, 1)
    running = await rig.drain(**EXACT, blob_naming=naming)
    assert running.count("store_conflicts_total", outcome="part") == 1
    assert blobs_of(talk, rig.blobs())[0] == blob
    assert [found.samples for found in blobs_of(talk, rig.blobs())] == [24000, 16000]
    assert_stored_once(talk, rig.blobs())
    assert len(await rig.events()) == 2


async def test_blob_that_holds_more_than_the_batch_is_not_stored_again(rig: Rig) -> None:
    talk = Talk("c")
    blob = await forgotten_seal(rig, talk, 2.5)
    async with rig.worker(**EXACT, batch_max_bytes=48000) as running:
        await eventually(lambda: running.count("store_conflicts_total", outcome="part") == 1)
    await rig.assert_empty()
    assert rig.blobs() == [blob]
    assert running.count("lost_entries_total") == 0


async def test_foreign_blob_keeps_its_name_and_ours_goes_beside_it(rig: Rig) -> None:
    talk = Talk("c")
    async with rig.worker() as running:
        for name in ("1700000000.000.enc", "1700000000.001.enc"):
            await running.store.create(f"{talk.prefix}{name}", b"from long ago", {})
    rig.server.requests.clear()
    await rig.say(talk, 1)
    running = await rig.drain(**EXACT)
    ours = [blob for blob in rig.blobs() if blob.metadata]
    assert [blob.stem for blob in ours] == ["1700000000.002"]
    assert [blob.data for blob in rig.blobs() if not blob.metadata] == [b"from long ago"] * 2
    assert running.count("store_conflicts_total", outcome="foreign") == 1
    assert_stored_once(talk, ours)


@pytest.mark.usefixtures("no_backoff")
async def test_every_failing_answer_of_the_store_is_tried_again(rig: Rig) -> None:
    talk = Talk("c")
    for status in (403, 404, 429, 500, 503):
        rig.server.fail("insert.*", status=status)
    rig.server.fail("insert.*", "drop_reply")
    await rig.say(talk, 1)
    running = await rig.drain(**EXACT)
    assert len(rig.blobs()) == len(await rig.events()) == 1
    assert_stored_once(talk, rig.blobs())
    assert running.count("store_conflicts_total", outcome="same") == 1
    assert rig.server.count(*LOOK_UPS) == 1
