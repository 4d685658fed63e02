"""Redis Sentinel: the primary is moved in good order, or dies. What its replica had confirmed is stored once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

import pytest

from codec.entry import Chunk
from tests.support.gcs.server import GcsServer
from tests.support.harness import EXACT, Harness, eventually, owned_before
from tests.support.oracle import Talk, assert_stored_once
from tests.support.process import Process, environment
from tests.support.redis_sentinels import RedisSentinels
from tests.support.timing import SHORT_RESTS
from worker.errors import StreamError
from worker.settings import Settings
from worker.stream.client import Client
from worker.stream.servers.connecting import connect


@pytest.fixture
def sentinels(own_sentinels: Callable[..., RedisSentinels]) -> RedisSentinels:
    return own_sentinels()


@pytest.fixture
async def harness(
    sentinels: RedisSentinels, settings: Callable[..., Settings], gcs_server: GcsServer
) -> AsyncIterator[Harness]:
    connector = connect(sentinels.url)
    async with connector.open(connector.seeds[0]) as client:
        yield await owned_before(Harness(partial(settings, redis_url=sentinels.url), client, gcs_server, SHORT_RESTS))


class Pusher:
    """Pushes a chunk again until the replica has it, or, once the failover is over, until the new primary has it."""

    def __init__(self, harness: Harness, sentinels: RedisSentinels) -> None:
        self._harness = harness
        self._url = sentinels.url
        self.moved = asyncio.Event()

    async def push(self, talks: Sequence[Talk]) -> None:
        """Speak in turn until half a second of each was pushed after the failover, too."""
        while not self.moved.is_set():
            await self._round(talks)
        for _ in range(2):
            await self._round(talks)

    async def _round(self, talks: Sequence[Talk]) -> None:
        for talk in talks:
            chunk = talk.say(0.5)
            await eventually(partial(self._confirmed, chunk))

    async def _confirmed(self, chunk: Chunk) -> bool:
        stream = self._harness.keys.stream(self._harness.partition(chunk.conversation_id))
        fields: dict[Any, Any] = dict(chunk.fields())  # the library's type allows no narrower one
        with suppress(StreamError):
            is_over = self.moved.is_set()
            async with Client(connect(self._url)) as client:
                (node,) = await client.find_nodes()
                entry, replicas = await node.pipeline(lambda pipe: (pipe.xadd(stream, fields), pipe.wait(1, 100)))
            return isinstance(entry, bytes) and (is_over or replicas == 1)
        return False


def move(sentinels: RedisSentinels) -> None:
    sentinels.fail_over()


def kill(sentinels: RedisSentinels) -> None:
    before = sentinels.primary()
    before.kill()
    sentinels.await_other(before)


@pytest.mark.parametrize("fail_over", [move, kill])
async def test_what_the_replica_has_is_stored_once(
    harness: Harness, sentinels: RedisSentinels, fail_over: Callable[[RedisSentinels], None]
) -> None:
    talks, pusher = [Talk(f"c{number}") for number in range(4)], Pusher(harness, sentinels)
    async with harness.worker(**EXACT), asyncio.TaskGroup() as group:
        group.create_task(pusher.push(talks))
        await asyncio.to_thread(fail_over, sentinels)
        pusher.moved.set()
    await harness.drain(**EXACT)
    for talk in talks:
        assert_stored_once(talk, harness.blobs())


async def test_two_workers_go_on_while_a_sentinel_hangs_and_the_primary_dies(
    harness: Harness, sentinels: RedisSentinels
) -> None:
    talk = Talk("c")
    variables = environment(harness.settings())
    sentinels.sentinels[0].pause()
    async with Process(variables, "run") as one, Process(variables, "run") as two:
        await one.said("ownership.changed")
        await two.said("ownership.changed")
        await harness.say(talk, 2)
        assert await asyncio.to_thread(sentinels.synchronised)
        await asyncio.to_thread(kill, sentinels)
        await harness.redis.connection_pool.disconnect()
        await harness.push(talk.say(1), talk.end())
        for worker in (one, two):
            await worker.said("redis.changed")
    await harness.drain()
    assert_stored_once(talk, harness.blobs())
