"""Redis holds an older copy of its data, from before a worker ever ran: only the bucket knows what became of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest
import redis.asyncio

from tests.support.gcs.server import GcsServer
from tests.support.harness import EXACT, Harness, remove
from tests.support.oracle import Talk, assert_plays
from tests.support.timing import SHORT_RESTS
from worker import app
from worker.runtime.timing import ProcessTiming, Timing
from worker.settings import Settings

FRESH: dict[str, Any] = {"http_port": 0, "http_host": "127.0.0.1", **EXACT}


@pytest.fixture
def timing() -> Timing:
    return SHORT_RESTS


@pytest.fixture
def harness(
    settings: Callable[..., Settings], redis_client: redis.asyncio.Redis, gcs_server: GcsServer, timing: Timing
) -> Harness:
    """Without any former worker."""
    return Harness(settings, redis_client, gcs_server, timing)


async def copied(harness: Harness) -> Mapping[bytes, bytes]:
    return {key: await harness.redis.dump(key) async for key in harness.redis.scan_iter(f"{harness.keys.prefix}*")}


async def put_back(harness: Harness, copy: Mapping[bytes, bytes]) -> None:
    await harness.redis.delete(*[key async for key in harness.redis.scan_iter(f"{harness.keys.prefix}*")])
    for key, value in copy.items():
        await harness.redis.restore(key, 0, value)


async def start(harness: Harness, **changes: object) -> None:
    await app.run(harness.settings(**FRESH, **changes), drain=True, timing=harness.timing)
    await harness.assert_empty()


async def test_deleted_audio_stays_away(harness: Harness) -> None:
    doomed, kept = Talk("doomed"), Talk("kept")
    await harness.say(doomed, 4)
    await harness.say(kept, 4)
    copy = await copied(harness)
    await start(harness)
    assert (await remove(harness, "doomed")).complete
    await put_back(harness, copy)
    await start(harness)
    assert {blob.name.split("/")[2] for blob in harness.blobs()} == {"kept"}
    assert_plays(kept, harness.blobs())


@pytest.mark.parametrize("seconds", [3.0, 2.0, 1.0, 60.0])
async def test_stored_audio_is_not_stored_again_whatever_cuts_it_now(harness: Harness, seconds: float) -> None:
    talk = Talk("c")
    await harness.say(talk, 7)
    copy = await copied(harness)
    await start(harness)
    await put_back(harness, copy)
    await harness.say(talk, 2)
    await start(harness, batch_max_seconds=seconds)
    assert_plays(talk, harness.blobs())


async def test_what_was_pushed_after_a_deletion_is_new(harness: Harness) -> None:
    doomed, again = Talk("c"), Talk("c", start=1_700_000_500.0)
    await harness.say(doomed, 4)
    copy = await copied(harness)
    await start(harness)
    await remove(harness, "c")
    await put_back(harness, copy)
    await harness.say(again, 4)
    await start(harness)
    assert_plays(again, harness.blobs())


@pytest.mark.parametrize("refusals", [0, 1, 3])
@pytest.mark.parametrize("patience", [0.0, 3.0])
async def test_stored_audio_that_an_old_copy_of_redis_has_is_not_stored_again(
    harness: Harness, patience: float, refusals: int
) -> None:
    """The store is away when the first worker starts on the copy; only the store knows the past of the streams."""
    harness.timing = replace(SHORT_RESTS, process=ProcessTiming(patience=patience))
    old, new = Talk("old"), Talk("new")
    await harness.say(old, 7)
    copy = await copied(harness)
    await start(harness)
    await put_back(harness, copy)
    await harness.say(old, 2)
    await harness.say(new, 4)
    harness.server.fail("list", status=503, times=refusals)
    await start(harness, batch_max_seconds=2.0)
    for talk in (old, new):
        assert_plays(talk, harness.blobs())
