"""Repeating for ever, and telling an outage from a hiccup when there is another place for the audio."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from structlog.testing import capture_logs

from tests.support.clock import Clock
from tests.support.gcs.server import GcsServer
from tests.support.harness import eventually
from worker.errors import ObjectExists, ObjectMissing, Outage, StoreError
from worker.model.causes import StoreCause
from worker.runtime.metrics import PREFIX, Metrics
from worker.runtime.tasks import end
from worker.runtime.timing import Backoff, StoreTiming
from worker.stores.gcs import GcsStore
from worker.stores.monitored import MonitoredStore
from worker.stores.retrying import RetryingStore

NAME = "chunks/u/c/1.000.opus"
PATIENCE = 30.0
TIMING = StoreTiming(retry=Backoff(0.01, 30.0))


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
def watched(gcs: GcsStore, clock: Clock, metrics: Metrics) -> MonitoredStore:
    return MonitoredStore(gcs, asyncio.Semaphore(4), metrics, clock)


def retrying(store: MonitoredStore, give_up_after: float | None = None) -> RetryingStore:
    return RetryingStore(store, give_up_after, timing=TIMING)


async def test_a_refusal_is_repeated_until_it_is_none(watched: MonitoredStore, gcs_server: GcsServer) -> None:
    gcs_server.fail("insert.*", times=5)
    await retrying(watched).create("chunks/u/c/1.000.opus", b"audio", {})
    assert gcs_server.count("insert.*") == 6
    assert watched.health.failing_since is None


async def test_a_store_that_refuses_for_long_is_an_outage(
    watched: MonitoredStore, gcs_server: GcsServer, clock: Clock
) -> None:
    gcs_server.fail("insert.*", times=1000)
    store = retrying(watched, PATIENCE)
    creating = asyncio.create_task(store.create("chunks/u/c/1.000.opus", b"audio", {}))
    await eventually(lambda: gcs_server.count("insert.*") >= 3)
    clock.now += PATIENCE
    with pytest.raises(Outage, match="server"):
        await creating


async def test_any_success_ends_an_outage(watched: MonitoredStore, gcs_server: GcsServer, clock: Clock) -> None:
    store = retrying(watched, PATIENCE)
    watched.health.failing_since = clock.now - PATIENCE - 1
    await watched.create("chunks/u/c/1.000.opus", b"another worker's task", {})
    await store.create("chunks/u/c/2.000.opus", b"audio", {})
    assert len(gcs_server.objects()) == 2


async def test_during_an_outage_one_request_at_a_time_finds_out_whether_it_is_over(
    watched: MonitoredStore, gcs_server: GcsServer, clock: Clock
) -> None:
    gcs_server.fail("insert.*", times=2)
    store = retrying(watched, PATIENCE)
    watched.health.failing_since = clock.now - PATIENCE
    for expected in (1, 1, 1):
        with pytest.raises(Outage):
            await store.create("chunks/u/c/1.000.opus", b"audio", {})
        assert gcs_server.count("insert.*") == expected
    clock.now += TIMING.probe
    with pytest.raises(Outage):
        await store.create("chunks/u/c/1.000.opus", b"audio", {})
    clock.now += TIMING.probe
    await store.create("chunks/u/c/1.000.opus", b"audio", {})
    assert gcs_server.count("insert.*") == 3


async def test_an_outage_is_forgotten_when_the_last_request_is_called_off(
    watched: MonitoredStore, gcs_server: GcsServer
) -> None:
    gcs_server.fail("insert.*", times=1000)
    store = retrying(watched)
    first, last = (asyncio.create_task(store.create(f"chunks/u/c/{n}.000.opus", b"audio", {})) for n in (1, 2))
    await eventually(lambda: gcs_server.count("insert.*") >= 4)

    await end([first])
    assert watched.health.failing_since is not None
    await end([last])
    assert watched.health.failing_since is None


async def test_an_outage_goes_on_after_a_request_was_sent_elsewhere(
    watched: MonitoredStore, gcs_server: GcsServer, clock: Clock
) -> None:
    gcs_server.fail("insert.*", times=1000)
    with pytest.raises(Outage):
        await retrying(watched, 0.0).create("chunks/u/c/1.000.opus", b"audio", {})
    assert watched.health.failing_since == clock.now


async def test_a_taken_name_is_an_answer_and_no_refusal(watched: MonitoredStore, clock: Clock) -> None:
    store = retrying(watched, PATIENCE)
    await store.create("chunks/u/c/1.000.opus", b"audio", {})
    watched.health.failing_since = clock.now - PATIENCE
    with pytest.raises(ObjectExists):
        await store.create("chunks/u/c/1.000.opus", b"audio", {})
    assert watched.health.failing_since is None


async def test_a_deletion_is_never_given_up(watched: MonitoredStore, gcs_server: GcsServer, clock: Clock) -> None:
    await watched.create("chunks/u/c/1.000.opus", b"audio", {})
    watched.health.failing_since = clock.now - PATIENCE
    gcs_server.fail("delete", times=3)
    assert await retrying(watched, PATIENCE).delete("chunks/u/c/1.000.opus")


async def test_waiting_as_long_as_the_store_asks_does_not_delay_the_spool(watched: MonitoredStore) -> None:
    asked = StoreError("slow down", cause=StoreCause.THROTTLED, retry_after=3600.0)
    assert retrying(watched)._wait_for(asked) == 3600.0
    assert retrying(watched, PATIENCE)._wait_for(asked) == TIMING.retry.longest


def retries(metrics: Metrics, cause: str) -> float | None:
    return metrics.registry.get_sample_value(f"{PREFIX}_store_retries_total", {"cause": cause})


TAKEN: dict[str, Any] = {"action": "status", "status": 412, "reason": "conditionNotMet", "message": "not held"}
REFUSALS: list[tuple[str, dict[str, Any]]] = [
    ("inconsistent", TAKEN),
    ("unexpected", {"action": "other_json", "body": {}}),
    ("unexpected", {"action": "answer", "status": 307, "headers": {"Location": "/"}}),
    ("corrupt", {"action": "keep_other_bytes"}),
    ("corrupt", {"action": "corrupt"}),
]


async def test_put_tells_what_has_the_name(watched: MonitoredStore) -> None:
    store = retrying(watched)
    assert await store.put(NAME, b"first", {"writer": "1"}) is None
    found = await store.put(NAME, b"second", {"writer": "2"})
    assert found is not None
    assert (found.name, found.size, found.metadata) == (NAME, 5, {"writer": "1"})


@pytest.mark.slow
@pytest.mark.parametrize(("cause", "fault"), REFUSALS)
async def test_a_refused_put_is_repeated_with_backoff_counted_and_logged(
    watched: MonitoredStore, gcs_server: GcsServer, metrics: Metrics, cause: str, fault: dict[str, Any]
) -> None:
    gcs_server.fail("insert.*", times=4, **fault)
    began = time.monotonic()
    with capture_logs() as events:
        assert await retrying(watched).put(NAME, b"audio", {}) is None
        watched.digest.flush()
    assert time.monotonic() - began >= 0.01 * (1 + 2 + 4 + 8)
    assert gcs_server.count("insert.*") == 5
    assert retries(metrics, cause) == 4
    refused = [event for event in events if event["event"] == "store.refused"]
    assert ({event["cause"] for event in refused}, sum(event["times"] for event in refused)) == ({cause}, 4)
    assert gcs_server.objects()[NAME].data == b"audio"


@pytest.mark.parametrize(("cause", "fault"), REFUSALS)
async def test_a_put_that_is_refused_for_long_makes_the_store_unwell_and_is_an_outage(
    watched: MonitoredStore, gcs_server: GcsServer, clock: Clock, cause: str, fault: dict[str, Any]
) -> None:
    gcs_server.fail("insert.*", times=1000, **fault)
    putting = asyncio.create_task(retrying(watched, PATIENCE).put(NAME, b"audio", {}))
    await eventually(lambda: gcs_server.count("insert.*") >= 3)
    assert (watched.health.failing_since, watched.health.cause) == (clock.now, cause)
    clock.now += PATIENCE
    with pytest.raises(Outage, match=cause):
        await putting
    assert watched.health.failing_for(clock.now) == PATIENCE


async def test_a_name_that_is_taken_by_nothing_says_so(watched: MonitoredStore, gcs_server: GcsServer) -> None:
    gcs_server.fail("insert.*", **TAKEN)
    with pytest.raises(StoreError, match=rf"says that {NAME} exists, and shows no such object"):
        await watched.put(NAME, b"audio", {})


async def test_a_put_that_cannot_look_up_what_has_the_name_is_repeated_as_a_whole(
    watched: MonitoredStore, gcs_server: GcsServer, metrics: Metrics
) -> None:
    await watched.create(NAME, b"audio", {"writer": "1"})
    gcs_server.fail("get", "status", status=503)
    found = await retrying(watched).put(NAME, b"audio", {})
    assert found is not None
    assert found.metadata == {"writer": "1"}
    assert retries(metrics, "server") == 1
    assert gcs_server.count("insert.*") == 3


@pytest.mark.parametrize("error", [RuntimeError, AssertionError, RecursionError, KeyError, MemoryError])
async def test_an_error_that_nobody_foresaw_is_a_refusal_like_every_other(
    watched: MonitoredStore,
    gcs: GcsStore,
    metrics: Metrics,
    clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
    error: type[Exception],
) -> None:
    async def failing(*_: object) -> None:
        raise error("a bug")

    with monkeypatch.context() as patch, capture_logs() as events:
        patch.setattr(gcs, "create", failing)
        with pytest.raises(StoreError, match=rf"{error.__name__}: .*a bug") as caught:
            await watched.put(NAME, b"audio", {})
        watched.digest.flush()
    assert caught.value.cause == "unexpected"
    assert (watched.health.failing_since, watched.health.cause) == (clock.now, "unexpected")
    assert retries(metrics, "unexpected") == 1
    assert [error.__name__ in event["error"] for event in events] == [True]
    assert await retrying(watched).put(NAME, b"audio", {}) is None


async def test_a_request_that_is_called_off_is_no_refusal(
    watched: MonitoredStore, gcs_server: GcsServer, metrics: Metrics
) -> None:
    gate = gcs_server.hold("insert.*")
    putting = asyncio.create_task(retrying(watched).put(NAME, b"audio", {}))
    await gate.reached()
    putting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await putting
    assert watched.health.failing_since is None
    samples = [sample for family in metrics.retries.collect() for sample in family.samples]
    assert {sample.value for sample in samples if sample.name.endswith("_total")} == {0.0}


async def test_a_read_is_repeated_until_it_succeeds_unless_there_is_nothing(
    watched: MonitoredStore, gcs_server: GcsServer, metrics: Metrics
) -> None:
    store = retrying(watched)
    with pytest.raises(ObjectMissing):
        await store.read(NAME)
    await store.create(NAME, b"audio", {})
    gcs_server.fail("download", "corrupt", times=2)
    assert await store.read(NAME) == b"audio"
    assert retries(metrics, "corrupt") == 2


async def test_a_deletion_of_one_generation_leaves_another(watched: MonitoredStore) -> None:
    store = retrying(watched)
    await store.create(NAME, b"first", {})
    first = await store.stat(NAME)
    assert first is not None
    await store.delete(NAME)
    await store.create(NAME, b"second", {})
    assert not await store.delete(NAME, first.generation)
    assert await store.read(NAME) == b"second"
