"""What Redis has forgotten, with no failover that it could tell of or with one that leads back to the same process."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from structlog.testing import capture_logs

from tests.support.failover import Pair
from tests.support.harness import EXACT, HANDOFF, Harness, eventually, forgotten_seal
from tests.support.oracle import Talk, assert_plays, assert_stored_once
from tests.support.timing import SHORT_RESTS
from worker.runtime.timing import GaugeTiming, Timing

FIVE: dict[str, Any] = {"batch_max_bytes": 5 * 16_000}
"""Setting with which a batch has five chunks of half a second, and not six."""


@pytest.fixture
def timing() -> Timing:
    return SHORT_RESTS


@pytest.fixture
def often_observed(harness: Harness) -> None:
    harness.timing = replace(harness.timing, gauges=GaugeTiming(observe=0.05, account=0.05, busy_account=0.05))


async def say_all(harness: Harness, talk: Talk, count: int, clear: tuple[int, ...]) -> None:
    """Continue a conversation; chunks that are `clear` have another protection, which closes batches."""
    for _ in range(count):
        talk.protection = "standard" if len(talk.chunks) in clear else "enhanced"
        await harness.say(talk, 0.5)


@pytest.mark.parametrize(("clear", "batches", "read"), [((), 1, 2), ((5, 6), 1, 2), ((2,), 1, 2), ((), 1, 6)])
async def test_seals_and_done_steps_are_forgotten_while_later_chunks_come(
    harness: Harness, clear: tuple[int, ...], batches: int, read: int
) -> None:
    """The keys of the partition are what they were; the server is the same, so that nothing tells of it."""
    talk, count = Talk("c"), 5 * batches + 1
    number = harness.partition("c")
    keys = [harness.keys.stream(number), harness.keys.epoch(number)]
    async with harness.worker(**HANDOFF, batch_max_seconds=60.0) as former:
        await say_all(harness, talk, read, clear)
        await eventually(lambda: former.count("chunks_total") == read)
    await say_all(harness, talk, count - read, clear)
    before = {key: await harness.redis.dump(key) for key in keys}
    async with harness.worker(**HANDOFF, **FIVE) as running:
        await eventually(lambda: running.count("chunks_total") >= count)
        await eventually(lambda: running.count("stored_seconds_total") >= 1)
    await harness.redis.delete(*[key async for key in harness.redis.scan_iter(f"{harness.keys.stream(number)}:*")])
    for key, value in before.items():
        await harness.redis.restore(key, 0, value, replace=True)
    await say_all(harness, talk, 8, clear)
    last = await harness.drain(**EXACT)
    assert_plays(talk, harness.blobs())
    assert last.count("lost_entries_total") == 0


@pytest.mark.parametrize(("before", "after"), [("pcm", "opus"), ("opus", "pcm")])
@pytest.mark.parametrize("more", [0, 2.5])
async def test_blob_of_another_codec_is_recognised(harness: Harness, before: str, after: str, more: float) -> None:
    """BLOB_CODEC was changed meanwhile; the audio has one codec or the other, and never both."""
    talk = Talk("c")
    number = harness.partition("c")
    async with harness.worker(shutdown="handoff") as running:
        await harness.say(talk, 1.5)
        await eventually(lambda: running.count("chunks_total") == 3)
    stream = await harness.redis.dump(harness.keys.stream(number))
    await harness.drain(blob_codec=before)
    (blob,) = harness.blobs()
    await harness.redis.delete(harness.keys.done(number), harness.keys.seen(number, "user/c"))
    await harness.redis.restore(harness.keys.stream(number), 0, stream, replace=True)
    await harness.say(talk, more)
    await harness.drain(blob_codec=after)
    assert blob in harness.blobs()
    assert [found.metadata["codec"] for found in harness.blobs() if found != blob] == [after] * (
        len(harness.blobs()) - 1
    )
    assert len(harness.blobs()) == 1 or more
    assert_stored_once(talk, harness.blobs())


async def test_forgotten_batch_is_found_under_a_name_with_an_end(harness: Harness) -> None:
    """BLOB_NAMING was changed meanwhile."""
    talk = Talk("c")
    blob = await forgotten_seal(harness, talk, 2, blob_naming="range")
    await harness.drain(**EXACT)
    assert harness.blobs() == [blob]


async def test_failback_to_the_same_process_leaves_nothing_behind_the_cursor(paired: Harness, pair: Pair) -> None:
    """A was primary, then B, then A again with B's data, all while the lease holds; B's clock was behind."""
    talk, other, harness = Talk("c"), Talk("other"), paired
    other.conversation_id = next(
        name for name in map(str, range(99)) if harness.partition(name) == harness.partition("c")
    )
    async with harness.worker(lease_ttl=15.0, **EXACT) as running:
        await harness.say(talk, 1)
        await eventually(lambda: running.count("chunks_total") == 2)
        await pair.lag()
        (last,) = await harness.say(other, 0.5)
        await eventually(lambda: running.count("chunks_total") == 3)
        await pair.promote()
        pair.way.turn_to(pair.replica.port)
        await harness.redis.connection_pool.disconnect()
        milliseconds = int(last.partition("-")[0])
        for number in range(4):
            fields = dict(talk.say(0.5).fields())
            await harness.redis.xadd(harness.keys.stream(harness.partition("c")), fields, id=f"{milliseconds}-{number}")
        pair.link.resume()
        await pair.fail_back()
        pair.way.turn_to(pair.primary.port)
        await harness.redis.connection_pool.disconnect()
        await eventually(lambda: running.count("batches_total", trigger="audio") == 1)
    await harness.assert_empty()
    assert_plays(talk, harness.blobs())


@pytest.mark.usefixtures("often_observed")
@pytest.mark.parametrize("removed", [1, 3, 5])
async def test_entries_that_are_deleted_before_any_owner_reads_them_are_counted(harness: Harness, removed: int) -> None:
    talk, lost = Talk("c"), Talk("lost")
    lost.conversation_id = "c"
    async with harness.worker(**HANDOFF) as former:
        await harness.say(talk, 0.5)
        await eventually(lambda: former.count("chunks_total") == 1)
    ids = await harness.say(lost, removed / 2)
    await harness.say(talk, 1)
    await harness.redis.xdel(harness.keys.stream(harness.partition("c")), *ids)
    with capture_logs() as events:
        async with harness.worker(**EXACT) as running:
            await eventually(lambda: running.count("lost_entries_total") == removed)
    losses = [event for event in events if event["event"] == "entries.lost"]
    assert [(event["entries"], event["unread"], event["log_level"]) for event in losses] == [(removed, True, "error")]
    assert running.count("lost_entries_total") == removed
    assert_plays(talk, harness.blobs())
