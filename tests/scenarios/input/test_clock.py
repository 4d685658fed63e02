"""Redis' clock was set back, or somebody chose an id of the future: time goes on all the same."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.support.harness import EXACT, Harness, eventually
from tests.support.oracle import Talk, assert_plays
from tests.support.timing import SHORT_TURNS
from worker.archive import Archive, Deletion
from worker.runtime.timing import GaugeTiming, Timing
from worker.stores import open_store
from worker.stream.tombstones import open_tombstones

FAR = 9_999_999_999_999
"""The year 2286."""

HOUR = 3_600_000


@pytest.fixture(params=[FAR, None], ids=["2286", "an hour"])
async def ahead(request: pytest.FixtureRequest, harness: Harness) -> int:
    """Milliseconds of an id that all later ones follow."""
    seconds, _ = await harness.redis.time()
    chosen: int | None = request.param
    return chosen or seconds * 1000 + HOUR


@pytest.fixture
def timing() -> Timing:
    return replace(SHORT_TURNS, gauges=GaugeTiming(observe=0.05))


async def say_ahead(harness: Harness, talk: Talk, ahead: int, seconds: float) -> None:
    """Continue a conversation with a first id of the future; the others follow by Redis' own rule."""
    fields = dict(talk.say(0.5).fields())
    await harness.redis.xadd(harness.keys.stream(harness.partition(talk.conversation_id)), fields, id=f"{ahead}-0")
    await harness.say(talk, seconds - 0.5)


async def remove(harness: Harness, conversation_id: str) -> Deletion:
    """`audio-batch-worker rm`, as a backend does it."""
    store, settings = open_store(f"gs://{harness.server.bucket}", emulator_host=harness.server.url), harness.settings()
    async with open_tombstones(settings.redis_url, settings.stream_prefix, settings.partitions) as tombstones:
        deletion = await Archive(store).delete("user", conversation_id, tombstones=tombstones)
    await store.close()
    return deletion


async def nothing_left(harness: Harness) -> bool:
    return not await harness.entries() and not await harness.seals()


@pytest.mark.parametrize("before", [0, 1], ids=["all", "but the first"])
async def test_age_closes_batches_whose_ids_are_of_the_future(harness: Harness, ahead: int, before: float) -> None:
    talk = Talk("c")
    async with harness.worker(batch_max_age=0.3, **EXACT) as running:
        await harness.say(talk, before)
        await say_ahead(harness, talk, ahead, 1)
        await eventually(lambda: running.count("stored_seconds_total") == 1 + before)
        assert running.count("batches_total", trigger="age") >= 1
        await harness.assert_empty()
    assert_plays(talk, harness.blobs())


async def test_age_closes_batches_that_another_owner_had_begun(harness: Harness, ahead: int) -> None:
    talk = Talk("c")
    async with harness.worker(shutdown="handoff", **EXACT) as former:
        await say_ahead(harness, talk, ahead, 1)
        await eventually(lambda: former.count("chunks_total") == 2)
    async with harness.worker(batch_max_age=0.3, **EXACT) as running:
        await eventually(lambda: running.count("batches_total", trigger="age") == 1)
    assert_plays(talk, harness.blobs())


async def test_what_waits_grows_older_though_its_id_is_of_the_future(harness: Harness, ahead: int) -> None:
    """In an open batch, then on its way."""
    talk, gate = Talk("c"), harness.server.hold(stage="request")
    async with harness.worker(**EXACT) as running:
        await say_ahead(harness, talk, ahead, 2.5)
        await eventually(lambda: running.count("oldest_unstored_seconds") > 0.3)
        assert running.count("oldest_unstored_seconds") < 60
        await harness.say(talk, 0.5)
        await gate.reached()
        await eventually(lambda: running.count("batches_in_state", state="uploading") == 1)
        begun = running.count("oldest_unstored_seconds")
        await eventually(lambda: running.count("oldest_unstored_seconds") > begun + 0.3)
        gate.open()
        await eventually(lambda: running.count("oldest_unstored_seconds") == 0)
    assert_plays(talk, harness.blobs())


@pytest.mark.parametrize("read", [True, False])
async def test_deletion_holds_back_what_waits_and_nothing_that_comes_after_it(
    harness: Harness, ahead: int, read: bool
) -> None:
    doomed, kept, again = Talk("doomed"), Talk("kept"), Talk("doomed", start=1_800_000_000.0)
    kept.conversation_id = next(
        name for name in map(str, range(99)) if harness.partition(name) == harness.partition("doomed")
    )
    if read:
        async with harness.worker(shutdown="handoff", **EXACT) as former:
            await say_ahead(harness, doomed, ahead, 1)
            await harness.say(kept, 1)
            await eventually(lambda: former.count("chunks_total") == 4)
            assert (await remove(harness, "doomed")).complete
            await harness.say(again, 1)
            await eventually(lambda: former.count("chunks_total") >= 6)
    else:
        await say_ahead(harness, doomed, ahead, 1)
        await harness.say(kept, 1)
        assert (await remove(harness, "doomed")).complete
        await harness.say(again, 1)
    await harness.drain(**EXACT)
    assert_plays(kept, harness.blobs())
    assert_plays(again, harness.blobs())


@pytest.mark.parametrize("stage", ["commit", "reply"])
async def test_deletion_reaches_an_upload_of_audio_with_ids_of_the_future(
    harness: Harness, ahead: int, stage: str
) -> None:
    doomed = Talk("doomed")
    gate = harness.server.hold("insert.*", stage, name="chunks/*")  # type: ignore[arg-type]
    async with harness.worker(**EXACT):
        await say_ahead(harness, doomed, ahead, 3)
        await gate.reached()
        await remove(harness, "doomed")
        gate.open()
        await eventually(lambda: nothing_left(harness))
    assert harness.blobs() == []
    assert await harness.events() == []
