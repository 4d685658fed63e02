"""SHUTDOWN_GRACE runs from the signal: a worker that is busy when it comes still releases its partitions in time."""

from __future__ import annotations

import asyncio
import signal

import pytest

from tests.support.harness import EXACT, Harness, HarnessMaker
from tests.support.oracle import Talk
from tests.support.process import Process, environment
from tests.support.proxy import Proxy
from tests.support.redis_server import RedisServer

FOR_EVER = 10**9
GRACE = 8.0
BUSY = 3.0
"""Seconds of the grace time: more than the 2 that are reserved for the release, less than what closes a connection."""


@pytest.fixture
async def proxied(proxy: Proxy, redis_server: RedisServer, harness_at: HarnessMaker) -> Harness:
    """The workers' way to Redis is the proxy."""
    return await harness_at(proxy, redis_server)


async def test_a_turn_that_waits_for_redis_takes_its_time_from_the_uploads(proxied: Harness, proxy: Proxy) -> None:
    proxied.server.fail("insert.*", status=503, times=FOR_EVER)
    async with Process(environment(proxied.settings(**EXACT, shutdown_grace=GRACE)), "run") as process:
        await proxied.say(Talk("c"), 3)
        await process.said("store.refused")
        await proxy.stall_at(b"XREAD").wait()
        process.signal(signal.SIGTERM)
        asyncio.get_running_loop().call_later(BUSY, proxy.resume)

        assert await process.ended(60) == 0
        assert process.events("partitions.left")
        assert not process.events("worker.ended_by_force")
