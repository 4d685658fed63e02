"""A Redis Cluster, a Cloud Storage server and workers of one test."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, cast

from redis.asyncio.client import Pipeline

from codec.entry import Chunk, End
from tests.support.harness import POLL_SECONDS, Harness
from tests.support.oracle import Talk
from tests.support.redis_cluster import RedisCluster
from tests.support.redis_server import RedisServer
from worker.stream.client import Client
from worker.stream.servers.connecting import connect


class ClusterHarness(Harness):
    """A harness that pushes as the worker reads; the library's own client can't push into a slot that moves."""

    async def push(self, *contents: Chunk | End) -> list[str]:
        """Append entries, each again until Redis takes it."""
        ids: list[str] = []
        async with Client(connect(self.settings().redis_url, timeout=1)) as client:
            for content in contents:
                stream = self.keys.stream(self.partition(content.conversation_id))
                command = partial(_add, stream, content)
                ids.append(await _taken(client, command))
        return ids


async def _taken(client: Client, push: Callable[[Pipeline], None]) -> str:
    """Push until Redis takes it; returns the id."""
    while True:
        (reply,) = await client.pipeline(push)
        if not isinstance(reply, Exception):
            return str(reply.decode())
        await asyncio.sleep(POLL_SECONDS)


def _add(stream: str, content: Chunk | End, pipe: Pipeline) -> None:
    pipe.xadd(stream, cast("dict[Any, Any]", content.fields()))


def split(harness: Harness, cluster: RedisCluster, server: RedisServer, spoken: Iterable[Talk]) -> list[list[Talk]]:
    """The conversations on one server, and those on all others."""
    groups: list[list[Talk]] = [[], []]
    for talk in spoken:
        key = harness.keys.stream(harness.partition(talk.conversation_id))
        groups[cluster.owner(key) is not server].append(talk)
    return groups
