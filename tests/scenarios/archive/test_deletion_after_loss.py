"""Deleted audio stays away though Redis has lost the deletion: the bucket remembers it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.support.failover import Pair
from tests.support.harness import EXACT, Harness, HarnessMaker, eventually, remove
from tests.support.oracle import Talk, assert_plays
from tests.support.redis_server import RedisServer
from tests.support.spooled_blobs import states
from tests.support.timing import SHORT_RESTS
from worker.runtime.timing import Backoff, SpoolTiming, Timing

SHORT: dict[str, Any] = {"lease_ttl": 1.0, **EXACT}


@pytest.fixture
def timing() -> Timing:
    return replace(SHORT_RESTS, spool=SpoolTiming(scan=0.1, retry=Backoff(0.1, 0.1)))


@pytest.mark.parametrize("scope", ["doomed", None], ids=["conversation", "user"])
@pytest.mark.parametrize("under_way", [False, True], ids=["open", "uploading"])
async def test_failover_to_a_replica_that_missed_the_tombstone(
    paired: Harness, pair: Pair, scope: str | None, under_way: bool
) -> None:
    """Of which `rm` has said that it is not complete."""
    doomed, kept, harness = Talk("doomed"), Talk("kept", uid="another"), paired
    gate = harness.server.hold(name="chunks/*")
    async with harness.worker(**SHORT) as running:
        await harness.say(doomed, 3 if under_way else 2)
        await harness.say(kept, 1)
        await eventually(lambda: running.count("chunks_total") == len(doomed.chunks) + 2)
        if under_way:
            await gate.reached()
        await pair.lag()
        deletion = await remove(harness, scope)
        assert (deletion.replicas, deletion.unconfirmed_replicas, deletion.complete) == (1, 1, False)
        await pair.fail_over(harness)
        gate.open()
        await eventually(lambda: running.count("recoveries_total") >= 1)
        await harness.push(doomed.end(), kept.end())
        await eventually(lambda: running.count("batches_total", trigger="end") == 1)
    await harness.drain(**SHORT)
    assert {blob.name.split("/")[2] for blob in harness.blobs()} == {"kept"}
    assert_plays(kept, harness.blobs())
    assert {event["conversation_id"] for event in await harness.events()} == {"kept"}
    assert running.count("lost_entries_total") == 0


@pytest.mark.parametrize("restarted", [False, True])
async def test_redis_is_emptied_after_a_deletion_with_the_blob_in_the_spool(
    own_redis: Callable[..., RedisServer], harness_at: HarnessMaker, tmp_path: Path, restarted: bool
) -> None:
    server, doomed, kept = own_redis(), Talk("doomed"), Talk("kept", uid="another")
    harness, directory = await harness_at(server, server), tmp_path / "spool"
    spooling: dict[str, Any] = {"spool_dir": directory, "spool_mode": "always", "spool_after": 0.2, **SHORT}
    away = harness.server.fail("insert.*", times=10**9, name="chunks/*")
    soon = harness.timing
    harness.timing = replace(
        soon, spool=replace(soon.spool, retry=Backoff(60.0, 60.0))
    )  # the next worker finds both blobs
    async with harness.worker(**spooling) as running:
        await harness.say(doomed, 3)
        await harness.say(kept, 3)
        await eventually(lambda: running.count("batches_total", trigger="audio") == 2)
        assert len(states(directory)) == 2
        assert (await remove(harness, "doomed")).complete
        if not restarted:
            await harness.redis.flushall()
    if restarted:
        server.kill()
        await harness.restarted(server)
    harness.server.script.faults.remove(away)
    harness.timing = soon
    async with harness.worker(**spooling) as running:
        await eventually(lambda: states(directory) == [])
        assert running.count("spool_uploads_total", outcome="deleted") == 1
    assert {blob.name.split("/")[2] for blob in harness.blobs()} == {"kept"}
    assert_plays(kept, harness.blobs())


async def test_audio_of_after_a_deletion_that_a_failover_forgot_is_new(paired: Harness, pair: Pair) -> None:
    doomed, again, harness = Talk("c"), Talk("c", start=1_700_000_500.0), paired
    async with harness.worker(**SHORT) as running:
        await harness.say(doomed, 1)
        await eventually(lambda: running.count("chunks_total") == 2)
        await pair.lag()
        await remove(harness, "c")
        await pair.fail_over(harness)
        await eventually(lambda: running.count("deleted_entries_total") == 2)
        await harness.say(again, 3)
        await eventually(lambda: running.count("batches_total", trigger="audio") == 1)
    await harness.drain(**SHORT)
    assert_plays(again, harness.blobs())
