"""What the probes say, on a worker that is wired as in production."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from tests.support.clock import Clock
from tests.support.harness import Running
from worker.model.causes import StoreCause
from worker.operations.health import WorkerHealth
from worker.runtime.context import Context
from worker.runtime.timing import HealthTiming
from worker.settings import Settings
from worker.spool.names import SpoolOwner
from worker.spool.spool import Spool
from worker.spool.volume import Volume
from worker.stream.leases import Member


@pytest.fixture
async def running(settings: Callable[..., Settings]) -> AsyncIterator[Running]:
    """A worker that has been wired and does not run."""
    running = Running(settings(encode_threads=1))
    yield running
    await running.close()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def health(running: Running, clock: Clock) -> WorkerHealth:
    """Its health, as if the last turn and the last answer of Redis were of this moment."""
    health = WorkerHealth(clock)
    worker = running.worker
    worker._consumer.last_turn = worker._ownership.last_success = worker._ownership._client.clock()
    health.began(worker._consumer, worker._ownership, running.health._store)  # type: ignore[arg-type]
    clock.now = worker._consumer.last_turn
    return health


def test_starting_worker_is_live_and_not_ready() -> None:
    health = WorkerHealth()
    assert (health.live(), health.ready()) == ([], ["starting"])


def test_worker_that_waits_for_partitions_is_ready(health: WorkerHealth) -> None:
    assert (health.live(), health.ready()) == ([], [])


def test_worker_whose_turns_do_not_end_needs_a_restart(health: WorkerHealth, clock: Clock) -> None:
    clock.now += HealthTiming().wedged - 1
    assert health.live() == []
    clock.now += 2
    assert health.live() == ["no turn was finished for 61 s"]
    assert "no turn was finished for 61 s" in health.ready()


def test_outage_of_redis_makes_it_unready_and_needs_no_restart(health: WorkerHealth, running: Running) -> None:
    running.worker._ownership.last_success -= 16
    assert health.live() == []
    assert health.ready() == ["Redis does not answer"]


def test_store_that_refuses_for_long_makes_it_unready_and_needs_no_restart(
    health: WorkerHealth, running: Running, clock: Clock
) -> None:
    store = running.health._store
    assert store is not None
    store.failing_since, store.cause = clock.now, StoreCause.PERMISSION
    assert health.ready() == []
    clock.now += HealthTiming().store + 1
    assert health.live() == []
    assert health.ready() == ["the store refuses (permission) for 31 s"]
    store.failing_since = None
    assert health.ready() == []


def test_a_store_that_has_just_begun_to_refuse_is_told_at_once(
    health: WorkerHealth, running: Running, clock: Clock
) -> None:
    store = running.health._store
    assert store is not None
    assert health.notices() == []
    store.failing_since, store.cause = clock.now - 2, StoreCause.PERMISSION
    assert health.ready() == []
    assert health.notices() == ["the store refuses (permission) for 2 s, and is asked again"]
    assert health.describe(Member("anna")).notice == health.notices()[0]
    clock.now += HealthTiming().store + 1
    assert health.notices() == []  # it is a trouble by now
    assert health.describe(Member("anna")).trouble == "the store refuses (permission) for 33 s"


def test_blobs_that_pile_up_in_the_spool_are_told(health: WorkerHealth, tmp_path: Path) -> None:
    spool = Spool(Volume(tmp_path), SpoolOwner("gs://bucket", "pcm"), 1000, Context())
    health._spool = spool
    spool.waiting, spool.oldest = 3, HealthTiming().spool
    assert health.notices() == []
    spool.oldest += 1
    assert health.notices() == ["the store has not taken 3 blobs that wait in the spool"]


def test_store_that_has_not_answered_yet_makes_it_unready_at_once(health: WorkerHealth, running: Running) -> None:
    store = running.health._store
    assert store is not None
    store.is_awaited = True
    assert health.live() == []
    assert health.ready() == ["the store has not answered yet"]
    store.failing_since, store.cause = 0.0, StoreCause.TIMEOUT
    assert health.ready() == ["the store has not answered yet (timeout)"]
