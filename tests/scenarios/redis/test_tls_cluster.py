"""A Redis Cluster that speaks nothing but TLS between its nodes, under a private authority."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from pathlib import Path

import redis.asyncio.cluster

from tests.support.certificates import self_signed
from tests.support.gcs.server import GcsServer
from tests.support.harness import EXACT, Harness, eventually
from tests.support.oracle import Talk, assert_stored_once
from tests.support.process import Process, environment
from tests.support.redis_cluster import RedisCluster
from tests.support.timing import SHORT_RESTS
from worker.producer import Producer
from worker.settings import Settings


async def test_a_worker_stores_from_it_while_a_slot_moves(
    own_cluster: Callable[..., RedisCluster],
    settings: Callable[..., Settings],
    gcs_server: GcsServer,
    tmp_path: Path,
) -> None:
    authority = self_signed("localhost", tmp_path)
    cluster, talks = own_cluster(3, tls=authority), [Talk(f"c{number}") for number in range(9)]
    assert cluster.url.startswith("rediss://")
    make = partial(settings, redis_url=cluster.url, redis_ca_file=authority)
    async with redis.asyncio.cluster.RedisCluster.from_url(cluster.servers[0].url) as client:
        harness = Harness(make, client, gcs_server, SHORT_RESTS)
        harness.partitions = 16
        moved = harness.keys.stream(harness.partition("c0"))
        target = next(server for server in cluster.servers if server is not cluster.owner(moved))
        async with (
            harness.worker(**EXACT),
            Producer(make().redis.url, partitions=16, prefix=harness.keys.prefix) as producer,
        ):
            for _ in range(3):
                for talk in talks:
                    await producer.put(talk.say(1))
            await producer.flush()
            assert await client.exists(moved)
            await asyncio.to_thread(cluster.move, moved, target)
            assert cluster.owner(moved) is target
            for talk in talks:
                await producer.put(talk.say(1))
                await producer.put(talk.end())
            await producer.flush()
            await eventually(harness.is_empty)
    for talk in talks:
        assert_stored_once(talk, harness.blobs())


async def test_without_the_authority_a_worker_sends_nothing(
    own_cluster: Callable[..., RedisCluster], settings: Callable[..., Settings], tmp_path: Path
) -> None:
    cluster = own_cluster(3, tls=self_signed("localhost", tmp_path))
    async with Process(environment(settings(redis_url=cluster.url)), "run") as worker:
        await worker.said("CERTIFICATE_VERIFY_FAILED")
        assert worker.events("redis.unreachable")
