"""kill -9 at every step of a batch's life; then a new worker: every sample is stored exactly once."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.gcs.faults import Stage
from tests.support.harness import EXACT, Harness, eventually
from tests.support.oracle import Talk, assert_stored_once, blobs_of
from tests.support.process import Process, environment

FAST: dict[str, Any] = {"lease_ttl": 1.0, **EXACT}
CLOSED_BY: dict[str, dict[str, Any]] = {"size": FAST, "age": {"batch_max_age": 0.6, "batch_max_seconds": 60, **FAST}}


@pytest.fixture(params=CLOSED_BY)
def closing(request: pytest.FixtureRequest) -> dict[str, Any]:
    """Settings under which a batch is closed by its size, or by its age."""
    return CLOSED_BY[request.param]


def worker(harness: Harness, **changes: object) -> Process:
    return Process(environment(harness.settings(**changes)), "run")


async def assert_recovered(harness: Harness, talk: Talk, **changes: object) -> None:
    running = await harness.drain(**changes)
    assert_stored_once(talk, harness.blobs())
    events = sorted(event["object"] for event in await harness.events())
    assert events == sorted(blob.name for blob in harness.blobs())
    assert await harness.dead() == []
    assert running.count("lost_entries_total") == 0


async def test_killed_after_it_has_accepted_entries(harness: Harness) -> None:
    talk = Talk("c")
    async with worker(harness, **FAST) as process:
        await harness.say(talk, 2)

        async def accepted() -> bool:
            return await harness.pending() == 4

        await eventually(accepted)
        await process.kill()
    assert harness.blobs() == []
    await harness.say(talk, 2)
    await assert_recovered(harness, talk, **FAST)
    assert [blob.samples for blob in blobs_of(talk, harness.blobs())] == [48000, 16000]


@pytest.mark.parametrize("stage", ["request", "commit", "reply"])
async def test_killed_while_it_uploads(harness: Harness, closing: dict[str, Any], stage: Stage) -> None:
    """Sealed and nothing sent; all sent and nothing stored; stored, and the reply not received."""
    talk = Talk("c")
    gate = harness.server.hold(stage=stage)
    async with worker(harness, **closing) as process:
        await harness.say(talk, 3)
        await gate.reached()
        assert await harness.seals() == 1
        await process.kill()
    gate.open()
    await harness.server.settled()
    assert len(harness.blobs()) == (stage != "request")
    await harness.say(talk, 1)
    await assert_recovered(harness, talk, **closing)
    assert [blob.samples for blob in blobs_of(talk, harness.blobs())] == [48000, 16000]


async def test_killed_while_its_upload_meets_that_of_the_next_worker(harness: Harness, closing: dict[str, Any]) -> None:
    """The dead worker's request is still under way in the store when the next one comes with the same name."""
    talk = Talk("c")
    gate = harness.server.hold(stage="commit")
    async with worker(harness, **closing) as process:
        await harness.say(talk, 3)
        await gate.reached()
        await process.kill()
    async with harness.worker(**closing):
        await gate.reached(2)
        gate.open()
    await assert_recovered(harness, talk, **closing)
    assert len(harness.blobs()) == 1


async def test_killed_after_the_done_step(harness: Harness, closing: dict[str, Any]) -> None:
    talk = Talk("c")
    async with worker(harness, **closing) as process:
        await harness.say(talk, 3)
        await eventually(harness.events)
        await process.kill()
    await harness.assert_empty()
    await harness.push(*talk.chunks[-2:])
    await assert_recovered(harness, talk, **closing)
    assert len(harness.blobs()) == 1


async def test_several_workers_killed_in_a_row_at_the_store_do_not_condemn_the_audio(harness: Harness) -> None:
    talk = Talk("c")
    gate = harness.server.hold(stage="request")
    await harness.say(talk, 4)
    for number in range(1, 5):
        async with worker(harness, **FAST) as process:
            await gate.reached(number)
            await process.kill()
    gate.open()
    await assert_recovered(harness, talk, **FAST)
