"""A spool's directory, and a worker with its Redis and its store."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import redis.asyncio

from tests.gcs_server import GcsServer
from tests.harness import Rig
from worker.runtime.timing import Timing
from worker.settings import Settings
from worker.spool.volume import Volume


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Where the spool is; it exists."""
    path = tmp_path / "spool"
    path.mkdir()
    return path


@pytest.fixture
def volume(directory: Path) -> Volume:
    return Volume(directory)


@pytest.fixture
def rig(
    settings: Callable[..., Settings], redis_client: redis.asyncio.Redis, gcs_server: GcsServer, timing: Timing
) -> Rig:
    """On the shared Redis, with an empty bucket of its own."""
    return Rig(settings, redis_client, gcs_server, timing)
