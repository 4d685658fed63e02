"""The store is away: with a spool Redis gets its memory back, without one it holds the audio; nothing is lost."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import redis.asyncio

from tests.support.dying_process import dying_process
from tests.support.gcs.faults import Fault
from tests.support.gcs.server import GcsServer
from tests.support.harness import Harness, eventually
from tests.support.oracle import Talk, assert_stored_once
from tests.support.redis_server import RedisServer
from tests.support.spooled_blobs import metadata_of, states
from worker.runtime.timing import Backoff, ReadingTiming, SpoolTiming, StoreTiming, Timing
from worker.settings import Settings
from worker.spool import summary
from worker.spool.volume import CLOCK

TALKS = 20
WAVES = 5
WAVE_SECONDS = 3.0
WAVE_BYTES = int(TALKS * WAVE_SECONDS * 32_000)


@pytest.fixture
def timing() -> Timing:
    return Timing(
        reading=ReadingTiming(poll=0.05),
        store=StoreTiming(retry=Backoff(0.05, 0.3, jitter=0.05), probe=0.2),
        spool=SpoolTiming(scan=0.2, retry=Backoff(0.2, 0.2), rest=0.1),
    )


@pytest.fixture
async def own_harness(
    settings: Callable[..., Settings], own_redis: Callable[..., RedisServer], gcs_server: GcsServer, timing: Timing
) -> AsyncIterator[Harness]:
    """On a Redis of its own, whose memory is the test's alone."""
    url = own_redis(appendonly="yes").url
    async with redis.asyncio.Redis.from_url(url) as client:
        yield Harness(partial(settings, redis_url=url), client, gcs_server, timing)


def outage(harness: Harness) -> Fault:
    return harness.server.fail("*", times=10**9)


async def known(harness: Harness) -> None:
    """Streams that a worker knows; any others may be an old copy, and the first worker must ask the store."""
    async with harness.worker():
        await eventually(harness.taken_over)


def spooling(directory: Path, **changes: object) -> dict[str, Any]:
    return {"spool_dir": directory, "spool_mode": "outage", "spool_after": 0.3, **changes}


def talks(count: int = TALKS) -> list[Talk]:
    return [Talk(f"talk-{number}", uid=f"user-{number % 3}") for number in range(count)]


async def push_wave(harness: Harness, speakers: list[Talk]) -> None:
    for talk in speakers:
        await harness.say(talk, WAVE_SECONDS, chunk=1.0)


async def memory(harness: Harness) -> int:
    """Without the buffers of connections."""
    return int((await harness.redis.info("memory"))["used_memory_dataset"])


async def nothing_left(harness: Harness) -> bool:
    return await harness.entries() == 0


async def only_unspooled_left(harness: Harness, directory: Path) -> bool:
    return await harness.entries() == WAVE_SECONDS * (TALKS - len(states(directory)))


async def test_with_a_spool_the_memory_of_redis_stays_flat(own_harness: Harness, directory: Path) -> None:
    speakers = talks()
    fault = outage(own_harness)
    used = []
    async with own_harness.worker(**spooling(directory)) as worker:
        for _ in range(WAVES):
            await push_wave(own_harness, speakers)
            await eventually(lambda: nothing_left(own_harness))
            used.append(await memory(own_harness))
        assert own_harness.blobs() == []
        assert len(states(directory)) == WAVES * TALKS
        assert used[-1] - used[0] < 0.2 * WAVE_BYTES
        own_harness.server.script.faults.remove(fault)
        await eventually(lambda: states(directory) == [])
    for talk in speakers:
        assert_stored_once(talk, own_harness.blobs())
    assert len(own_harness.blobs()) == len(await own_harness.events()) == WAVES * TALKS
    assert {event["object"] for event in await own_harness.events()} == {blob.name for blob in own_harness.blobs()}
    assert worker.count("spool_uploads_total", outcome="stored") == WAVES * TALKS


async def test_without_a_spool_redis_holds_the_audio(own_harness: Harness) -> None:
    speakers = talks()
    fault = outage(own_harness)
    before = await memory(own_harness)
    async with own_harness.worker():
        for _ in range(WAVES):
            await push_wave(own_harness, speakers)
        await eventually(lambda: own_harness.server.count("insert.*") > TALKS)
        assert await own_harness.entries() == WAVES * TALKS * WAVE_SECONDS
        assert await memory(own_harness) - before > 0.9 * WAVES * WAVE_BYTES
        assert own_harness.blobs() == []
        own_harness.server.script.faults.remove(fault)
        await eventually(lambda: nothing_left(own_harness))
    for talk in speakers:
        assert_stored_once(talk, own_harness.blobs())


