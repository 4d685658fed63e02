"""A Redis Cluster of several nodes: slots move, nodes die and hang, and every sample is stored once and in order."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from functools import partial

import pytest
import redis.asyncio.cluster

from tests.support.cluster_harness import ClusterHarness, split
from tests.support.command import command
from tests.support.gcs.server import GcsServer
from tests.support.harness import EXACT, HANDOFF, Harness, eventually, owned_before
from tests.support.oracle import Talk, assert_stored_once, blobs_of
from tests.support.process import Process, environment
from tests.support.redis_cluster import RedisCluster
from tests.support.timing import SHORT_RESTS
from worker.settings import Settings
from worker.stream.client import Client
from worker.stream.keys import Keys
from worker.stream.leases import Leases
from worker.stream.servers.connecting import connect

PARTITIONS = 16


@pytest.fixture
async def cluster(own_cluster: Callable[..., RedisCluster], request: pytest.FixtureRequest) -> RedisCluster:
    """Three nodes; a parameter says how many of them have a replica."""
    return own_cluster(3, getattr(request, "param", 0))


@pytest.fixture
async def harness(
    cluster: RedisCluster, settings: Callable[..., Settings], gcs_server: GcsServer
) -> AsyncIterator[Harness]:
    async with redis.asyncio.cluster.RedisCluster.from_url(cluster.url) as client:
        harness = ClusterHarness(partial(settings, redis_url=cluster.url), client, gcs_server, SHORT_RESTS)
        harness.partitions = PARTITIONS
        yield await owned_before(harness)


def talks(count: int = 12) -> list[Talk]:
    return [Talk(f"c{number}") for number in range(count)]


async def test_workers_share_the_partitions_of_all_nodes(harness: Harness) -> None:
    spoken = talks()
    for talk in spoken:
        await harness.say(talk, 3)
    variables = environment(harness.settings())
    async with Process(variables, "run", "--drain") as one, Process(variables, "run", "--drain") as two:
        assert [await one.ended(), await two.ended()] == [0, 0]
    for failure in ("ownership.redis_failed", "consumer.redis_failed", "partition.refused"):
        assert [*one.events(failure), *two.events(failure)] == []
    await harness.assert_empty()
    for talk in spoken:
        assert_stored_once(talk, harness.blobs())


async def test_slots_move_while_audio_flows(harness: Harness, cluster: RedisCluster) -> None:
    spoken = talks()
    async with harness.worker(**EXACT) as running:
        for turn in range(6):
            for talk in spoken:
                await harness.say(talk, 1)
            for number in range(turn, PARTITIONS, 6):
                key = harness.keys.stream(number)
                others = [server for server in cluster.servers if server is not cluster.owner(key)]
                await asyncio.to_thread(cluster.move, key, others[number % 2])
        await eventually(lambda: running.count("rewinds_total", cause="moved") > 0)
    await harness.drain(**EXACT)
    for talk in spoken:
        assert_stored_once(talk, harness.blobs())


async def test_a_node_that_hangs_delays_only_its_own_partitions(harness: Harness, cluster: RedisCluster) -> None:
    there, elsewhere = split(harness, cluster, cluster.servers[1], talks())
    async with harness.worker(lease_ttl=3.0, **EXACT) as running:
        for talk in [*there, *elsewhere]:
            await harness.say(talk, 1)
        await eventually(lambda: running.count("chunks_total") == 2 * (len(there) + len(elsewhere)))
        cluster.servers[1].pause()
        for talk in elsewhere:
            await harness.say(talk, 5)
        await eventually(lambda: len(harness.blobs()) >= len(elsewhere))
        assert not any(blobs_of(talk, harness.blobs()) for talk in there)
        cluster.servers[1].resume()
        for talk in there:
            await harness.say(talk, 5)
    assert running.count("lost_entries_total") == 0
    await harness.drain(**EXACT)
    for talk in [*there, *elsewhere]:
        assert_stored_once(talk, harness.blobs())


async def test_a_lease_does_not_wait_for_another_node_to_be_renewed(cluster: RedisCluster, prefix: str) -> None:
    hung = cluster.servers[1]
    async with Client(connect(cluster.url)) as client:
        keys = Keys(prefix)
        leases = Leases(client, keys, PARTITIONS, 60.0)
        taken, _ = await leases.acquire(range(PARTITIONS), "one")
        elsewhere = [lease for lease in taken if cluster.owner(keys.lease(lease.partition)) is not hung]
        acquired = max(lease.renewed for lease in taken)
        hung.pause()
        renewing = asyncio.create_task(leases.renew(taken))
        await eventually(lambda: all(lease.renewed > acquired for lease in elsewhere))
        assert not renewing.done()
        hung.resume()
        await renewing


@pytest.mark.parametrize("cluster", [3], indirect=True)
async def test_a_replica_takes_over_from_a_node_that_dies(harness: Harness, cluster: RedisCluster) -> None:
    spoken = talks()
    async with harness.worker(**EXACT) as running:
        for talk in spoken:
            await harness.say(talk, 1)
        await asyncio.to_thread(cluster.synchronised)
        cluster.servers[1].kill()
        await asyncio.to_thread(cluster.await_primary, cluster.servers[4])
        for talk in spoken:
            await harness.say(talk, 4)
        await eventually(lambda: running.count("rewinds_total", cause="moved") > 0)
    assert running.count("lost_entries_total") == 0
    await harness.drain(**EXACT)
    for talk in spoken:
        assert_stored_once(talk, harness.blobs())


@pytest.mark.parametrize("cluster", [3], indirect=True)
async def test_what_a_replica_that_lags_has_not_got_is_counted(harness: Harness, cluster: RedisCluster) -> None:
    there, elsewhere = split(harness, cluster, cluster.servers[1], talks())
    long = {"batch_max_seconds": 60.0, **HANDOFF}
    async with harness.worker(**long) as one, harness.worker(**long) as other:
        for talk in [*there, *elsewhere]:
            await harness.say(talk, 1)
        both = [one, other]
        await eventually(lambda: sum(running.count("chunks_total") for running in both) >= 24)
        await asyncio.to_thread(cluster.synchronised)
        await asyncio.to_thread(cluster.cut_replication, cluster.servers[1], cluster.servers[4])
        before = sum(running.count("chunks_total") for running in both)
        for talk in [*there, *elsewhere]:
            await harness.say(talk, 1.5)
        await eventually(lambda: sum(running.count("chunks_total") for running in both) >= before + 36)
        cluster.servers[1].kill()
        cluster.servers[4].resume()
        await asyncio.to_thread(cluster.await_primary, cluster.servers[4])
        await eventually(lambda: sum(running.count("lost_entries_total") for running in both) >= 3 * len(there))
        await harness.say(there[0], 1)
    assert sum(running.count("lost_entries_total") for running in both) == 3 * len(there) > 0
    assert (await harness.drain(**EXACT)).count("lost_entries_total") == 0


async def test_a_slot_that_is_held_open_delays_only_its_partition(harness: Harness, cluster: RedisCluster) -> None:
    spoken = talks()
    key = harness.keys.stream(harness.partition(spoken[0].conversation_id))
    others = [server for server in cluster.servers if server is not cluster.owner(key)]
    async with harness.worker(**EXACT):
        for talk in spoken:
            await harness.say(talk, 1)
        with cluster.moving(key, others[0]):
            for talk in spoken:
                await harness.say(talk, 3)
            await eventually(lambda: sum(bool(blobs_of(talk, harness.blobs())) for talk in spoken) >= len(spoken) - 2)
    await harness.drain(**EXACT)
    for talk in spoken:
        assert_stored_once(talk, harness.blobs())


async def test_commands_show_what_the_other_nodes_have(harness: Harness, cluster: RedisCluster) -> None:
    for number in range(PARTITIONS):
        await harness.redis.xadd(harness.keys.dead(number), {"uid": "u", "reason": "r", "entry": "1-0", "at": "1"})
    config = cluster.owner(harness.keys.config)
    lost = next(server for server in cluster.servers[1:] if server is not config)
    there = [number for number in range(PARTITIONS) if cluster.owner(harness.keys.stream(number)) is lost]
    lost.kill()

    async def said(*words: str) -> tuple[int, str]:
        result = await asyncio.to_thread(command, harness.settings(), *words)
        return result.exit_code, result.output

    assert "danger: can't be read" in (await said("status"))[1]
    code, output = await said("dead-letters", "ls", "--json")
    assert (code, output.count('"reason"')) == (3, PARTITIONS - len(there))
    assert f"the dead letters at 127.0.0.1:{lost.port} can't be listed" in output
    code, output = await said("streams", "ls")
    assert (code, "does not answer: its streams are not searched" in output) == (3, True)


COMMANDS = (
    ("status",),
    ("audit", "--uid", "user", "--conversation", "c0"),
    ("dead-letters", "ls"),
    ("dead-letters", "replay", "--all"),
    ("streams", "ls"),
    ("rm", "--uid", "user", "--yes"),
)


async def test_status_answers_without_the_node_that_has_the_list_of_workers(
    harness: Harness, cluster: RedisCluster
) -> None:
    config, listing = (cluster.owner(key) for key in (harness.keys.config, harness.keys.workers))
    if listing in (config, cluster.servers[0]):  # the first one is all that REDIS_URL names
        listing = next(server for server in cluster.servers[1:] if server is not config)
        await asyncio.to_thread(cluster.move, harness.keys.workers, listing)
    listing.kill()
    result = await asyncio.to_thread(command, harness.settings(), "status")
    assert "danger: can't be read" in result.output
    assert f"127.0.0.1:{listing.port}" in result.output


async def test_commands_answer(harness: Harness) -> None:
    for talk in talks(4):
        await harness.say(talk, 3)
    await harness.redis.xadd(harness.keys.stream(3), {"no": "chunk"})
    async with Process(environment(harness.settings()), "run", "--drain") as worker:
        assert await worker.ended() == 0
    for words in COMMANDS:
        result = await asyncio.to_thread(command, harness.settings(), *words)
        assert result.exit_code == 0, (words, result.output)
