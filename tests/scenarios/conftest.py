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
from tests.support.harness import Harness, HarnessMaker, owned_before
from tests.support.proxy import Proxy
from tests.support.redis_server import RedisServer
from worker.runtime.timing import Timing
from worker.settings import Settings


@pytest.fixture
async def harness_at(
    settings: Callable[..., Settings], gcs_server: GcsServer, timing: Timing
) -> AsyncIterator[HarnessMaker]:
    """Make a harness whose workers reach Redis, say, through a proxy, and which itself looks at the server directly."""
    async with AsyncExitStack() as stack:

        async def make(way: RedisServer | Proxy, server: RedisServer | Proxy) -> Harness:
            client = await stack.enter_async_context(redis.asyncio.Redis.from_url(server.url))
            return await owned_before(Harness(partial(settings, redis_url=way.url), client, gcs_server, timing))

        yield make


@pytest.fixture
def no_backoff() -> Iterator[None]:
    """Whatever is tried again is tried again at once."""
    with stamina.set_testing(True, attempts=1000):
        yield


@pytest.fixture
async def durable(own_redis: Callable[..., RedisServer], harness_at: HarnessMaker) -> tuple[Harness, RedisServer]:
    """On a server that may be killed, and then knows all that it has acknowledged."""
    server = own_redis(appendonly="yes", appendfsync="always")
    return await harness_at(server, server), server


@pytest.fixture
async def pair(own_redis: Callable[..., RedisServer]) -> AsyncIterator[Pair]:
    """A primary and its replica behind one name."""
    async with Pair(own_redis) as running:
        yield running


@pytest.fixture
async def paired(pair: Pair, harness_at: HarnessMaker) -> Harness:
    """Workers and pushers on the pair."""
    return await harness_at(pair.way, pair.way)
