"""A worker, its Redis and its store."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from functools import partial

import pytest
import redis.asyncio
import stamina

from tests.gcs_server import GcsServer
from tests.harness import Rig
from tests.proxy import Proxy
from tests.redis_server import RedisServer
from worker.settings import Settings

RigMaker = Callable[[RedisServer | Proxy, RedisServer], Awaitable[Rig]]


@pytest.fixture
def rig(settings: Callable[..., Settings], redis_client: redis.asyncio.Redis, gcs_server: GcsServer) -> Rig:
    """On the shared Redis, with an empty bucket of its own."""
    return Rig(settings, redis_client, gcs_server)


@pytest.fixture
async def rig_at(settings: Callable[..., Settings], gcs_server: GcsServer) -> AsyncIterator[RigMaker]:
    """Make a rig whose workers reach Redis, say, through a proxy, and which itself looks at the server directly."""
    async with AsyncExitStack() as stack:

        async def make(way: RedisServer | Proxy, server: RedisServer) -> Rig:
            client = await stack.enter_async_context(redis.asyncio.Redis.from_url(server.url))
            return Rig(partial(settings, redis_url=way.url), client, gcs_server)

        yield make


@pytest.fixture
def no_backoff() -> Iterator[None]:
    """Whatever is tried again is tried again at once."""
    with stamina.set_testing(True, attempts=1000):
        yield
