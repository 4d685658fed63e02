"""Another program writes other types under the workers' keys: each is told, and costs only its own partition."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest
from structlog.testing import capture_logs

from codec.entry import partition_of
from tests.support.command import command
from tests.support.harness import EXACT, Harness, HarnessMaker, eventually
from tests.support.oracle import Talk, assert_stored_once
from tests.support.redis_server import RedisServer
from worker.runtime.timing import Backoff, DeliveryTiming, GaugeTiming, ReadingTiming, Timing
from worker.settings import Settings

CONVERSATION = {number: next(f"c{n}" for n in range(99) if partition_of(f"c{n}", 2) == number) for number in (0, 1)}
PARTS = ("lease", "epoch", "ready", "done", "dead", "trials", "deleted", "seen", "stream")


@pytest.fixture
def timing() -> Timing:
    return Timing(
        reading=ReadingTiming(poll=0.05, rest=0.1),
        delivery=DeliveryTiming(done_retry=Backoff(0.05, 0.1)),
        gauges=GaugeTiming(observe=0.1, account=0.1, strays=0.1, stray_step=0.0),
    )


@pytest.fixture
async def here(own_redis: Callable[..., RedisServer], harness_at: HarnessMaker) -> Harness:
    server = own_redis()
    return await harness_at(server, server)


def broken_key(harness: Harness, part: str) -> str:
    if part == "seen":
        return harness.keys.seen(0, f"user/{CONVERSATION[0]}")
    key: str = getattr(harness.keys, part)(0)
    return key


async def spoil(harness: Harness, key: str, part: str) -> None:
    """Put another type there: audio, as a mistaken pusher would, or text where a stream belongs."""
    await harness.redis.delete(key)
    if part in ("stream", "done", "dead"):
        await harness.redis.set(key, "text")
    else:
        await harness.redis.xadd(key, {"event": "of another program"})


@pytest.mark.parametrize("part", PARTS)
async def test_a_broken_key_costs_only_its_own_partition(here: Harness, part: str) -> None:
    key = broken_key(here, part)
    talks = [Talk(CONVERSATION[0]), Talk(CONVERSATION[1])]
    await spoil(here, key, part)
    if part != "stream":
        await here.say(talks[0], 3)
    async with here.worker(**EXACT) as running:
        await here.say(talks[1], 3)
        await eventually(lambda: any(blob.name.startswith(talks[1].prefix) for blob in here.blobs()))
        await eventually(lambda: running.count("redis_memory_bytes") > 0)
        assert running.health.live() == []
        await here.redis.delete(key)
        if part == "stream":
            await here.say(talks[0], 3)
        await eventually(lambda: any(blob.name.startswith(talks[0].prefix) for blob in here.blobs()))
    for talk in talks:
        assert_stored_once(talk, here.blobs())
    await here.assert_empty()
    assert len(await here.events()) == 2


@pytest.mark.parametrize("part", ["stream", "lease", "epoch", "ready", "done", "deleted"])
async def test_a_key_that_breaks_while_a_worker_runs_does_no_harm(here: Harness, part: str) -> None:
    key = broken_key(here, part)
    talks = [Talk(CONVERSATION[0]), Talk(CONVERSATION[1])]
    async with here.worker(**EXACT) as running:
        await eventually(lambda: running.count("partitions_owned") == 2)
        await here.redis.delete(key)
        await spoil(here, key, part)
        if part != "stream":
            await here.say(talks[0], 3)
        await here.say(talks[1], 3)
        await eventually(lambda: any(blob.name.startswith(talks[1].prefix) for blob in here.blobs()))
        await eventually(lambda: running.count("redis_errors_total", cause="refused") > 2)
        assert len(await here.events_of(1)) == 1
        await here.redis.delete(key)
        if part == "stream":
            await here.say(talks[0], 3)
        await eventually(lambda: any(blob.name.startswith(talks[0].prefix) for blob in here.blobs()))
        await eventually(here.is_empty)
    for talk in talks:
        assert_stored_once(talk, here.blobs())
    assert len([event for event in await here.events() if event["conversation_id"] == CONVERSATION[0]]) == 1


async def test_a_broken_list_of_workers_stops_nothing(here: Harness) -> None:
    await here.redis.xadd(here.keys.workers, {"event": "of another program"})
    talk = Talk("c")
    with capture_logs() as logs:
        async with here.worker(**EXACT, worker_id="anna") as anna, here.worker(**EXACT, worker_id="bob") as bob:
            await eventually(lambda: anna.count("partitions_owned") + bob.count("partitions_owned") == 2)
            await here.say(talk, 3)
            await eventually(lambda: any(blob.name.startswith(talk.prefix) for blob in here.blobs()))
            assert anna.health.ready() == []
            assert "is a stream, where a hash belongs" in "; ".join(anna.health.notices())
            await here.redis.delete(here.keys.workers)
            await eventually(lambda: (anna.count("workers"), bob.count("workers")) == (2, 2))
            await eventually(lambda: not anna.health.notices())
    assert_stored_once(talk, here.blobs())
    unreadable = [line for line in logs if line["event"] == "workers.unreadable"]
    assert len(unreadable) == 2  # once per worker


@pytest.mark.parametrize("part", [*PARTS, "config", "workers"])
def test_every_command_says_it_and_shows_the_rest(
    settings: Callable[..., Settings], own_redis: Callable[..., RedisServer], part: str
) -> None:
    server = own_redis()
    made = settings(redis_url=server.url, stream_prefix="pcm", partitions=2)
    where = f"pcm:{part}" if part in ("config", "workers") else "pcm:{0}" + ("" if part == "stream" else f":{part}")
    with server.client() as raw:
        raw.xadd("pcm:{1}", {"uid": "u"})
        raw.xadd("pcm:{1}:dead", {"uid": "u", "reason": "r", "entry": "1-1", "at": "1"})
        if part in ("stream", "done", "dead"):
            raw.set(where, "text")
        elif part == "seen":
            raw.xadd("pcm:{0}:seen:u/c", {"uid": "u"})
        else:
            raw.xadd(where, {"event": "of another program"})

    shown = command(made, "status", "--json")
    facts: dict[str, Any] = json.loads(shown.stdout)
    letters = command(made, "dead-letters", "ls")
    audit = command(made, "audit", "--uid", "u", "--conversation", CONVERSATION[0])

    assert shown.exit_code == 0
    assert 1 in [view["number"] for view in facts["partitions"]]
    told = " ".join(concern["text"] for concern in facts["concerns"])
    assert part == "seen" or f"{where} is a" in told
    assert letters.exit_code == {"dead": 3, "config": 1}.get(part, 0)
    assert part == "config" or "dead letters: 1" in letters.stdout
    assert audit.exit_code == 2  # nothing is stored, so that it can't tell
    for result in (shown, letters, audit):
        assert "Traceback" not in result.output


async def test_rm_at_a_broken_partition_says_that_nothing_is_deleted_and_deletes_nothing(here: Harness) -> None:
    talk = Talk(CONVERSATION[1])
    await here.say(talk, 3)
    await here.drain()
    stored = here.blobs()
    await here.redis.delete(here.keys.deleted(0))
    await here.redis.set(here.keys.deleted(0), "text")

    refused = await asyncio.to_thread(command, here.settings(), "rm", "--uid", talk.uid, "--yes")
    left = here.blobs()
    await here.redis.delete(here.keys.deleted(0))
    done = await asyncio.to_thread(command, here.settings(), "rm", "--uid", talk.uid, "--yes")

    assert refused.exit_code == 1
    assert "nothing is deleted in the store" in str(refused.exception)
    assert f"{here.keys.deleted(0)} is a string, where a hash belongs" in str(refused.exception)
    assert left == stored != []
    assert (done.exit_code, here.blobs()) == (0, [])


async def test_a_key_that_stays_broken_is_logged_once(here: Harness) -> None:
    await here.redis.set(here.keys.stream(0), "text")
    with capture_logs() as logs:
        async with here.worker(**EXACT) as running:
            await eventually(lambda: running.count("redis_errors_total", cause="refused") > 3)
    refused = [line["error"] for line in logs if line["event"] == "partition.refused"]
    assert len(refused) == 1
    assert f"{here.keys.stream(0)} is a string, where a stream belongs" in refused[0]
