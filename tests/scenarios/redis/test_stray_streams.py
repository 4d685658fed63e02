"""A pusher writes into streams that no worker reads: it shows at once, and one command stores it all, once."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable

import pytest
from structlog.testing import capture_logs

from tests.support.command import command
from tests.support.harness import EXACT, Harness, HarnessMaker, eventually
from tests.support.oracle import Talk, assert_stored_once
from tests.support.redis_server import RedisServer
from worker.runtime.timing import GaugeTiming, ReadingTiming, Timing


@pytest.fixture
def timing() -> Timing:
    return Timing(
        reading=ReadingTiming(poll=0.05, rest=0.1),
        gauges=GaugeTiming(observe=0.05, strays=0.1, stray_step=0.0),
    )


@pytest.fixture
async def here(own_redis: Callable[..., RedisServer], harness_at: HarnessMaker) -> Harness:
    server = own_redis()
    return await harness_at(server, server)


async def say_into(harness: Harness, key: str, talk: Talk, chunks: int) -> None:
    for _ in range(chunks):
        await harness.redis.xadd(key, dict(talk.say(0.5).fields()))


async def test_stray_audio_is_counted_told_once_and_stored_after_the_move(here: Harness) -> None:
    prefix = here.keys.prefix
    stray = {f"{prefix}:1": Talk("no braces"), f"{prefix}:{{2}}": Talk("too many"), "pcm-old:{0}": Talk("old prefix")}
    settings = here.settings(**EXACT)
    with capture_logs() as logs:
        async with here.worker(**EXACT, worker_id="anna") as anna, here.worker(**EXACT, worker_id="bob") as bob:
            await eventually(lambda: anna.count("workers") == bob.count("workers") == 2)  # then only one searches
            for key, talk in stray.items():
                await say_into(here, key, talk, 4)
            await eventually(lambda: anna.count("stray_entries") == 12)
            assert bob.count("stray_entries") == 0

            shown = await asyncio.to_thread(command, settings, "status", "--check")
            assert shown.exit_code == 4
            for key in stray:
                assert f"danger: no worker reads the stream {key} (4 entries)" in shown.stdout

            moved = await asyncio.to_thread(command, settings, "streams", "move", "--all", "--json")
            assert moved.exit_code == 0
            assert {one["stream"]: one["moved"] for one in json.loads(moved.stdout)["streams"]} == dict.fromkeys(
                stray, 4
            )
            await eventually(lambda: anna.count("stray_entries") == 0)
            await eventually(lambda: anna.count("chunks_total") + bob.count("chunks_total") == 12)
    for talk in stray.values():
        assert_stored_once(talk, here.blobs())
    told = sorted(line["stream"] for line in logs if line["event"] == "streams.stray")
    assert told == sorted(stray)


async def test_the_next_worker_searches_when_the_first_one_leaves(here: Harness) -> None:
    await say_into(here, f"{here.keys.prefix}:1", Talk("c"), 2)
    async with here.worker(**EXACT, worker_id="bob") as bob:
        async with here.worker(**EXACT, worker_id="anna") as anna:
            await eventually(lambda: anna.count("stray_entries") == 2)
            await eventually(lambda: bob.count("stray_entries") == 0)
        await eventually(lambda: bob.count("stray_entries") == 2)


async def test_an_entry_that_is_pushed_again_after_its_move_is_a_duplicate(here: Harness) -> None:
    talk, stray = Talk("c"), f"{here.keys.prefix}:1"
    chunks = [talk.say(0.5) for _ in range(6)]
    for chunk in chunks:
        await here.redis.xadd(stray, dict(chunk.fields()))
    settings = here.settings(**EXACT)
    assert (await asyncio.to_thread(command, settings, "streams", "move", stray)).exit_code == 0
    await here.push(*chunks)  # the pusher was mended, and sends all that it has again
    running = await here.drain(**EXACT)
    assert running.count("duplicates_total") == 6
    assert_stored_once(talk, here.blobs())
