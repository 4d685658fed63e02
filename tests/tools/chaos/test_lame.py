"""The figures of `make chaos ARGS=lame`; a run of it takes minutes."""

from __future__ import annotations

import math
from collections import Counter

import pytest

from tests.tools.chaos.lame import DEAD, HUNG, WHOLE, Count, lameness


def count(pushed: int = 1000, stored: int = 1000, slowest: float = 0.02) -> Count:
    """Ten seconds in which one of 100 done steps took longer than `slowest`."""
    return Count(10.0, pushed, stored, Counter({0.01: 50, slowest: 99, math.inf: 100}))


def test_p99_lies_within_its_bucket() -> None:
    assert Count(done=Counter({0.01: 90, 0.02: 100, math.inf: 100})).p99 == pytest.approx(0.019)
    assert count(slowest=0.04).p99 == pytest.approx(0.04)


def test_a_backlog_that_is_stored_is_no_higher_rate() -> None:
    caught_up = count(stored=1100)
    assert lameness({WHOLE: caught_up, DEAD: count(), HUNG: count()}) == []


@pytest.mark.parametrize("lame", [count(pushed=940), count(stored=940), count(slowest=0.05)], ids=repr)
def test_slower_pushes_stores_or_done_steps_are_told(lame: Count) -> None:
    well = count(pushed=960, stored=960, slowest=0.039)
    assert lameness({WHOLE: count(), DEAD: well, HUNG: well}) == []
    assert len(lameness({WHOLE: count(), DEAD: lame, HUNG: well})) == 1
    assert len(lameness({WHOLE: count(), DEAD: lame, HUNG: lame})) == 2
