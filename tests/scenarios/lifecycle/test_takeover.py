"""One owner leaves, the next one continues: nothing is missing, nothing is stored twice."""

from __future__ import annotations

import pytest

from tests.support.gcs.api import LOOK_UPS
from tests.support.harness import EXACT, HANDOFF, Harness, eventually, forgotten_seal
from tests.support.oracle import Talk, assert_stored_once, blobs_of


async def test_handoff_leaves_open_batches_to_the_next_owner_who_makes_one_blob_of_them(harness: Harness) -> None:
    talk = Talk("c")
    async with harness.worker(**HANDOFF) as first:
        await harness.say(talk, 1)
        await eventually(lambda: first.count("chunks_total") == 2)
    assert harness.blobs() == []
    assert await harness.pending() == 2
    await harness.say(talk, 1)
    await harness.drain(**EXACT)
    assert len(harness.blobs()) == 1
    assert_stored_once(talk, harness.blobs())


async def test_clean_release_frees_the_partitions_at_once(harness: Harness) -> None:
    async with harness.worker(**HANDOFF) as first:
        await eventually(lambda: first.count("partitions_owned") == harness.partitions)
    assert not [key async for key in harness.redis.scan_iter(f"{harness.keys.prefix}:*:lease")]
    assert await harness.redis.hgetall(harness.keys.workers) == {}


async def test_two_workers_share_and_the_second_one_takes_over_in_the_middle_of_conversations(harness: Harness) -> None:
    harness.partitions = 8
    talks = [Talk(f"c{number}") for number in range(16)]
    async with harness.worker(**HANDOFF) as first:
        for talk in talks:
            await harness.say(talk, 1)
        await eventually(lambda: first.count("chunks_total") == 32)
        async with harness.worker(**HANDOFF) as second:
            await eventually(lambda: (first.count("partitions_owned"), second.count("partitions_owned")) == (4, 4))
            for talk in talks:
                await harness.say(talk, 3)
            await eventually(lambda: len(harness.blobs()) == 16)
    await harness.drain(**EXACT)
    for talk in talks:
        assert_stored_once(talk, harness.blobs())
    assert len(await harness.events()) == len(harness.blobs()) == 32


async def test_upload_that_outlives_the_grace_time_is_finished_by_the_next_owner(harness: Harness) -> None:
    talk = Talk("c")
    gate = harness.server.hold(stage="request")
    async with harness.worker(shutdown_grace=2.1, **EXACT):
        await harness.say(talk, 3)
        await gate.reached()
    assert await harness.seals() == 1
    gate.open()
    await harness.drain(**EXACT)
    assert len(harness.blobs()) == len(await harness.events()) == 1
    assert_stored_once(talk, harness.blobs())


async def test_next_owner_of_a_lost_lease_finishes_what_the_first_one_sealed(harness: Harness) -> None:
    """Both upload the same batch under the same name; one of them wins, and there is one event."""
    talk = Talk("c")
    gate = harness.server.hold(stage="request")
    async with harness.worker(**EXACT) as first:
        await harness.say(talk, 3)
        await gate.reached()
        await harness.redis.delete(harness.keys.lease(harness.partition("c")))
        await eventually(lambda: first.count("leases_lost_total") == 1)
        gate.open()
    await harness.drain(**EXACT)
    assert len(harness.blobs()) == len(await harness.events()) == 1
    assert_stored_once(talk, harness.blobs())


async def test_lost_lease_while_shutting_down_ends_quietly(harness: Harness) -> None:
    talk = Talk("c")
    gate = harness.server.hold(stage="request")
    async with harness.worker(**EXACT) as running:
        await harness.say(talk, 3)
        await gate.reached()
        running.stop.set()
        await harness.redis.delete(harness.keys.lease(harness.partition("c")))
        await eventually(lambda: running.count("leases_lost_total") == 1)
        gate.open()
    await harness.drain(**EXACT)
    assert_stored_once(talk, harness.blobs())


async def test_batch_whose_seal_was_forgotten_is_recognised_in_the_bucket(harness: Harness) -> None:
    talk = Talk("c")
    blob = await forgotten_seal(harness, talk, 2)
    running = await harness.drain(**EXACT)
    assert running.count("store_conflicts_total", outcome="same") == 1
    assert harness.blobs() == [blob]
    assert [event["object"] for event in await harness.events()] == [blob.name]


@pytest.mark.parametrize("naming", ["start", "range"])
async def test_blob_that_holds_a_part_is_kept_and_the_rest_is_stored_beside_it(harness: Harness, naming: str) -> None:
    talk = Talk("c")
    blob = await forgotten_seal(harness, talk, 1.5, blob_naming=naming)
    await harness.say(talk, 1)
    running = await harness.drain(**EXACT, blob_naming=naming)
    assert running.count("store_conflicts_total", outcome="part") == 1
    assert blobs_of(talk, harness.blobs())[0] == blob
    assert [found.samples for found in blobs_of(talk, harness.blobs())] == [24000, 16000]
    assert_stored_once(talk, harness.blobs())
    assert len(await harness.events()) == 2


async def test_blob_that_holds_more_than_the_batch_is_not_stored_again(harness: Harness) -> None:
    talk = Talk("c")
    blob = await forgotten_seal(harness, talk, 2.5)
    async with harness.worker(**EXACT, batch_max_bytes=48000) as running:
        await eventually(lambda: running.count("store_conflicts_total", outcome="part") == 1)
    await harness.assert_empty()
    assert harness.blobs() == [blob]
    assert running.count("lost_entries_total") == 0


async def test_foreign_blob_keeps_its_name_and_ours_goes_beside_it(harness: Harness) -> None:
    talk = Talk("c")
    async with harness.worker() as running:
        for name in ("1700000000.000.enc", "1700000000.001.enc"):
            await running.store.create(f"{talk.prefix}{name}", b"from long ago", {})
    harness.server.requests.clear()
    await harness.say(talk, 1)
    running = await harness.drain(**EXACT)
    ours = [blob for blob in harness.blobs() if blob.metadata]
    assert [blob.stem for blob in ours] == ["1700000000.002"]
    assert [blob.data for blob in harness.blobs() if not blob.metadata] == [b"from long ago"] * 2
    assert running.count("store_conflicts_total", outcome="foreign") == 1
    assert_stored_once(talk, ours)


@pytest.mark.usefixtures("no_backoff")
async def test_every_failing_answer_of_the_store_is_tried_again(harness: Harness) -> None:
    talk = Talk("c")
    for status in (403, 404, 429, 500, 503):
        harness.server.fail("insert.*", status=status)
    harness.server.fail("insert.*", "drop_reply")
    await harness.say(talk, 1)
    running = await harness.drain(**EXACT)
    assert len(harness.blobs()) == len(await harness.events()) == 1
    assert_stored_once(talk, harness.blobs())
    assert running.count("store_conflicts_total", outcome="same") == 1
    assert harness.server.count(*LOOK_UPS) == 1
