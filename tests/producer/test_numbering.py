"""The counters of conversations: never back, and forgotten in time."""

from __future__ import annotations

from tests.clock import Clock
from worker.producer.numbering import IDLE_SECONDS, Numbering


def test_counters_are_forgotten_after_an_hour_without_pushes() -> None:
    clock = Clock(0)
    numbering = Numbering(clock)
    numbering.take("old")
    clock.now = IDLE_SECONDS
    numbering.take("new")
    assert numbering.following("old") == 1
    clock.now = IDLE_SECONDS + 1
    numbering.take("new")
    assert (numbering.following("old"), numbering.following("new"), len(numbering)) == (0, 2, 1)


def test_past_the_limit_the_longest_idle_counter_is_forgotten() -> None:
    numbering = Numbering(Clock(0), limit=2)
    for conversation in ("a", "b", "a", "c"):
        numbering.take(conversation)
    assert [numbering.following(conversation) for conversation in "abc"] == [2, 0, 1]


def test_counting_never_goes_back() -> None:
    numbering = Numbering(Clock(0))
    assert [numbering.take("c", seq) for seq in (None, 7, 3, None)] == [0, 7, 3, 8]
