"""Done steps that Redis forgot, with a spool: what it or the store holds is neither spooled nor stored again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import redis.asyncio

from tests.support.failover import Pair
from tests.support.gcs.server import GcsServer
from tests.support.harness import EXACT, Harness, Running, eventually, forgotten_seal
from tests.support.oracle import Talk, assert_plays
from tests.support.redis_server import RedisServer
from tests.support.spooled_blobs import states
from tests.support.timing import SHORT_RESTS
from worker.runtime.timing import Backoff, SpoolTiming, Timing
from worker.settings import Settings

FIVE: dict[str, Any] = {"batch_max_bytes": 5 * 16_000}
"""Setting with which a batch has five chunks of half a second, and not six."""


@pytest.fixture
def timing() -> Timing:
    return replace(
        SHORT_RESTS,
        store=replace(SHORT_RESTS.store, probe=0.1),
        spool=SpoolTiming(scan=0.1, retry=Backoff(0.1, 0.1), rest=0.05),
    )


def spooling(directory: Path, **changes: object) -> dict[str, Any]:
    return {
        "spool_dir": directory,
        "spool_mode": "always",
        "spool_after": 0.2,
        "lease_ttl": 1.0,
        **EXACT,
        **changes,
    }


async def all_read(running: Running, talk: Talk) -> None:
    await eventually(lambda: running.count("chunks_total") >= len(talk.chunks))


@pytest.mark.parametrize("mode", ["always", "outage"])
@pytest.mark.parametrize("uploaded", [True, False])
@pytest.mark.parametrize("known", [2, 5])
async def test_failover_to_a_replica_that_missed_the_done_step(
    paired: Harness, pair: Pair, directory: Path, mode: str, uploaded: bool, known: int
) -> None:
    """The blob is in the store, or still in the spool; the replica knows the first `known` of its six chunks."""
    talk, harness = Talk("c"), paired
    away = None if uploaded else harness.server.fail("insert.*", times=10**9)
    async with harness.worker(**spooling(directory, spool_mode=mode)) as running:
        await harness.say(talk, known / 2)
        await all_read(running, talk)
        await pair.lag()
        await harness.say(talk, 3 - known / 2)
        await eventually(lambda: running.count("batches_total", trigger="audio") == 1)
        if uploaded:
            await eventually(lambda: harness.blobs() and not states(directory))
        await pair.fail_over(harness)
        await harness.say(talk, 2)
        await eventually(lambda: running.count("recoveries_total") >= 1)
        if away is not None:
            harness.server.script.faults.remove(away)
        await all_read(running, talk)
    await harness.drain(**spooling(directory))
    assert states(directory) == []
    assert_plays(talk, harness.blobs())
    assert running.count("lost_entries_total") == running.count("duplicates_total") == 0


@pytest.mark.parametrize("uploaded", [True, False])
async def test_old_snapshot_with_batches_of_another_size(
    own_redis: Callable[..., RedisServer],
    settings: Callable[..., Settings],
    gcs_server: GcsServer,
    timing: Timing,
    directory: Path,
    uploaded: bool,
) -> None:
    """What is stored is a part of what would be the next batch."""
    server, talk = own_redis(), Talk("c")
    async with redis.asyncio.Redis.from_url(server.url) as client:
        harness = Harness(partial(settings, redis_url=server.url), client, gcs_server, timing)
        await harness.say(talk, 3.5)
        async with harness.worker(**spooling(directory, batch_max_seconds=60.0, shutdown="handoff")) as running:
            await all_read(running, talk)
        await harness.redis.save()
        away = None if uploaded else harness.server.fail("insert.*", times=10**9)
        async with harness.worker(**spooling(directory, shutdown="handoff"), **FIVE) as running:
            await eventually(lambda: running.count("batches_total", trigger="bytes") == 1)
            if uploaded:
                await eventually(lambda: harness.blobs() and not states(directory))
        server.kill()
        await harness.restarted(server)
        await harness.say(talk, 4)
        if away is not None:
            harness.server.script.faults.remove(away)
        await harness.drain(**spooling(directory))
        assert_plays(talk, harness.blobs())
    assert states(directory) == []


@pytest.mark.parametrize("mode", ["always", "outage"])
async def test_part_that_is_stored_though_nothing_tells_that_redis_has_lost_it(
    harness: Harness, directory: Path, mode: str
) -> None:
    """Spooling first never asks the store, and what is spooled as a whole would be stored beside the part."""
    talk = Talk("c")
    await forgotten_seal(harness, talk, 1.5)
    await harness.say(talk, 6)
    await harness.drain(**spooling(directory, spool_mode=mode))
    assert_plays(talk, harness.blobs())
    assert states(directory) == []
