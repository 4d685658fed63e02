"""On a node of a Redis Cluster no command may name keys of several slots, and every partition is a slot of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from tests.support.command import command
from tests.support.harness import Harness, HarnessMaker
from tests.support.oracle import Talk, assert_stored_once
from tests.support.process import Process, environment
from tests.support.redis_server import RedisServer


@pytest.fixture
async def node(own_redis: Callable[..., RedisServer], harness_at: HarnessMaker) -> Harness:
    server = own_redis(cluster_enabled="yes")
    harness = await harness_at(server, server)
    harness.partitions = 16
    return harness


async def test_workers_share_the_partitions_and_store_everything_once(node: Harness) -> None:
    talks = [Talk(f"c{number}") for number in range(12)]
    for talk in talks:
        await node.say(talk, 3)
    variables = environment(node.settings())
    async with Process(variables, "run", "--drain") as one, Process(variables, "run", "--drain") as two:
        assert [await one.ended(), await two.ended()] == [0, 0]
    for failure in ("ownership.redis_failed", "consumer.redis_failed"):
        assert [*one.events(failure), *two.events(failure)] == []
    for talk in talks:
        assert_stored_once(talk, node.blobs())


COMMANDS = (
    ("status",),
    ("audit", "--uid", "user", "--conversation", "c"),
    ("dead-letters", "ls"),
    ("dead-letters", "replay", "--all"),
    ("rm", "--uid", "user", "--yes"),
)


async def test_commands_answer(node: Harness) -> None:
    talk = Talk("c")
    await node.say(talk, 3)
    await node.redis.xadd(node.keys.stream(3), {"no": "chunk"})
    async with Process(environment(node.settings()), "run", "--drain") as worker:
        assert await worker.ended() == 0
    for words in COMMANDS:
        result = await asyncio.to_thread(command, node.settings(), *words)
        assert result.exit_code == 0, result.output
