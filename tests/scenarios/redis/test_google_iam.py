"""A Redis whose only password is the current access token: tokens change, connections break, and all is stored once."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import redis.asyncio

from tests.support.gcs.server import GcsServer
from tests.support.harness import EXACT, Harness, Running, eventually
from tests.support.oracle import Talk, assert_stored_once
from tests.support.redis_server import RedisServer
from tests.support.timing import SHORT_RESTS
from worker.settings import Settings


@pytest.fixture
def google(gcs_server: GcsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> GcsServer:
    credentials = dict.fromkeys(("client_id", "client_secret", "refresh_token"), "any")
    credentials |= {"type": "authorized_user", "token_uri": f"{gcs_server.url}/token"}
    (tmp_path / "credentials.json").write_text(json.dumps(credentials))
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "credentials.json"))
    return gcs_server


def _has_read(running: Running, chunks: int) -> bool:
    return running.count("chunks_total") >= chunks


async def test_a_worker_outlives_its_tokens(
    google: GcsServer, own_redis: Callable[..., RedisServer], settings: Callable[..., Settings]
) -> None:
    server, talk = own_redis(), Talk("c")
    make = partial(settings, redis_url=f"redis://127.0.0.1:{server.port}", redis_auth="google-iam")
    async with redis.asyncio.Redis(port=server.port, username="admin", password="admin") as admin:
        with server.client() as first:
            first.acl_setuser("admin", enabled=True, passwords=["+admin"], categories=["+@all"], keys=["*"])

        async def change(token: str) -> None:
            """Redis takes another token from now on, and all connections with the former one are gone."""
            google.api.token_reply = {"access_token": token, "expires_in": 2}
            await admin.acl_setuser("default", enabled=True, reset_passwords=True, passwords=[f"+{token}"])
            await admin.client_kill_filter(user="default")

        await change("token 0")
        harness = Harness(make, admin, google, SHORT_RESTS)
        async with harness.worker(**EXACT) as running:
            for number in range(1, 5):
                await harness.say(talk, 3)
                await eventually(partial(_has_read, running, 6 * number))
                await change(f"token {number}")
            await harness.push(talk.end())
            await eventually(harness.is_empty)
        assert_stored_once(talk, harness.blobs())
    assert google.count("token") >= 4