@pytest.mark.parametrize("spooled", [True, False], ids=["spool", "no spool"])
async def test_workers_killed_during_the_outage_and_the_recovery_lose_nothing(
    spooled: bool, own_harness: Harness, directory: Path
) -> None:
    """With a spool the killed worker has some blobs there and some on their way."""
    speakers = talks(10)
    changes = (spooling(directory) if spooled else {}) | {"lease_ttl": 1.0}
    await known(own_harness)
    fault = outage(own_harness)
    async with dying_process(own_harness.settings(**changes)) as doomed:
        await push_wave(own_harness, speakers)
        if spooled:
            await eventually(lambda: len(states(directory)) > 3)
        else:
            await eventually(lambda: own_harness.server.count("insert.*") > 3)
        await push_wave(own_harness, speakers)
        doomed.kill()
    gate = own_harness.server.hold("insert.*")
    own_harness.server.script.faults.remove(fault)
    async with dying_process(own_harness.settings(**changes)) as doomed:
        await gate.reached(3)
        doomed.kill()
    gate.open()
    await _drain_soon(own_harness, changes)
    for talk in speakers:
        assert_stored_once(talk, own_harness.blobs())
    assert states(directory) == []


async def _drain_soon(harness: Harness, changes: dict[str, Any]) -> None:
    """Drain as if the leases of dead workers' claims had passed."""
    async with harness.worker(drain=True, **changes) as running:
        spooling = running.worker._spooling
        if spooling is not None:
            spooling.drainer.lease = 0.5
    await harness.assert_empty()


async def test_a_full_spool_leaves_the_audio_in_redis_and_says_so(own_harness: Harness, directory: Path) -> None:
    speakers = talks()
    fault = outage(own_harness)
    size = 1024 * 1024
    async with own_harness.worker(**spooling(directory, spool_max_bytes=size, blob_codec="pcm")) as worker:
        await push_wave(own_harness, speakers)
        await eventually(lambda: worker.count("spool_refusals_total", cause="full") > 0)
        await eventually(lambda: summary(directory).bytes > 0.8 * size)
        assert summary(directory).bytes <= size
        assert any("the spool takes nothing (full)" in reason for reason in worker.health.ready())
        await eventually(lambda: only_unspooled_left(own_harness, directory))
        own_harness.server.script.faults.remove(fault)
        await eventually(lambda: nothing_left(own_harness))
        await eventually(lambda: states(directory) == [])
        await eventually(lambda: worker.health.ready() == [])
    for talk in speakers:
        assert_stored_once(talk, own_harness.blobs())


async def test_a_volume_that_is_full_in_the_middle_of_a_write_leaves_the_audio_in_redis(
    own_harness: Harness, directory: Path
) -> None:
    speakers = talks(5)
    await known(own_harness)
    fault = outage(own_harness)
    async with dying_process(own_harness.settings(**spooling(directory)), "write", "2000") as worker:
        await push_wave(own_harness, speakers)
        await eventually(lambda: own_harness.server.count("insert.*") > len(speakers))
        assert await own_harness.entries() == WAVE_SECONDS * len(speakers)
        own_harness.server.script.faults.remove(fault)
        await eventually(lambda: nothing_left(own_harness))
        worker.terminate()
        assert await worker.wait() == 0
    assert states(directory) == []
    for talk in speakers:
        assert_stored_once(talk, own_harness.blobs())


async def test_spooling_always_keeps_the_store_off_the_way_to_done(harness: Harness, directory: Path) -> None:
    gate = harness.server.hold("insert.*")
    talk = Talk("talk")
    async with harness.worker(**spooling(directory, spool_mode="always")):
        await harness.say(talk, WAVE_SECONDS)
        await eventually(lambda: nothing_left(harness))
        assert harness.blobs() == []
        gate.open()
        await eventually(lambda: states(directory) == [])
    assert_stored_once(talk, harness.blobs())


async def test_a_spool_that_does_not_work_is_no_reason_not_to_store(harness: Harness, directory: Path) -> None:
    talk = Talk("talk")
    async with harness.worker(**spooling(directory, spool_mode="always")) as worker:
        await eventually((directory / CLOCK).exists)
        shutil.rmtree(directory)
        await harness.say(talk, WAVE_SECONDS)
        await eventually(lambda: nothing_left(harness))
        assert worker.count("spool_refusals_total", cause="disk") > 0
        assert worker.health.ready() == []
    assert_stored_once(talk, harness.blobs())


