"""Deleted audio stays away though Redis has lost the deletion: the bucket remembers it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.support.failover import Pair
from tests.support.harness import EXACT, Rig, RigMaker, eventually, remove
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
    paired: Rig, pair: Pair, scope: str | None, under_way: bool
) -> None:
    """Of which `rm` has said that it is not complete."""
    doomed, kept, rig = Talk("doomed"), Talk("kept", uid="another"), paired
    gate = rig.server.hold(name="chunks/*")
    async with rig.worker(**SHORT) as running:
        await rig.say(doomed, 3 if under_way else 2)
        await rig.say(kept, 1)
        await eventually(lambda: running.count("chunks_total") == len(doomed.chunks) + 2)
        if under_way:
            await gate.reached()
        await pair.lag()
        deletion = await remove(rig, scope)
        assert (deletion.replicas, deletion.unconfirmed_replicas, deletion.complete) == (1, 1, False)
        await pair.fail_over(rig)
        gate.open()
        await eventually(lambda: running.count("recoveries_total") >= 1)
        await rig.push(doomed.end(), kept.end())
        await eventually(lambda: running.count("batches_total", trigger="end") == 1)
    await rig.drain(**SHORT)
    assert {blob.name.split("/")[2] for blob in rig.blobs()} == {"kept"}
    assert_plays(kept, rig.blobs())
    assert {event["conversation_id"] for event in await rig.events()} == {"kept"}
    assert running.count("lost_entries_total") == 0


@pytest.mark.parametrize("restarted", [False, True])
async def test_redis_is_emptied_after_a_deletion_with_the_blob_in_the_spool(
    own_redis: Callable[..., RedisServer], rig_at: RigMaker, tmp_path: Path, restarted: bool
) -> None:
    server, doomed, kept = own_redis(), Talk("doomed"), Talk("kept", uid="another")
    rig, directory = await rig_at(server, server), tmp_path / "spool"
    spooling: dict[str, Any] = {"spool_dir": directory, "spool_mode": "always", "spool_after": 0.2, **SHORT}
    away = rig.server.fail("insert.*", times=10**9, name="chunks/*")
    soon = rig.timing
    rig.timing = replace(soon, spool=replace(soon.spool, retry=Backoff(60.0, 60.0)))  # the next worker finds both blobs
    async with rig.worker(**spooling) as running:
        await rig.say(doomed, 3)
        await rig.say(kept, 3)
        await eventually(lambda: running.count("batches_total", trigger="audio") == 2)
        assert len(states(directory)) == 2
        assert (await remove(rig, "doomed")).complete
        if not restarted:
            await rig.redis.flushall()
    if restarted:
        server.kill()
        await rig.restarted(server)
    rig.server.script.faults.remove(away)
    rig.timing = soon
    async with rig.worker(**spooling) as running:
        await eventually(lambda: states(directory) == [])
        assert running.count("spool_uploads_total", outcome="deleted") == 1
    assert {blob.name.split("/")[2] for blob in rig.blobs()} == {"kept"}
    assert_plays(kept, rig.blobs())


async def test_audio_of_after_a_deletion_that_a_failover_forgot_is_new(paired: Rig, pair: Pair) -> None:
    doomed, again, rig = Talk("c"), Talk("c", start=1_700_000_500.0), paired
    async with rig.worker(**SHORT) as running:
        await rig.say(doomed, 1)
        await eventually(lambda: running.count("chunks_total") == 2)
        await pair.lag()
        await remove(rig, "c")
        await pair.fail_over(rig)
        await eventually(lambda: running.count("deleted_entries_total") == 2)
        await rig.say(again, 3)
        await eventually(lambda: running.count("batches_total", trigger="audio") == 1)
    await rig.drain(**SHORT)
    assert_plays(again, rig.blobs())
