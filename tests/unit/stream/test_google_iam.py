"""Access tokens as passwords: fetched seldom, renewed in time, and never a reason to drop a connection."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
from redis.exceptions import ConnectionError as BrokenConnection
from structlog.testing import capture_logs

from tests.support.clock import Clock
from tests.support.gcs.faults import Action
from tests.support.gcs.server import GcsServer
from tests.support.google_user import log_in
from tests.support.redis_server import RedisServer
from worker.errors import SettingsError, StreamError
from worker.stream.client import Client
from worker.stream.servers.checks import check_servers
from worker.stream.servers.connecting import connect
from worker.stream.servers.google_iam import GoogleIam


@pytest.fixture
def google(gcs_server: GcsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> GcsServer:
    """The test server is Google's token endpoint."""
    log_in(gcs_server, tmp_path, monkeypatch)
    hand_out(gcs_server, "first")
    return gcs_server


def hand_out(google: GcsServer, token: str, seconds: int = 3600) -> None:
    google.api.token_reply = {"access_token": token, "expires_in": seconds}


def test_url_names_no_password_beside_a_token() -> None:
    with pytest.raises(SettingsError, match="has a password"):
        connect("redis://:secret@host?auth=google-iam")


async def test_one_token_serves_until_most_of_its_life_is_over(google: GcsServer) -> None:
    clock = Clock()
    iam = GoogleIam(clock=clock)
    assert set(await asyncio.gather(*(iam.get_credentials_async() for _ in range(8)))) == {("default", "first")}
    hand_out(google, "second")
    clock.now += 0.79 * 3600
    assert await iam.get_credentials_async() == ("default", "first")
    clock.now += 0.02 * 3600
    assert await iam.get_credentials_async() == ("default", "second")
    assert google.count("token") == 2


@pytest.mark.parametrize("action", ["status", "reset", "garbage"])
async def test_token_that_still_lives_serves_while_no_other_can_be_had(google: GcsServer, action: Action) -> None:
    clock = Clock()
    iam = GoogleIam("alice", clock)
    await iam.get_credentials_async()
    google.fail("token", action, times=9)
    clock.now += 0.9 * 3600
    with capture_logs() as logged:
        assert await iam.get_credentials_async() == ("alice", "first")
    assert [(entry["event"], entry["ends_in_s"]) for entry in logged] == [("redis.token_not_renewed", 360)]
    clock.now += 0.1 * 3600
    with pytest.raises(BrokenConnection, match=r"no access token for Redis: .*Workload Identity"):
        await iam.get_credentials_async()


async def test_credentials_that_are_none_are_a_wrong_setting(google: GcsServer, tmp_path: Path) -> None:
    (tmp_path / "credentials.json").write_text("not json")
    async with Client(connect("redis://127.0.0.1:1?auth=google-iam")) as client:
        with pytest.raises(StreamError, match="Connect call failed"):  # nothing is fetched before there is a connection
            await check_servers(client)
    with pytest.raises(SettingsError, match="GOOGLE_APPLICATION_CREDENTIALS"):
        await GoogleIam().get_credentials_async()
    assert google.count("token") == 0


async def test_connections_outlive_their_tokens_and_new_ones_get_the_next(
    google: GcsServer, own_redis: Callable[..., RedisServer]
) -> None:
    server = own_redis()
    with server.client() as admin:
        admin.acl_setuser("default", enabled=True, reset_passwords=True, passwords=["+first"])
        async with Client(connect(f"redis://127.0.0.1:{server.port}?auth=google-iam")) as client:
            await check_servers(client)
            number = await client.nodes[0].command(lambda pipe: pipe.client_id())
            admin.acl_setuser("default", enabled=True, passwords=["-first", "+second"])
            hand_out(google, "second")
            assert await client.nodes[0].command(lambda pipe: pipe.client_id()) == number
            await client.reconnect()
            with pytest.raises(StreamError, match=r"invalid username-password pair .*roles/redis\.dbConnectionUser"):
                await client.nodes[0].command(lambda pipe: pipe.client_id())
            assert await client.nodes[0].command(lambda pipe: pipe.client_id()) != number
    assert google.count("token") == 2