async def test_what_was_spooled_is_uploaded_when_spooling_has_been_switched_off(
    harness: Harness, directory: Path
) -> None:
    talk = Talk("talk")
    fault = outage(harness)
    async with harness.worker(**spooling(directory)):
        await harness.say(talk, WAVE_SECONDS)
        await eventually(lambda: nothing_left(harness))
    harness.server.script.faults.remove(fault)
    await harness.drain(**spooling(directory, spool_mode="off"))
    assert_stored_once(talk, harness.blobs())
    assert states(directory) == []


@pytest.mark.parametrize(
    "answer",
    [{"action": "other_json", "body": {}}, {"action": "answer", "status": 307, "headers": {"Location": "/"}}],
    ids=["{}", "redirect"],
)
async def test_a_store_whose_answers_do_not_fit_is_away(
    harness: Harness, directory: Path, answer: dict[str, Any]
) -> None:
    talk = Talk("talk")
    fault = harness.server.fail("insert.*", times=10**9, **answer)
    async with harness.worker(**spooling(directory)) as worker:
        await harness.say(talk, WAVE_SECONDS)
        await eventually(lambda: nothing_left(harness))
        assert worker.count("store_retries_total", cause="unexpected") >= 2
        assert len(states(directory)) == 1
        assert harness.blobs() == []
        harness.server.script.faults.remove(fault)
        await eventually(lambda: states(directory) == [])
    assert_stored_once(talk, harness.blobs())


async def test_a_short_refusal_is_no_outage(harness: Harness, directory: Path) -> None:
    talk = Talk("talk")
    harness.server.fail("insert.*", times=2)
    async with harness.worker(**spooling(directory, spool_after=60.0)) as worker:
        await harness.say(talk, WAVE_SECONDS)
        await eventually(lambda: len(harness.blobs()) == 1)
        assert worker.count("store_retries_total", cause="server") == 2
    assert_stored_once(talk, harness.blobs())


async def test_a_name_that_was_taken_during_the_outage_changes_the_name(harness: Harness, directory: Path) -> None:
    talk = Talk("talk")
    async with harness.worker(**spooling(directory)) as worker:
        await worker.store.create(f"{talk.prefix}1700000000.000.opus.enc", b"foreign", metadata_of(["1-0"], b"foreign"))
        fault = outage(harness)
        await harness.say(talk, WAVE_SECONDS)
        await eventually(lambda: nothing_left(harness))
        (event,) = await harness.events()
        harness.server.script.faults.remove(fault)
        await eventually(lambda: states(directory) == [])
    ours = [blob for blob in harness.blobs() if blob.data != b"foreign"]
    assert [blob.name for blob in ours] == [event["object"].replace("000.000", "000.001")]
    assert_stored_once(talk, ours)


async def test_a_batch_that_redis_forgot_is_found_in_the_spool(harness: Harness, directory: Path) -> None:
    """A failover may bring back entries that were done: their audio lies in the spool already.

    Until the store can be asked, too, they stay in Redis; other conversations go on.
    """
    talk = Talk("talk")
    fault = outage(harness)
    changes = spooling(directory)
    await harness.say(talk, WAVE_SECONDS)
    stream = harness.keys.stream(harness.partition("talk"))
    before = await harness.redis.dump(stream)
    async with harness.worker(**changes):
        await eventually(lambda: nothing_left(harness))
    await harness.redis.delete(harness.keys.seen(harness.partition("talk"), "user/talk"))
    await harness.redis.restore(stream, 0, before, replace=True)
    await harness.push(talk.say(0.5), talk.end())
    other = Talk("other")
    await harness.push(other.say(0.5), other.end())
    async with harness.worker(**changes, batch_max_seconds=10) as running:
        await eventually(lambda: running.count("batches_total", trigger="end") == 1)
        assert await harness.entries() == WAVE_SECONDS / 0.5 + 2
        harness.server.script.faults.remove(fault)
        await eventually(lambda: nothing_left(harness))
        await eventually(lambda: states(directory) == [])
    assert_stored_once(talk, harness.blobs())
    assert len(harness.blobs()) == 3


async def test_two_workers_recover_together(harness: Harness, directory: Path) -> None:
    speakers = talks()
    fault = outage(harness)
    async with harness.worker(**spooling(directory)), harness.worker(**spooling(directory)):
        await push_wave(harness, speakers)
        await eventually(lambda: nothing_left(harness))
        asked = harness.server.count("insert.*")
        harness.server.script.faults.remove(fault)
        await eventually(lambda: states(directory) == [])
    for talk in speakers:
        assert_stored_once(talk, harness.blobs())
    assert harness.server.count("insert.*") - asked <= TALKS + 2
