"""A store that lies, or fails as nobody foresaw: asked seldom, reported loudly, and no audio is given up."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.gcs.faults import Fault
from tests.support.gcs.objects import PRECONDITION
from tests.support.harness import EXACT, Harness, Running, eventually
from tests.support.oracle import T0, Talk, assert_plays, assert_stored_once
from tests.support.spooled_blobs import states
from worker.batching.encoder import PcmEncoder
from worker.delivery.sink import NAMES_TRIED
from worker.runtime.timing import Backoff, HealthTiming, ReadingTiming, SpoolTiming, StoreTiming, Timing
from worker.stores.gcs import GcsStore

FOR_EVER = 10**9
LIES = ["inconsistent", "names-taken"]


@pytest.fixture
def timing() -> Timing:
    return Timing(
        reading=ReadingTiming(poll=0.05, batch_retry=Backoff(0.1, 0.4)),
        store=StoreTiming(retry=Backoff(0.1, 0.4), probe=0.2),
        spool=SpoolTiming(scan=0.2, retry=Backoff(0.2, 0.2), rest=0.1),
        health=HealthTiming(store=0.5),
    )


def lie(harness: Harness, monkeypatch: pytest.MonkeyPatch, cause: str) -> Callable[[], None]:
    """Let the store say 412 to every insert, without an object, or with one of somebody else; returns what ends it."""
    if cause == "inconsistent":
        fault = refuse(harness, status=412, reason="conditionNotMet", message=PRECONDITION)
        return lambda: harness.server.script.faults.remove(fault)
    buckets = harness.server.api.buckets
    genuine = buckets.insert

    def insert(bucket: str, name: str, data: bytes, resource: Any, query: Any) -> Any:  # noqa: ANN401 -- as it is
        if name not in harness.server.objects():
            buckets.put(bucket, name, b"of somebody else", {})
        return genuine(bucket, name, data, resource, query)

    monkeypatch.setattr(buckets, "insert", insert)
    return lambda: monkeypatch.setattr(buckets, "insert", genuine)


def refuse(harness: Harness, kind: str = "insert.*", **answer: Any) -> Fault:  # noqa: ANN401 -- fields of `Fault`
    return harness.server.fail(kind, times=FOR_EVER, **answer)


async def stored_at_last(harness: Harness, running: Running, batches: int) -> None:
    await eventually(lambda: sum(_done(running)) == batches)
    await harness.assert_empty()
    assert await harness.dead() == []
    assert running.count("lost_entries_total") == running.count("duplicates_total") == 0


def _done(running: Running) -> list[float]:
    return [running.count("batches_total", trigger=trigger) for trigger in ("audio", "end")]


def assert_ours_play(harness: Harness, talk: Talk) -> None:
    assert_plays(talk, [blob for blob in harness.blobs() if blob.metadata])


@pytest.mark.parametrize("cause", LIES)
@pytest.mark.parametrize("recovered", [False, True])
async def test_store_that_says_of_every_name_that_it_is_taken(
    harness: Harness, monkeypatch: pytest.MonkeyPatch, cause: str, recovered: bool
) -> None:
    """A batch that was read before looks for itself first, and that answer is no sign that the store is well."""
    talk, end = Talk("c"), lie(harness, monkeypatch, cause)
    if recovered:
        async with harness.worker(**EXACT, shutdown="handoff") as former:
            await harness.say(talk, 1)
            await eventually(lambda: former.count("chunks_total") == 2)
    async with harness.worker(**EXACT) as running:
        await harness.say(talk, 3 - len(talk.chunks) / 2)
        began = asyncio.get_running_loop().time()
        await eventually(lambda: any(cause in reason for reason in running.health.ready()))
        tries = (asyncio.get_running_loop().time() - began) / harness.timing.store.retry.first + 2
        assert harness.server.count("insert.*") <= tries * (1 if cause == "inconsistent" else NAMES_TRIED)
        assert running.count("store_retries_total", cause=cause) >= 2
        end()
        await stored_at_last(harness, running, 1)
        await eventually(lambda: list(running.health.ready()) == [])
    assert_ours_play(harness, talk)


@pytest.mark.parametrize("cause", LIES)
async def test_spool_takes_over_from_a_store_that_says_of_every_name_that_it_is_taken(
    harness: Harness, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, cause: str
) -> None:
    talk, end, directory = Talk("c"), lie(harness, monkeypatch, cause), tmp_path / "spool"
    directory.mkdir()
    spooling: dict[str, Any] = {"spool_dir": directory, "spool_mode": "outage", "spool_after": 0.3}
    async with harness.worker(**EXACT, **spooling) as running:
        await harness.say(talk, 6)
        await stored_at_last(harness, running, 2)
        assert len(states(directory)) == 2
        end()
        await eventually(lambda: states(directory) == [])
    assert_ours_play(harness, talk)


async def test_name_that_is_taken_by_others_is_no_sign_of_trouble(harness: Harness) -> None:
    talk = Talk("c")
    async with harness.worker(**EXACT) as running:
        for ms in range(NAMES_TRIED - 1):
            await running.store.create(f"{talk.prefix}{T0 + ms / 1000:.3f}.enc", b"of somebody else", {})
        await harness.say(talk, 3)
        await stored_at_last(harness, running, 1)
        assert [running.count("store_retries_total", cause=cause) for cause in LIES] == [0, 0]
    assert_ours_play(harness, talk)


@pytest.mark.parametrize("method", ["create", "stat"])
async def test_store_that_raises_what_nobody_foresaw(
    harness: Harness, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    """A name is taken, so that the store is also asked by what."""
    talk = Talk("c")
    taken = f"{talk.prefix}{T0:.3f}.enc"

    async def broken(*_: object) -> None:
        raise RuntimeError("a defect of a library")

    async with harness.worker(**EXACT) as running:
        await running.store.create(taken, b"of somebody else", {})
        with monkeypatch.context() as context:
            context.setattr(GcsStore, method, broken)
            await harness.say(talk, 3)
            await eventually(lambda: running.count("store_retries_total", cause="unexpected") >= 5)
            await eventually(lambda: any("unexpected" in reason for reason in running.health.ready()))
            assert await harness.dead() == []
            assert await harness.entries() == 6
        await stored_at_last(harness, running, 1)
    assert_ours_play(harness, talk)


async def test_batch_that_can_not_be_encoded_waits_in_redis_and_holds_up_no_other(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    talk, other = Talk("c"), Talk("other")
    genuine = PcmEncoder.finish

    def broken(self: PcmEncoder) -> bytes:
        content = genuine(self)
        if content == talk.pcm:
            raise RuntimeError("a defect of the encoder")
        return content

    async with harness.worker(**EXACT) as running:
        with monkeypatch.context() as context:
            context.setattr(PcmEncoder, "finish", broken)
            await harness.say(talk, 3)
            await eventually(lambda: running.count("batch_failures_total", error="RuntimeError") >= 4)
            await harness.say(other, 3)
            await eventually(lambda: running.count("batches_total", trigger="audio") == 1)
            assert await harness.dead() == []
            assert await harness.entries() == 6
        await stored_at_last(harness, running, 2)
    assert_ours_play(harness, talk)
    assert_ours_play(harness, other)


async def test_damaged_object_that_may_not_be_deleted_counts_for_nothing(harness: Harness) -> None:
    """Its audio is stored beside it, under the rights that the documents call enough: none to delete."""
    talk, name = Talk("c"), f"chunks/user/c/{T0:.3f}.enc"
    harness.server.fail("insert.*", "keep_other_bytes")
    refuse(harness, "delete", status=403, reason="forbidden", message="no right")
    async with harness.worker(**EXACT) as running:
        await harness.say(talk, 3)
        await stored_at_last(harness, running, 1)
        assert running.count("store_conflicts_total", outcome="damaged") == 1
    assert name in harness.server.objects()
    assert_plays(talk, [blob for blob in harness.blobs() if blob.name != name])
    assert [event["object"] for event in await harness.events()] == [name.replace(".000.", ".001.")]


@pytest.mark.parametrize("wrong", [{"size": "3"}, {"crc32c": "AAAAAA=="}], ids=lambda wrong: next(iter(wrong)))
async def test_own_object_that_a_look_up_describes_wrongly_is_stored_once(
    harness: Harness, wrong: dict[str, str]
) -> None:
    talk = Talk("c")
    harness.server.fail("insert.*", "answer", status=412, body={}, done=True)
    harness.server.fail("get", "misdescribe", times=3, changes=wrong)
    async with harness.worker(**EXACT) as running:
        await harness.say(talk, 3)
        await stored_at_last(harness, running, 1)
    assert_stored_once(talk, harness.blobs())
