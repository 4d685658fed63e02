"""Both kinds of store, each empty, with an archive and a conversation's shelf on it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import stamina

from tests.archive.blobs import OLD_SECRET, Shelf
from tests.conftest import TEST_SECRET
from tests.gcs_server import GcsServer
from worker.archive import Archive
from worker.settings import Settings
from worker.stores import open_store
from worker.stores.base import Store


@pytest.fixture(autouse=True)
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
def shelf(store: Store) -> Shelf:
    return Shelf(store)


@pytest.fixture
async def directory(tmp_path: Path) -> AsyncIterator[Shelf]:
    """A conversation in the directory that `environment` names, for commands."""
    opened = open_store((tmp_path / "store").as_uri())
    yield Shelf(opened)
    await opened.close()


@pytest.fixture
def environment(settings: object, tmp_path: Path) -> Settings:
    """Settings for commands on `directory`."""
    made: Settings = settings(store_url=(tmp_path / "store").as_uri())  # type: ignore[operator]
    return made
