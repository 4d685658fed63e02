"""Repeating for ever, and telling an outage from a hiccup when there is another place for the audio."""

from __future__ import annotations

import asyncio

import pytest

from tests.clock import Clock
from tests.gcs_server import GcsServer
from tests.harness import eventually
from worker.errors import ObjectExists, Outage, StoreError
from worker.metrics import Metrics
from worker.stores import patient
from worker.stores.gcs import GcsStore
from worker.stores.patient import PROBE_SECONDS, PatientStore
from worker.stores.watched import WatchedStore
from worker.tasks import end

PATIENCE = 30.0


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def watched(gcs: GcsStore, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> WatchedStore:
    monkeypatch.setattr(patient, "FIRST_WAIT", 0.01)
    monkeypatch.setattr(patient, "JITTER", 0.0)
    return WatchedStore(gcs, asyncio.Semaphore(4), Metrics(), clock)


async def test_a_refusal_is_repeated_until_it_is_none(watched: WatchedStore, gcs_server: GcsServer) -> None:
    gcs_server.fail("insert.*", times=5)
    await PatientStore(watched).create("chunks/u/c/1.000.opus", b"audio", {})
    assert gcs_server.count("insert.*") == 6
    assert watched.health.failing_since is None


async def test_a_store_that_refuses_for_long_is_an_outage(
    watched: WatchedStore, gcs_server: GcsServer, clock: Clock
) -> None:
    gcs_server.fail("insert.*", times=1000)
    store = PatientStore(watched, PATIENCE)
    creating = asyncio.create_task(store.create("chunks/u/c/1.000.opus", b"audio", {}))
    await eventually(lambda: gcs_server.count("insert.*") >= 3)
    clock.now += PATIENCE
    with pytest.raises(Outage, match="server"):
        await creating


async def test_any_success_ends_an_outage(watched: WatchedStore, gcs_server: GcsServer, clock: Clock) -> None:
    store = PatientStore(watched, PATIENCE)
    watched.health.failing_since = clock.now - PATIENCE - 1
    await watched.create("chunks/u/c/1.000.opus", b"another worker's task", {})
    await store.create("chunks/u/c/2.000.opus", b"audio", {})
    assert len(gcs_server.objects()) == 2


async def test_during_an_outage_one_request_at_a_time_finds_out_whether_it_is_over(
    watched: WatchedStore, gcs_server: GcsServer, clock: Clock
) -> None:
    gcs_server.fail("insert.*", times=2)
    store = PatientStore(watched, PATIENCE)
    watched.health.failing_since = clock.now - PATIENCE
    for expected in (1, 1, 1):
        with pytest.raises(Outage):
            await store.create("chunks/u/c/1.000.opus", b"audio", {})
        assert gcs_server.count("insert.*") == expected
    clock.now += PROBE_SECONDS
    with pytest.raises(Outage):
        await store.create("chunks/u/c/1.000.opus", b"audio", {})
    clock.now += PROBE_SECONDS
    await store.create("chunks/u/c/1.000.opus", b"audio", {})
    assert gcs_server.count("insert.*") == 3


async def test_an_outage_is_forgotten_when_the_last_request_is_called_off(
    watched: WatchedStore, gcs_server: GcsServer
) -> None:
    gcs_server.fail("insert.*", times=1000)
    store = PatientStore(watched)
    first, last = (asyncio.create_task(store.create(f"chunks/u/c/{n}.000.opus", b"audio", {})) for n in (1, 2))
    await eventually(lambda: gcs_server.count("insert.*") >= 4)

    await end([first])
    assert watched.health.failing_since is not None
    await end([last])
    assert watched.health.failing_since is None


async def test_an_outage_goes_on_after_a_request_was_sent_elsewhere(
    watched: WatchedStore, gcs_server: GcsServer, clock: Clock
) -> None:
    gcs_server.fail("insert.*", times=1000)
    with pytest.raises(Outage):
        await PatientStore(watched, 0.0).create("chunks/u/c/1.000.opus", b"audio", {})
    assert watched.health.failing_since == clock.now


async def test_a_taken_name_is_an_answer_and_no_refusal(watched: WatchedStore, clock: Clock) -> None:
    store = PatientStore(watched, PATIENCE)
    await store.create("chunks/u/c/1.000.opus", b"audio", {})
    watched.health.failing_since = clock.now - PATIENCE
    with pytest.raises(ObjectExists):
        await store.create("chunks/u/c/1.000.opus", b"audio", {})
    assert watched.health.failing_since is None


async def test_a_deletion_is_never_given_up(watched: WatchedStore, gcs_server: GcsServer, clock: Clock) -> None:
    await watched.create("chunks/u/c/1.000.opus", b"audio", {})
    watched.health.failing_since = clock.now - PATIENCE
    gcs_server.fail("delete", times=3)
    assert await PatientStore(watched, PATIENCE).delete("chunks/u/c/1.000.opus")


async def test_waiting_as_long_as_the_store_asks_does_not_delay_the_spool(watched: WatchedStore) -> None:
    asked = StoreError("slow down", cause="throttled", retry_after=3600.0)
    assert PatientStore(watched)._wait_for(asked) == 3600.0
    assert PatientStore(watched, PATIENCE)._wait_for(asked) == patient.LONGEST_WAIT
