"""A Redis that refuses INFO and CONFIG: nothing tells which server answers, and all is stored once even so."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path

import pytest
import redis.asyncio
from structlog.testing import capture_logs

from tests.support.command import command
from tests.support.gcs.server import GcsServer
from tests.support.harness import EXACT, HANDOFF, Harness, eventually, owned_before, remove
from tests.support.hidden_redis import as_plain_user, users_file
from tests.support.oracle import Talk, assert_stored_once, blobs_of
from tests.support.redis_server import RedisServer
from tests.support.timing import SHORT_RESTS
from worker.settings import Settings


@pytest.fixture
def server(own_redis: Callable[..., RedisServer], tmp_path: Path) -> RedisServer:
    return own_redis(appendonly="yes", appendfsync="no", aclfile=users_file(tmp_path))


@pytest.fixture
async def harness(
    server: RedisServer, settings: Callable[..., Settings], gcs_server: GcsServer
) -> AsyncIterator[Harness]:
    make = partial(settings, redis_url=as_plain_user(server))
    async with redis.asyncio.Redis.from_url(server.url) as client:
        yield await owned_before(Harness(make, client, gcs_server, SHORT_RESTS))


async def test_workers_take_over_from_each_other_and_store_all_once(harness: Harness) -> None:
    cut, whole, deleted = Talk("cut"), Talk("whole"), Talk("deleted")
    async with harness.worker(**HANDOFF, worker_id="anna") as anna:
        await harness.say(cut, 1)
        await eventually(lambda: anna.count("chunks_total") == 2)
    with capture_logs() as logged:
        async with harness.worker(**EXACT, worker_id="bob") as bob, harness.worker(**EXACT, worker_id="eve") as eve:
            await eventually(lambda: bob.count("partitions_owned") == eve.count("partitions_owned") == 1)
            await harness.say(deleted, 1)
            await remove(harness, "deleted")
            chunks = [whole.say(0.5) for _ in range(12)]
            await harness.push(*chunks, *chunks[:2], *chunks[-2:], cut.say(1), cut.end(), deleted.end())
            await eventually(harness.is_empty)
    assert {entry["event"] for entry in logged} & {"redis.changed", "redis.data_lost"} == set()
    assert len([entry for entry in logged if entry["event"] == "redis.hidden"]) == 2  # once by each worker
    for talk in (cut, whole):
        assert_stored_once(talk, harness.blobs())
    assert blobs_of(deleted, harness.blobs()) == []


async def test_an_owner_that_loses_no_connection_looks_nothing_up(harness: Harness) -> None:
    talk = Talk("c")
    async with harness.worker(**EXACT) as running:
        for number in range(1, 4):
            await harness.say(talk, 3)
            await eventually(partial(_has_stored, running.count, number))
            if number == 1:  # it may have found the first entries at its take-over
                before = running.count("recoveries_total")
        await harness.push(talk.end())
        await eventually(harness.is_empty)
        assert running.count("recoveries_total") == before <= 1
        assert running.count("rewinds_total", cause="redis_changed") == 0
    assert_stored_once(talk, harness.blobs())


def _has_stored(count: Callable[..., float], batches: int) -> bool:
    return count("batches_total", trigger="audio") >= batches


def _has_read_more(count: Callable[..., float], before: float) -> bool:
    return count("chunks_total") > before + 4


async def test_a_server_that_is_killed_and_comes_back_doubles_and_loses_nothing(
    harness: Harness, server: RedisServer
) -> None:
    talks = [Talk(f"c{number}") for number in range(4)]
    async with harness.worker(**EXACT) as running:
        for _ in range(2):
            before = running.count("chunks_total")
            for _ in range(8):
                await harness.push(*(talk.say(0.5) for talk in talks))
            await eventually(partial(_has_read_more, running.count, before))
            server.kill()
            await harness.restarted(server)
        await eventually(lambda: running.count("rewinds_total", cause="redis_changed") >= 1)
        await eventually(lambda: running.count("batches_total", trigger="audio") >= 2 * len(talks))
    await harness.drain(**EXACT)
    for talk in talks:
        assert_stored_once(talk, harness.blobs())


async def test_status_says_what_is_not_known(harness: Harness) -> None:
    result = await asyncio.to_thread(command, harness.settings(), "status")
    assert result.exit_code == 0
    assert "Redis does not tell its memory" in result.output
    assert "memory unknown, policy unknown, appendonly unknown" in result.output
    checked = await asyncio.to_thread(command, harness.settings(), "status", "--check")
    assert checked.exit_code == 3
