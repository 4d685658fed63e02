"""Fixtures with a Cloud Storage test server: in this process, or in one of its own for workers that get killed."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import TYPE_CHECKING

import pytest

from tests.support.gcs.control import GcsClient
from tests.support.gcs.server import GcsServer
from tests.support.paths import ROOT

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@pytest.fixture
async def gcs_server() -> AsyncIterator[GcsServer]:
    """An empty bucket of its own for each test; `server.url` is the emulator host, `server.bucket` the bucket."""
    async with GcsServer() as server:
        yield server


@pytest.fixture
async def gcs_process() -> AsyncIterator[GcsClient]:
    """The same in another process, which goes on when the event loop of this one is busy or blocked."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.support.gcs.server", "--port", "0", cwd=ROOT, stdout=asyncio.subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        where = json.loads(await asyncio.wait_for(process.stdout.readline(), 30))
        async with GcsClient(where["url"], where["bucket"]) as client:
            yield client
    finally:
        process.kill()
        await process.wait()
