"""A spool's directory, and its drainer with its Redis and its store."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.harness import Rig
from tests.support.spool_fixtures import directory, volume
from tests.support.spool_harness import Bench, opened

__all__ = ["directory", "volume"]


@pytest.fixture
async def bench(rig: Rig, directory: Path) -> AsyncIterator[Bench]:
    async with opened(rig, directory) as bench:
        yield bench
