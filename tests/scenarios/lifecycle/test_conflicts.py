"""A conflict means that other audio has a batch's name: crashes, take-overs and spools alone make none."""

from __future__ import annotations

from collections.abc import MutableMapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from tests.scenarios.lifecycle.test_first_start import copied, put_back, start
from tests.support.dying_process import dying_process
from tests.support.harness import EXACT, Harness, Running, eventually
from tests.support.oracle import Talk, assert_plays, assert_stored_once
from tests.support.timing import SHORT_RESTS
from worker.model.causes import Verdict

TALKS = 40
WAVES = 3


def talks() -> list[Talk]:
    return [Talk(f"c{number}", uid=f"user-{number % 3}") for number in range(TALKS)]


def assert_no_conflict(events: Sequence[MutableMapping[str, Any]], running: Running | None = None) -> None:
    assert [event for event in events if event["event"] == "store.conflict"] == []
    if running is not None:
        assert sum(running.count("store_conflicts_total", outcome=verdict) for verdict in Verdict) == sum(
            event["event"] == "store.recognised" for event in events
        )


def spooling(mode: str, tmp_path: Path) -> dict[str, Any]:
    return {} if mode == "off" else {"spool_dir": tmp_path / "spool", "spool_mode": mode}


@pytest.mark.parametrize("mode", ["off", "outage", "always"])
async def test_take_over_from_a_killed_worker(harness: Harness, tmp_path: Path, mode: str) -> None:
    harness.partitions = 8
    speakers = talks()
    changes = {"lease_ttl": 1.0, "batch_max_seconds": 1.0, **EXACT, **spooling(mode, tmp_path)}
    for talk in speakers:
        await harness.say(talk, WAVES)
    async with dying_process(harness.settings(**changes)) as doomed:
        await eventually(lambda: len(harness.blobs()) > TALKS)
        doomed.kill()
    for talk in speakers:
        await harness.say(talk, 1)
    with capture_logs() as events:
        running = await harness.drain(**changes)
    assert_no_conflict(events, running)
    for talk in speakers:
        assert_stored_once(talk, harness.blobs())


@pytest.mark.parametrize("mode", ["off", "outage", "always"])
async def test_peace(harness: Harness, tmp_path: Path, mode: str) -> None:
    speakers = talks()
    for talk in speakers:
        await harness.say(talk, WAVES)
    with capture_logs() as events:
        running = await harness.drain(batch_max_seconds=1.0, **EXACT, **spooling(mode, tmp_path))
    assert_no_conflict(events, running)
    assert running.count("store_conflicts_total", outcome="same") == 0
    for talk in speakers:
        assert_stored_once(talk, harness.blobs())


async def test_old_copy_of_redis_whose_conversations_have_other_objects(harness: Harness) -> None:
    """All objects of the conversations are looked at, under whatever name they are."""
    harness.timing = SHORT_RESTS
    speakers = talks()
    for talk in speakers:
        await harness.say(talk, WAVES)
    copy = await copied(harness)
    await start(harness, batch_max_seconds=1.0)
    await put_back(harness, copy)
    for talk in speakers:
        await harness.say(talk, 1)
    with capture_logs() as events:
        await start(harness, batch_max_seconds=1.0)
    assert_no_conflict(events)
    for talk in speakers:
        assert_plays(talk, harness.blobs())
