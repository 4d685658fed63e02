"""Several hosts in REDIS_URL: any of them leads to the whole cluster, and those that are dead cost nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator

import pytest

from tests.support.redis_cluster import RedisCluster
from tests.support.redis_server import RedisServer, free_port
from worker.errors import SettingsError, StreamError
from worker.stream.client import Client
from worker.stream.servers.checks import check_servers
from worker.stream.servers.connecting import connect


@pytest.fixture
def hanging(own_redis: Callable[..., RedisServer]) -> Iterator[RedisServer]:
    server = own_redis()
    server.pause()
    yield server
    server.resume()


def url_of(*ports: int) -> str:
    return "redis://" + ",".join(f"127.0.0.1:{port}" for port in ports)


@pytest.mark.slow
@pytest.mark.parametrize("place", range(3))
async def test_dead_and_hanging_seeds_cost_nothing(
    own_cluster: Callable[..., RedisCluster], hanging: RedisServer, place: int
) -> None:
    cluster = own_cluster(3)
    ports = [hanging.port, free_port()]
    ports.insert(place, cluster.servers[1].port)
    async with Client(connect(url_of(*ports), timeout=60)) as client:
        async with asyncio.timeout(5):
            await check_servers(client)
        assert {node.name for node in client.nodes} == {f"127.0.0.1:{server.port}" for server in cluster.servers}


async def test_several_hosts_that_are_no_cluster_are_a_wrong_setting(own_redis: Callable[..., RedisServer]) -> None:
    one, two = own_redis(), own_redis()
    async with Client(connect(url_of(one.port, two.port))) as client:
        for _ in range(2):
            with pytest.raises(
                SettingsError, match=r"several servers, but 127\.0\.0\.1:\d+ belongs to no cluster: .*alone"
            ):
                await check_servers(client)
        with pytest.raises(StreamError, match="belongs to no cluster") as caught:
            await client.command(lambda pipe: pipe.get("k"), "k")
    assert caught.value.cause == "refused"


@pytest.mark.slow
async def test_a_user_who_may_not_ask_for_the_slots_reaches_all_keys_behind_a_dead_seed(
    own_cluster: Callable[..., RedisCluster],
) -> None:
    cluster = own_cluster(3)
    for server in cluster.servers:
        cluster.ask(server, "ACL", "SETUSER", "plain", "on", ">word", "~*", "+set", "+get", "+cluster|myid")
    url = url_of(free_port(), cluster.servers[2].port).replace("//", "//plain:word@")
    keys = [f"key{number}" for number in range(30)]
    async with Client(connect(url)) as client:
        await client.pipeline(lambda pipe: [pipe.set(key, key) for key in keys])
        assert await client.pipeline(lambda pipe: [pipe.get(key) for key in keys]) == [key.encode() for key in keys]
    assert {cluster.owner(key).port for key in keys} == {server.port for server in cluster.servers}
