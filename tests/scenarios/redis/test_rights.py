"""The users of SECURITY.md on a cluster and behind sentinels need no more rights, and a missing one is named."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from functools import partial

import pytest
import redis
import redis.asyncio.cluster
from structlog.testing import capture_logs

from tests.scenarios.redis.test_permissions import USERS
from tests.support.command import command
from tests.support.gcs.server import GcsServer
from tests.support.harness import EXACT, Harness, eventually
from tests.support.oracle import Talk, assert_stored_once
from tests.support.redis_cluster import RedisCluster
from tests.support.redis_sentinels import RedisSentinels
from tests.support.redis_server import RedisServer
from tests.support.timing import SHORT_RESTS
from worker.errors import SettingsError, StreamError
from worker.producer import Producer
from worker.settings import Settings
from worker.stream.client import Client
from worker.stream.servers.checks import check_servers
from worker.stream.servers.connecting import connect

COMMANDS = (
    ("status",),
    ("streams", "ls"),
    ("dead-letters", "ls"),
    ("dead-letters", "replay", "--all"),
    ("dead-letters", "drop", "--all", "--yes"),
    ("audit", "--uid", "user", "--conversation", "c0"),
    ("rm", "--uid", "user", "--conversation", "nobody", "--yes"),
)


def make_users(server: RedisServer, more: str) -> None:
    with server.client() as admin:
        for user, rules in USERS.items():
            groups = re.findall(r"\([^)]*\)|\S+", rules)
            admin.execute_command("ACL", "SETUSER", user, "on", ">word", more, *groups)


def refusals(server: RedisServer) -> list[tuple[str, str]]:
    with server.client() as admin:
        entries = admin.acl_log()
    found = [(str(entry["username"]), str(entry["object"])) for entry in entries if str(entry["username"]) in USERS]
    # The library does without one, and a pusher then counts no losses.
    return [(user, what) for user, what in found if what != "client|setinfo" and (user, what) != ("pusher", "info")]


def as_user(url: str, user: str) -> str:
    return url.replace("//", f"//{user}:word@")


def harness_as(
    user: str, url: str, make: Callable[..., Settings], client: redis.asyncio.Redis, gcs: GcsServer
) -> Harness:
    harness = Harness(partial(make, redis_url=as_user(url, user), stream_prefix="pcm"), client, gcs, SHORT_RESTS)
    harness.partitions = 16
    return harness


async def push_all(url: str, talks: list[Talk]) -> None:
    async with Producer(as_user(url, "pusher"), partitions=16) as producer:
        for talk in talks:
            for chunk in [talk.say(0.5) for _ in range(6)]:
                await producer.put(chunk)
            await producer.put(talk.end())


async def test_users_on_a_cluster_while_a_slot_moves(
    own_cluster: Callable[..., RedisCluster], settings: Callable[..., Settings], gcs_server: GcsServer
) -> None:
    cluster, talks = own_cluster(3), [Talk(f"c{number}") for number in range(12)]
    for server in cluster.servers:
        make_users(server, "+asking")
    async with redis.asyncio.cluster.RedisCluster.from_url(cluster.url) as client:
        harness = harness_as("worker", cluster.url, settings, client, gcs_server)  # type: ignore[arg-type]
        moved = harness.keys.stream(harness.partition("c0"))
        source = cluster.owner(moved)
        target = next(server for server in cluster.servers if server is not source)
        async with harness.worker(**EXACT) as running:
            await eventually(lambda: running.count("partitions_owned") == 16)
            with cluster.moving(moved, target):
                cluster.ask(source, "MIGRATE", "127.0.0.1", target.port, "", 0, 5000, "KEYS", moved)
                await asyncio.wait_for(push_all(cluster.url, talks), 10)
            await harness.redis.xadd(harness.keys.stream(3), {"no": "chunk"})
            await eventually(harness.is_empty)
        operator = harness_as("operator", cluster.url, settings, client, gcs_server).settings()  # type: ignore[arg-type]
        for words in COMMANDS:
            result = await asyncio.to_thread(command, operator, *words)
            assert "NoPermission" not in result.output, words
    for talk in talks:
        assert_stored_once(talk, harness.blobs())
    assert [refusals(server) for server in cluster.servers] == [[]] * 3


async def test_users_behind_sentinels(
    own_sentinels: Callable[..., RedisSentinels], settings: Callable[..., Settings], gcs_server: GcsServer
) -> None:
    right = "+sentinel|get-master-addr-by-name"
    sentinels, talks = own_sentinels(lines=(f"user asker on >night -@all {right}",)), [Talk(f"c{n}") for n in range(3)]
    for server in sentinels.servers:
        make_users(server, "+role")
    url = f"{sentinels.url}?sentinel_user=asker&sentinel_password=night"
    connector = connect(url)
    async with connector.open(connector.seeds[0]) as client:
        harness = harness_as("worker", url, settings, client, gcs_server)
        async with harness.worker(**EXACT) as running:
            await eventually(lambda: running.count("partitions_owned") == 16)
            await push_all(url, talks)
            await eventually(harness.is_empty)
        operator = harness_as("operator", url, settings, client, gcs_server).settings()
        for words in COMMANDS:
            result = await asyncio.to_thread(command, operator, *words)
            assert "NoPermission" not in result.output, words
    for talk in talks:
        assert_stored_once(talk, harness.blobs())
    assert [refusals(server) for server in sentinels.servers] == [[]] * 2


async def test_a_sentinel_that_refuses_us_names_the_right(own_sentinels: Callable[..., RedisSentinels]) -> None:
    sentinels = own_sentinels(lines=("user asker on >night -@all +ping",))
    async with Client(connect(f"{sentinels.url}?sentinel_user=asker&sentinel_password=night")) as client:
        with pytest.raises(SettingsError, match=r"the sentinel .*\+sentinel\|get-master-addr-by-name"):
            await check_servers(client)


@pytest.fixture
def server(own_redis: Callable[..., RedisServer]) -> RedisServer:
    server = own_redis()
    make_users(server, "+ping")
    return server


@pytest.mark.parametrize("right", ["mget", "time", "hset", "set", "cluster|slots"])
async def test_a_right_that_a_worker_lacks_is_named_in_its_log(
    server: RedisServer, settings: Callable[..., Settings], gcs_server: GcsServer, right: str
) -> None:
    with server.client() as admin:
        admin.execute_command("ACL", "SETUSER", "worker", f"-{right}")
    async with redis.asyncio.Redis.from_url(server.url) as client:
        harness = harness_as("worker", server.url, settings, client, gcs_server)
        with capture_logs() as logged:
            async with harness.worker(**EXACT):
                await eventually(lambda: any(f"+{right}" in str(entry.get("error")) for entry in logged))


async def test_a_right_that_a_plain_command_lacks_is_named(server: RedisServer) -> None:
    with server.client() as admin:
        admin.execute_command("ACL", "SETUSER", "worker", "-hmget")
    async with Client(connect(as_user(server.url, "worker"))) as client:
        with pytest.raises(StreamError, match=r"allow this user \+hmget, as in Users of Redis"):
            await client.command(lambda pipe: pipe.hmget("pcm:config", ["partitions"]), "pcm:config")
        with pytest.raises(StreamError, match="allow this user the key, or the pattern"):
            await client.command(lambda pipe: pipe.hget("other", "partitions"), "other")


async def test_a_slot_that_moves_needs_asking(own_cluster: Callable[..., RedisCluster]) -> None:
    cluster, key = own_cluster(2), "pcm:config"
    source = cluster.owner(key)
    target = next(server for server in cluster.servers if server is not source)
    for server in cluster.servers:
        make_users(server, "+ping")
    async with Client(connect(as_user(cluster.url, "pusher"))) as client:
        with cluster.moving(key, target), pytest.raises(StreamError, match=r"allow this user \+asking"):
            await client.command(lambda pipe: pipe.hmget(key, ["partitions"]), key)
