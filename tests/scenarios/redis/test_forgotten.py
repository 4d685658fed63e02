"""What Redis has forgotten, with no failover that it could tell of or with one that leads back to the same process."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from structlog.testing import capture_logs

from tests.support.failover import Pair
from tests.support.harness import EXACT, HANDOFF, Rig, eventually, forgotten_seal
from tests.support.oracle import Talk, assert_plays, assert_stored_once
from tests.support.timing import SHORT_RESTS
from worker.runtime.timing import GaugeTiming, Timing

FIVE: dict[str, Any] = {"batch_max_bytes": 5 * 16_000}
"""Setting with which a batch has five chunks of half a second, and not six."""


@pytest.fixture
def timing() -> Timing:
    return SHORT_RESTS


@pytest.fixture
def often_observed(rig: Rig) -> None:
    rig.timing = replace(rig.timing, gauges=GaugeTiming(observe=0.05, account=0.05, busy_account=0.05))


async def say_all(rig: Rig, talk: Talk, count: int, clear: tuple[int, ...]) -> None:
    """Continue a conversation; chunks that are `clear` have another protection, which closes batches."""
    for _ in range(count):
        talk.protection = "standard" if len(talk.chunks) in clear else "enhanced"
        await rig.say(talk, 0.5)


@pytest.mark.parametrize(("clear", "batches", "read"), [((), 1, 2), ((5, 6), 1, 2), ((2,), 1, 2), ((), 1, 6)])
async def test_seals_and_done_steps_are_forgotten_while_later_chunks_come(
    rig: Rig, clear: tuple[int, ...], batches: int, read: int
) -> None:
    """The keys of the partition are what they were; the server is the same, so that nothing tells of it."""
    talk, count = Talk("c"), 5 * batches + 1
    number = rig.partition("c")
    keys = [rig.keys.stream(number), rig.keys.epoch(number)]
    async with rig.worker(**HANDOFF, batch_max_seconds=60.0) as former:
        await say_all(rig, talk, read, clear)
        await eventually(lambda: former.count("chunks_total") == read)
    await say_all(rig, talk, count - read, clear)
    before = {key: await rig.redis.dump(key) for key in keys}
    async with rig.worker(**HANDOFF, **FIVE) as running:
        await eventually(lambda: running.count("chunks_total") >= count)
        await eventually(lambda: running.count("stored_seconds_total") >= 1)
    await rig.redis.delete(*[key async for key in rig.redis.scan_iter(f"{rig.keys.stream(number)}:*")])
    for key, value in before.items():
        await rig.redis.restore(key, 0, value, replace=True)
    await say_all(rig, talk, 8, clear)
    last = await rig.drain(**EXACT)
    assert_plays(talk, rig.blobs())
    assert last.count("lost_entries_total") == 0


@pytest.mark.parametrize(("before", "after"), [("pcm", "opus"), ("opus", "pcm")])
@pytest.mark.parametrize("more", [0, 2.5])
async def test_blob_of_another_codec_is_recognised(rig: Rig, before: str, after: str, more: float) -> None:
    """BLOB_CODEC was changed meanwhile; the audio has one codec or the other, and never both."""
    talk = Talk("c")
    number = rig.partition("c")
    async with rig.worker(shutdown="handoff") as running:
        await rig.say(talk, 1.5)
        await eventually(lambda: running.count("chunks_total") == 3)
    stream = await rig.redis.dump(rig.keys.stream(number))
    await rig.drain(blob_codec=before)
    (blob,) = rig.blobs()
    await rig.redis.delete(rig.keys.done(number), rig.keys.seen(number, "user/c"))
    await rig.redis.restore(rig.keys.stream(number), 0, stream, replace=True)
    await rig.say(talk, more)
    await rig.drain(blob_codec=after)
    assert blob in rig.blobs()
    assert [found.metadata["codec"] for found in rig.blobs() if found != blob] == [after] * (len(rig.blobs()) - 1)
    assert len(rig.blobs()) == 1 or more
    assert_stored_once(talk, rig.blobs())


async def test_forgotten_batch_is_found_under_a_name_with_an_end(rig: Rig) -> None:
    """BLOB_NAMING was changed meanwhile."""
    talk = Talk("c")
    blob = await forgotten_seal(rig, talk, 2, blob_naming="range")
    await rig.drain(**EXACT)
    assert rig.blobs() == [blob]


async def test_failback_to_the_same_process_leaves_nothing_behind_the_cursor(paired: Rig, pair: Pair) -> None:
    """A was primary, then B, then A again with B's data, all while the lease holds; B's clock was behind."""
    talk, other, rig = Talk("c"), Talk("other"), paired
    other.conversation_id = next(name for name in map(str, range(99)) if rig.partition(name) == rig.partition("c"))
    async with rig.worker(lease_ttl=15.0, **EXACT) as running:
        await rig.say(talk, 1)
        await eventually(lambda: running.count("chunks_total") == 2)
        await pair.lag()
        (last,) = await rig.say(other, 0.5)
        await eventually(lambda: running.count("chunks_total") == 3)
        await pair.promote()
        pair.way.turn_to(pair.replica.port)
        await rig.redis.connection_pool.disconnect()
        milliseconds = int(last.partition("-")[0])
        for number in range(4):
            fields = dict(talk.say(0.5).fields())
            await rig.redis.xadd(rig.keys.stream(rig.partition("c")), fields, id=f"{milliseconds}-{number}")
        pair.link.resume()
        await pair.fail_back()
        pair.way.turn_to(pair.primary.port)
        await rig.redis.connection_pool.disconnect()
        await eventually(lambda: running.count("batches_total", trigger="audio") == 1)
    await rig.assert_empty()
    assert_plays(talk, rig.blobs())


@pytest.mark.usefixtures("often_observed")
@pytest.mark.parametrize("removed", [1, 3, 5])
async def test_entries_that_are_deleted_before_any_owner_reads_them_are_counted(rig: Rig, removed: int) -> None:
    talk, lost = Talk("c"), Talk("lost")
    lost.conversation_id = "c"
    async with rig.worker(**HANDOFF) as former:
        await rig.say(talk, 0.5)
        await eventually(lambda: former.count("chunks_total") == 1)
    ids = await rig.say(lost, removed / 2)
    await rig.say(talk, 1)
    await rig.redis.xdel(rig.keys.stream(rig.partition("c")), *ids)
    with capture_logs() as events:
        async with rig.worker(**EXACT) as running:
            await eventually(lambda: running.count("lost_entries_total") == removed)
    losses = [event for event in events if event["event"] == "entries.lost"]
    assert [(event["entries"], event["unread"], event["log_level"]) for event in losses] == [(removed, True, "error")]
    assert running.count("lost_entries_total") == removed
    assert_plays(talk, rig.blobs())
