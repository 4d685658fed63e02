"""Access tokens: fetched once, by one request at a time, and every failure is one of ours."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from tests.support.google_user import log_in
from worker.errors import SettingsError, StoreError
from worker.stores.gcs import GcsStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.support.gcs.faults import Action
    from tests.support.gcs.server import GcsServer

NAME = "chunks/user/conversation/1000.000.opus.enc"


@pytest.fixture
async def gcs(gcs_server: GcsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[GcsStore]:
    """A store with credentials, in a bucket that demands them; the test server is Google's token endpoint too."""
    gcs_server.api.access_token = "first"
    log_in(gcs_server, tmp_path, monkeypatch)
    monkeypatch.setattr("worker.stores.gcs.API_ROOT", gcs_server.url)
    store = GcsStore(gcs_server.bucket)
    yield store
    await store.close()


async def test_one_token_serves_all_requests(gcs: GcsStore, gcs_server: GcsServer) -> None:
    await asyncio.gather(*[gcs.create(f"chunks/{n}", b"", {}) for n in range(8)])

    assert len(gcs_server.objects()) == 8
    assert gcs_server.count("token") == 1


async def test_a_refused_token_is_a_permission_error_and_the_next_request_fetches_another(
    gcs: GcsStore, gcs_server: GcsServer
) -> None:
    await gcs.check()
    gcs_server.api.access_token = "second"

    with pytest.raises(StoreError) as caught:
        await gcs.create(NAME, b"", {})
    assert (caught.value.cause, caught.value.status) == ("permission", 401)
    assert gcs_server.count("insert.*") == 1
    await gcs.create(NAME, b"", {})

    assert gcs_server.count("token") == 2


@pytest.mark.parametrize("action", ["status", "reset", "garbage"])
async def test_a_token_that_cannot_be_had_is_asked_for_once_and_reported(
    gcs: GcsStore, gcs_server: GcsServer, action: Action
) -> None:
    gcs_server.fail("token", action, times=9)

    with pytest.raises(StoreError, match="access token") as caught:
        await gcs.check()

    assert caught.value.cause == "credentials"
    assert gcs_server.count("token") == 1
    assert gcs_server.count("list") == 0


async def test_a_token_reply_without_a_token_is_reported(gcs: GcsStore, gcs_server: GcsServer) -> None:
    gcs_server.api.token_reply = {"error": "none today"}

    with pytest.raises(StoreError) as caught:
        await gcs.check()

    assert caught.value.cause == "credentials"


async def test_cancelling_one_request_does_not_cancel_the_others_that_wait_for_the_token(
    gcs: GcsStore, gcs_server: GcsServer
) -> None:
    gate = gcs_server.hold("token", "reply")
    uploads = [asyncio.create_task(gcs.create(f"chunks/{n}", b"", {})) for n in range(3)]
    await gate.reached()

    uploads[0].cancel()
    gate.open()
    outcomes = await asyncio.gather(*uploads, return_exceptions=True)

    assert isinstance(outcomes[0], asyncio.CancelledError)
    assert outcomes[1:] == [None, None]


async def test_close_ends_a_refresh_in_the_background(gcs: GcsStore, gcs_server: GcsServer) -> None:
    await gcs.check()
    assert gcs._credentials is not None
    gcs._credentials.access_token_preempt_after = 0
    gate = gcs_server.hold("token", "reply")
    await gcs.check()
    await gate.reached()

    await gcs.close()

    assert gcs._credentials.acquiring is not None
    assert gcs._credentials.acquiring.cancelled()


@pytest.mark.parametrize("content", [None, "", "not json", "[]", "{}", '{"type": "unheard-of"}', '{"no": "type"}'])
async def test_credentials_that_are_none_are_a_settings_error(
    gcs: GcsStore, tmp_path: Path, content: str | None
) -> None:
    path = tmp_path / "credentials.json"
    path.unlink()
    if content is not None:
        path.write_text(content)

    with pytest.raises(SettingsError, match="GOOGLE_APPLICATION_CREDENTIALS"):
        await gcs.check()


async def test_an_emulator_gets_no_token_and_no_credentials_are_looked_for(
    gcs_server: GcsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", "/does/not/exist")
    gcs = GcsStore(gcs_server.bucket, emulator_host=gcs_server.url)

    await gcs.create(NAME, b"", {})

    assert gcs_server.count("*") == 1
    await gcs.close()
