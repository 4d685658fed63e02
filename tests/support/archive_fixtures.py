"""Fixtures with both kinds of store, each empty, and an archive and a conversation's folder on it.

A folder's conftest.py imports those that its tests need.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import stamina

from tests.support.gcs.server import GcsServer
from tests.support.secret import TEST_SECRET
from tests.support.stored_blobs import OLD_SECRET, ConversationFolder
from worker.archive import Archive
from worker.settings import Settings
from worker.stores import open_store
from worker.stores.base import Store


@pytest.fixture
def no_waiting_between_tries() -> Iterator[None]:
    with stamina.set_testing(True, attempts=5):
        yield


@pytest.fixture(params=["gs", "file"])
async def store(request: pytest.FixtureRequest, tmp_path: Path, gcs_server: GcsServer) -> AsyncIterator[Store]:
    if request.param == "file":
        opened = open_store(f"file://{tmp_path}/blobs")
    else:
        opened = open_store(f"gs://{gcs_server.bucket}/some/prefix", emulator_host=gcs_server.url)
    yield opened
    await opened.close()


@pytest.fixture
async def gcs(gcs_server: GcsServer) -> AsyncIterator[Store]:
    """For tests that steer the server."""
    opened = open_store(f"gs://{gcs_server.bucket}", emulator_host=gcs_server.url)
    yield opened
    await opened.close()


@pytest.fixture
def archive(store: Store) -> Archive:
    return Archive(store, [TEST_SECRET, OLD_SECRET])


@pytest.fixture
def folder(store: Store) -> ConversationFolder:
    return ConversationFolder(store)


@pytest.fixture
async def local_folder(tmp_path: Path) -> AsyncIterator[ConversationFolder]:
    """A conversation in the directory that `environment` names, for commands."""
    opened = open_store((tmp_path / "store").as_uri())
    yield ConversationFolder(opened)
    await opened.close()


@pytest.fixture
def environment(settings: object, tmp_path: Path) -> Settings:
    """Settings for commands on `local_folder`."""
    made: Settings = settings(store_url=(tmp_path / "store").as_uri())  # type: ignore[operator]
    return made
