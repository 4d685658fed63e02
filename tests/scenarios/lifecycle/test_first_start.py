"""Redis holds an older copy of its data, from before a worker ever ran: only the bucket knows what became of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from tests.support.harness import EXACT, Rig, remove
from tests.support.oracle import Talk, assert_plays
from tests.support.timing import SHORT_RESTS
from worker import app
from worker.runtime.timing import Timing

FRESH: dict[str, Any] = {"http_port": 0, "http_host": "127.0.0.1", **EXACT}


@pytest.fixture
def timing() -> Timing:
    return SHORT_RESTS


async def copied(rig: Rig) -> Mapping[bytes, bytes]:
    return {key: await rig.redis.dump(key) async for key in rig.redis.scan_iter(f"{rig.keys.prefix}*")}


async def put_back(rig: Rig, copy: Mapping[bytes, bytes]) -> None:
    await rig.redis.delete(*[key async for key in rig.redis.scan_iter(f"{rig.keys.prefix}*")])
    for key, value in copy.items():
        await rig.redis.restore(key, 0, value)


async def start(rig: Rig, **changes: object) -> None:
    await app.run(rig.settings(**FRESH, **changes), drain=True, timing=rig.timing)
    await rig.assert_empty()


async def test_deleted_audio_stays_away(rig: Rig) -> None:
    doomed, kept = Talk("doomed"), Talk("kept")
    await rig.say(doomed, 4)
    await rig.say(kept, 4)
    copy = await copied(rig)
    await start(rig)
    assert (await remove(rig, "doomed")).complete
    await put_back(rig, copy)
    await start(rig)
    assert {blob.name.split("/")[2] for blob in rig.blobs()} == {"kept"}
    assert_plays(kept, rig.blobs())


@pytest.mark.parametrize("seconds", [3.0, 2.0, 1.0, 60.0])
async def test_stored_audio_is_not_stored_again_whatever_cuts_it_now(rig: Rig, seconds: float) -> None:
    talk = Talk("c")
    await rig.say(talk, 7)
    copy = await copied(rig)
    await start(rig)
    await put_back(rig, copy)
    await rig.say(talk, 2)
    await start(rig, batch_max_seconds=seconds)
    assert_plays(talk, rig.blobs())


async def test_what_was_pushed_after_a_deletion_is_new(rig: Rig) -> None:
    doomed, again = Talk("c"), Talk("c", start=1_700_000_500.0)
    await rig.say(doomed, 4)
    copy = await copied(rig)
    await start(rig)
    await remove(rig, "c")
    await put_back(rig, copy)
    await rig.say(again, 4)
    await start(rig)
    assert_plays(again, rig.blobs())
