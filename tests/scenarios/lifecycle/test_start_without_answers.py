"""A worker starts while Redis, the store or a volume does not answer: it reads what it can, and a signal ends it."""

from __future__ import annotations

import asyncio
import fcntl
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from structlog.testing import capture_logs

from tests.support.harness import EXACT, Harness, eventually
from tests.support.oracle import Talk, assert_stored_once
from tests.support.process import Process, environment
from tests.support.proxy import Proxy
from tests.support.timing import SHORT_RESTS
from worker import app
from worker.errors import SettingsError
from worker.runtime.timing import ProcessTiming, Timing
from worker.settings import Settings

PROMPT_SECONDS = 5.0
"""From the signal to the end of the process, on a slow machine; SHUTDOWN_GRACE is 25."""

FRESH: dict[str, Any] = {"http_port": 0, "http_host": "127.0.0.1", **EXACT}

READS_AT_ONCE = replace(SHORT_RESTS, process=ProcessTiming(start_retry=0.05, patience=0.0))


@pytest.fixture
def timing() -> Timing:
    return SHORT_RESTS


@asynccontextmanager
async def silent_redis(harness: Harness, proxy: Proxy, _: Path) -> AsyncIterator[Settings]:
    proxy.stall()
    yield harness.settings(redis_url=proxy.url)
    proxy.resume()


@asynccontextmanager
async def no_redis(harness: Harness, proxy: Proxy, _: Path) -> AsyncIterator[Settings]:
    await proxy.refuse()
    yield harness.settings(redis_url=proxy.url)


@asynccontextmanager
async def silent_bucket(harness: Harness, *_: object) -> AsyncIterator[Settings]:
    gate = harness.server.hold("list", stage="request")
    yield harness.settings()
    gate.open()


@asynccontextmanager
async def silent_volume_of_the_store(harness: Harness, _: Proxy, directory: Path) -> AsyncIterator[Settings]:
    """A worker that opens this store waits in a thread, as for a volume that is gone."""
    (directory / ".metadata").mkdir(parents=True)
    with (directory / ".metadata" / ".lock").open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield harness.settings(store_url=directory.as_uri())


@pytest.mark.parametrize(
    ("silent", "event"),
    [
        (silent_redis, "worker.started"),
        (no_redis, "redis.unreachable"),
        (silent_bucket, "redis.connected"),
        (silent_bucket, "store.awaited"),
        (silent_volume_of_the_store, "redis.connected"),
        (silent_volume_of_the_store, "store.awaited"),
    ],
)
async def test_signal_ends_the_start_at_any_moment(
    harness: Harness, proxy: Proxy, tmp_path: Path, silent: Callable[..., Any], event: str
) -> None:
    async with (
        silent(harness, proxy, tmp_path / "silent") as settings,
        Process(environment(settings), "run") as process,
    ):
        await process.said(event)
        began = asyncio.get_running_loop().time()
        process.signal(signal.SIGTERM)
        assert await process.ended() == 0
        assert asyncio.get_running_loop().time() - began < PROMPT_SECONDS
    assert process.events("worker.stopped")
    assert process.complaints == []


async def test_signal_before_the_worker_is_imported_ends_it_with_0(harness: Harness) -> None:
    """The first process of a container gets no signal for which it has no handler."""
    async with Process(environment(harness.settings()) | {"PYTHONVERBOSE": "1"}, "run") as process:
        await process.said("worker/app.py")
        process.signal(signal.SIGTERM)
        assert await process.ended() == 0
    assert not process.events("worker.started")


async def readiness(process: Process) -> str:
    (started,) = process.events("worker.started")
    async with (
        aiohttp.ClientSession() as http,
        http.get(f"http://127.0.0.1:{started['http_port']}/readyz") as reply,
    ):
        return await reply.text()


async def test_worker_reads_and_seals_while_the_store_is_silent(harness: Harness) -> None:
    talk = Talk("c")
    gate = harness.server.hold("*", stage="request")
    async with Process(environment(harness.settings(**EXACT)), "run") as process:
        await process.said("store.awaited")
        await eventually(harness.taken_over)
        await harness.say(talk, 3)
        await eventually(harness.seals)
        assert await readiness(process) == "the store has not answered yet\n"
        assert harness.blobs() == []
        gate.open()
        await eventually(harness.blobs)
        await eventually(lambda: answered(process))
        process.signal(signal.SIGTERM)
        assert await process.ended() == 0
    await harness.assert_empty()
    assert_stored_once(talk, harness.blobs())


async def answered(process: Process) -> bool:
    return await readiness(process) == "ok\n"


async def test_store_that_turns_out_to_be_missing_ends_the_worker_and_leaves_the_audio(harness: Harness) -> None:
    await harness.say(Talk("c"), 4)
    harness.server.fail("list", status=503, times=2)
    with capture_logs() as events, pytest.raises(SettingsError, match=r"STORE_URL: .*no-such-bucket"):
        await app.run(harness.settings(**FRESH, store_url="gs://no-such-bucket"), timing=READS_AT_ONCE)
    assert {event["event"] for event in events if event["log_level"] == "error"} == set()
    assert await harness.entries() == 8
    assert await harness.redis.hgetall(harness.keys.workers) == {}
    assert [key async for key in harness.redis.scan_iter(f"{harness.keys.prefix}*:lease")] == []


async def test_nothing_is_written_to_another_directory_while_it_is_not_checked(
    harness: Harness, tmp_path: Path
) -> None:
    directory = tmp_path / "recordings"
    directory.mkdir()
    await app.run(harness.settings(**FRESH, store_url=directory.as_uri()), drain=True, timing=harness.timing)
    directory.rename(tmp_path / "volume")
    directory.mkdir()
    await harness.say(Talk("c"), 7)
    with pytest.raises(SettingsError, match=r"STORE_URL .* may not be mounted"):
        await app.run(harness.settings(**FRESH, store_url=directory.as_uri()), timing=READS_AT_ONCE)
    assert not (directory / "chunks").exists()
    assert await harness.entries() == 14
