"""How long a worker waits: every default pinned, and what a backoff makes of failures."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import asdict

import pytest

from worker.errors import StoreError
from worker.model.causes import StoreCause
from worker.runtime.timing import Backoff, Timing

DEFAULTS = {
    "process": {"start_retry": 2.0, "patience": 3.0, "release": 2.0},
    "reading": {
        "poll": 0.5,
        "handover": 5.0,
        "rest": 1.0,
        "remind": 60.0,
        "batch_retry": {"first": 1.0, "longest": 30.0, "jitter": 0.0},
    },
    "delivery": {
        "done_retry": {"first": 0.1, "longest": 10.0, "jitter": 1.0},
        "orphans": 2.0,
        "erase_retry": {"first": 2.0, "longest": 600.0, "jitter": 0.0},
        "losses": 2.0,
        "recovery_rest": 2.0,
    },
    "store": {"retry": {"first": 0.5, "longest": 30.0, "jitter": 1.0}, "probe": 5.0},
    "spool": {
        "scan": 5.0,
        "retry": {"first": 0.5, "longest": 30.0, "jitter": 1.0},
        "patience": 30.0,
        "rest": 5.0,
    },
    "gauges": {
        "delay": 0.1,
        "observe": 2.0,
        "account": 30.0,
        "busy_account": 300.0,
        "strays": 120.0,
        "stray_step": 0.02,
    },
    "health": {"wedged": 60.0, "store": 30.0, "spool": 120.0},
}


def test_every_default_is_pinned() -> None:
    assert asdict(Timing()) == DEFAULTS


@pytest.mark.parametrize(("failures", "wait"), [(1, 0.5), (2, 1.0), (3, 2.0), (7, 30.0), (10**6, 30.0)])
def test_waits_double_from_the_first_to_the_longest(failures: int, wait: float) -> None:
    assert Backoff(0.5, 30.0).after(failures) == wait


@pytest.mark.parametrize("failures", [1, 100])
def test_waits_are_spread_by_up_to_the_jitter(failures: int) -> None:
    least = Backoff(0.5, 30.0).after(failures)
    waits = [Backoff(0.5, 30.0, jitter=2.0).after(failures) for _ in range(100)]
    assert least <= min(waits) < max(waits) < least + 2.0


async def failing(error: Exception, most: int | None) -> int:
    """How often a request that always fails is made."""
    made = 0
    with suppress(StoreError, LookupError):
        async for attempt in Backoff(0.0, 0.0).attempts(lambda error: isinstance(error, StoreError), most):
            with attempt:
                made += 1
                raise error
    return made


async def test_attempts_end_with_the_last_one_or_with_what_is_not_to_be_repeated() -> None:
    assert await failing(StoreError("not now", cause=StoreCause.SERVER), most=3) == 3
    assert await failing(LookupError(), most=None) == 1
