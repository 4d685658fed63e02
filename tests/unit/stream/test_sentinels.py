"""Sentinels: who is asked, in which order, and what a person reads when they can't help."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
import redis
from structlog.testing import capture_logs

from tests.support.certificates import self_signed
from tests.support.redis_sentinels import SERVICE, RedisSentinels
from tests.support.redis_server import RedisServer, free_port
from worker.errors import SettingsError, StreamError
from worker.stream.client import Client
from worker.stream.servers.checks import check_servers
from worker.stream.servers.connecting import connect

pytestmark = pytest.mark.slow


@pytest.fixture
def sentinels(own_sentinels: Callable[..., RedisSentinels]) -> RedisSentinels:
    return own_sentinels()


async def port_of(client: Client) -> int:
    """The port of the server that answers."""
    facts = await client.nodes[0].command(lambda pipe: pipe.info("server"))
    return int(facts["tcp_port"])


async def test_the_primary_is_found_behind_dead_and_hanging_sentinels(sentinels: RedisSentinels) -> None:
    first, second, _ = sentinels.sentinels
    first.kill()
    second.pause()
    async with Client(connect(sentinels.url)) as client:
        async with asyncio.timeout(2):
            assert await port_of(client) == sentinels.primary().port


async def test_an_idle_connection_is_not_used_for_a_former_primary(sentinels: RedisSentinels) -> None:
    async with Client(connect(sentinels.url)) as client:
        before = await port_of(client)
        await asyncio.to_thread(sentinels.fail_over)
        with capture_logs() as logged:
            assert await port_of(client) == sentinels.primary().port != before
    assert [entry["place"] for entry in logged if entry["event"] == "redis.primary"] == [
        f"127.0.0.1:{sentinels.primary().port}"
    ]


async def test_a_server_that_is_no_primary_is_not_used(sentinels: RedisSentinels) -> None:
    for sentinel in sentinels.sentinels:
        sentinel.pause()
    with redis.Redis(port=sentinels.servers[0].port) as admin:
        admin.replicaof("127.0.0.1", str(sentinels.servers[1].port))
    for sentinel in sentinels.sentinels:
        sentinel.resume()
    async with Client(connect(sentinels.url)) as client:
        with pytest.raises(StreamError, match="which the sentinels name, is not a primary") as caught:
            await client.command(lambda pipe: pipe.get("k"), "k")
    assert caught.value.cause == "readonly"


async def test_what_is_wrong_with_the_sentinels_is_told(sentinels: RedisSentinels) -> None:
    for url, sentence in (
        (f"{sentinels.url}x", rf"the sentinel 127\.0\.0\.1:\d+ knows no primary named {SERVICE}x: give the name"),
        (f"{sentinels.url}?sentinel_user=nobody&sentinel_password=x", r"refuses .*the sentinel 127\.0\.0\.1:\d+: "),
    ):
        async with Client(connect(url)) as client:
            with pytest.raises(SettingsError, match=sentence):
                await check_servers(client)


async def test_silent_sentinels_are_named() -> None:
    port = free_port()
    async with Client(connect(f"redis+sentinel://127.0.0.1:{port}/{SERVICE}")) as client:
        with pytest.raises(StreamError, match=f"the sentinel 127.0.0.1:{port}: ") as caught:
            await check_servers(client)
    assert caught.value.cause == "connection"


async def test_servers_and_sentinels_have_users_of_their_own_and_speak_tls(
    own_sentinels: Callable[..., RedisSentinels], tmp_path: Path
) -> None:
    certificate = self_signed("localhost", tmp_path)
    sentinels = own_sentinels(tls=certificate, lines=("user watcher on >night +@all",))
    for server in sentinels.servers:
        log_in(server)
    start, _, rest = sentinels.url.partition("//")
    url = f"{start}//worker:day@{rest}?ssl_ca_certs={certificate}"
    async with Client(connect(f"{url}&sentinel_user=watcher&sentinel_password=night")) as client:
        assert await check_servers(client)
        assert await client.nodes[0].command(lambda pipe: pipe.acl_whoami()) == "worker"
    for wrong in ("sentinel_user=watcher&sentinel_password=day", "sentinel_user=worker&sentinel_password=night"):
        async with Client(connect(f"{url}&{wrong}")) as client:
            with pytest.raises(SettingsError, match="the sentinel"):
                await check_servers(client)


def log_in(server: RedisServer) -> None:
    with server.client() as admin:
        admin.acl_setuser("worker", enabled=True, passwords=["+day"], categories=["+@all"], keys=["*"])
