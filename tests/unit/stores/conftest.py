"""Both stores, each empty."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from worker.stores import open_store
from worker.stores.base import Store
from worker.stores.gcs import GcsStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.support.gcs.server import GcsServer


@pytest.fixture
async def gcs(gcs_server: GcsServer) -> AsyncIterator[GcsStore]:
    """A store in the test server's bucket."""
    store = GcsStore(gcs_server.bucket, emulator_host=gcs_server.url)
    yield store
    await store.close()


@pytest.fixture(params=["", "/a/prefix", "file"], ids=["gs", "gs-prefix", "file"])
async def store(request: pytest.FixtureRequest, tmp_path: Path, gcs_server: GcsServer) -> AsyncIterator[Store]:
    """Each kind of store, as STORE_URL opens it."""
    if request.param == "file":
        opened = open_store(f"file://{tmp_path}/blobs")
    else:
        opened = open_store(f"gs://{gcs_server.bucket}{request.param}", emulator_host=gcs_server.url)
    yield opened
    await opened.close()
