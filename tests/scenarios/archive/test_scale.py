"""A day of audio: few requests, many reads at once, and memory as for a minute."""

from __future__ import annotations

import asyncio
import json
import sys

import pytest

from tests.support.gcs.server import GcsServer
from tests.support.paths import ROOT
from tests.support.stored_blobs import T0
from worker.archive import Archive
from worker.archive.blobs.ordered import ordered
from worker.stores.base import Store

pytestmark = pytest.mark.usefixtures("no_waiting_between_tries")

MINUTES = 24 * 60


async def test_a_day_is_listed_in_two_requests(gcs: Store, gcs_server: GcsServer) -> None:
    async def create(minute: int) -> None:
        await gcs.create(f"chunks/user/talk/{T0 + 60 * minute:.3f}.opus.enc", b"x", {"samples": "960000"})

    async for _ in ordered(range(MINUTES), create, limit=32):
        pass
    gcs_server.requests.clear()

    listing = await Archive(gcs).list("user", "talk")

    assert len(listing.blobs) == MINUTES
    assert gcs_server.count("list") == gcs_server.count("*") == 2


async def test_a_day_downloads_in_flat_memory_with_several_reads_at_once() -> None:
    """How much time that saves is for `python -m tests.support.day_of_audio` to print: times depend on the machine."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.support.day_of_audio", "pcm", cwd=ROOT, stdout=asyncio.subprocess.PIPE
    )
    output, _ = await process.communicate()
    measured = json.loads(output)

    assert measured["bytes"] == MINUTES * 60 * 16000 * 2
    assert measured["mb"] < 150
    assert measured["most_reading"] >= 4


async def test_results_keep_their_order_within_limit_and_budget() -> None:
    running: set[int] = set()
    most = heaviest = 0

    async def work(item: int) -> int:
        nonlocal most, heaviest
        running.add(item)
        most, heaviest = max(most, len(running)), max(heaviest, sum(running))
        for _ in range(10 - item % 10):
            await asyncio.sleep(0)
        running.remove(item)
        return item

    results = [item async for item in ordered(range(50), work, limit=7, weight=lambda item: item, budget=60)]

    assert results == list(range(50))
    assert 1 < most <= 7
    assert heaviest <= 60


async def test_leaving_early_cancels_what_is_under_way() -> None:
    cancelled = 0

    async def work(item: int) -> int:
        nonlocal cancelled
        try:
            await asyncio.sleep(3600 if item else 0)
        except asyncio.CancelledError:
            cancelled += 1
            raise
        return item

    results = ordered(range(10), work, limit=5)
    assert await anext(results) == 0
    await results.aclose()

    assert cancelled == 4
