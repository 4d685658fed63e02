"""One connection to Redis for a command that works on the streams of all partitions."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from worker.model.layouts import Layouts
    from worker.stream.client import Client
    from worker.stream.keys import Keys

T = TypeVar("T")


def with_redis(work: Callable[[Client, Keys, Layouts], Awaitable[T]]) -> T:
    """Connect as the settings say, and do the work with the numbers of partitions that Redis records.

    Raises:
        SettingsError: a setting is wrong.
        StreamError: Redis does not answer or refuses.
    """
    from worker import settings
    from worker.stream.client import Client
    from worker.stream.config import recorded_layouts
    from worker.stream.keys import Keys
    from worker.stream.servers.connecting import connect

    loaded = settings.load()
    keys = Keys(loaded.stream_prefix)

    async def working() -> T:
        async with Client(connect(loaded.redis.url)) as client:
            return await work(client, keys, await recorded_layouts(client, keys, loaded.partitions))

    return asyncio.run(working())
