"""A worker, its Redis and its store."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from functools import partial

import pytest
import redis.asyncio
import stamina

from tests.support.failover import Pair
from tests.support.gcs.server import GcsServer
from tests.support.harness import Rig, RigMaker
from tests.support.proxy import Proxy
from tests.support.redis_server import RedisServer
from worker.runtime.timing import Timing
from worker.settings import Settings


@pytest.fixture
async def rig_at(settings: Callable[..., Settings], gcs_server: GcsServer, timing: Timing) -> AsyncIterator[RigMaker]:
    """Make a rig whose workers reach Redis, say, through a proxy, and which itself looks at the server directly."""
    async with AsyncExitStack() as stack:

        async def make(way: RedisServer | Proxy, server: RedisServer | Proxy) -> Rig:
            client = await stack.enter_async_context(redis.asyncio.Redis.from_url(server.url))
            return Rig(partial(settings, redis_url=way.url), client, gcs_server, timing)

        yield make


@pytest.fixture
def no_backoff() -> Iterator[None]:
    """Whatever is tried again is tried again at once."""
    with stamina.set_testing(True, attempts=1000):
        yield


@pytest.fixture
async def durable(own_redis: Callable[..., RedisServer], rig_at: RigMaker) -> tuple[Rig, RedisServer]:
    """On a server that may be killed, and then knows all that it has acknowledged."""
    server = own_redis(appendonly="yes", appendfsync="always")
    return await rig_at(server, server), server


@pytest.fixture
async def pair(own_redis: Callable[..., RedisServer]) -> AsyncIterator[Pair]:
    """A primary and its replica behind one name."""
    async with Pair(own_redis) as running:
        yield running


@pytest.fixture
async def paired(pair: Pair, rig_at: RigMaker) -> Rig:
    """Workers and pushers on the pair."""
    return await rig_at(pair.way, pair.way)
