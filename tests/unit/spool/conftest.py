"""A spool's directory, and its drainer with its Redis and its store."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.harness import Harness
from tests.support.spool_fixtures import directory, volume
from tests.support.spool_harness import SpoolHarness, open_spool

__all__ = ["directory", "volume"]


@pytest.fixture
async def spool_harness(harness: Harness, directory: Path) -> AsyncIterator[SpoolHarness]:
    async with open_spool(harness, directory) as spool_harness:
        yield spool_harness
