"""The counters of conversations: never back, forgotten in time, and no number twice in one session."""

from __future__ import annotations

from codec.entry import MAX_SESSION_BYTES
from tests.support.clock import Clock
from worker.producer.numbering import IDLE_SECONDS, MAX_BASE_BYTES, Numbering

SESSION = b"s" * MAX_BASE_BYTES


def test_counters_are_forgotten_after_an_hour_without_pushes() -> None:
    clock = Clock(0)
    numbering = Numbering(SESSION, clock)
    numbering.take("old")
    clock.now = IDLE_SECONDS
    numbering.take("new")
    assert numbering.following("old") == (SESSION, 1)
    clock.now = IDLE_SECONDS + 1
    numbering.take("new")
    assert (numbering.following("old").seq, numbering.pushed("old"), len(numbering)) == (0, None, 1)
    assert numbering.following("new") == (SESSION, 2)


def test_past_the_limit_the_longest_idle_counter_is_forgotten() -> None:
    numbering = Numbering(SESSION, Clock(0), limit=2)
    for conversation in ("a", "b", "a", "c"):
        numbering.take(conversation)
    assert [numbering.following(conversation).seq for conversation in "abc"] == [2, 0, 1]


def test_no_number_occurs_twice_in_one_session_whatever_was_forgotten() -> None:
    numbering = Numbering(SESSION, Clock(0), limit=2)
    taken = [(conversation, *numbering.take(conversation)) for conversation in "abcabccabaabcb" * 10]
    assert len(set(taken)) == len(taken)
    assert max(len(session) for _, session, _ in taken) == MAX_SESSION_BYTES


def test_conversation_that_is_not_forgotten_keeps_its_session() -> None:
    numbering = Numbering(SESSION, Clock(0), limit=2)
    taken = [numbering.take(conversation) for conversation in ("a", "b", "a", "c", "a", "d", "a")]
    assert taken[::2] == [(SESSION, 0), (SESSION, 1), (SESSION, 2), (SESSION, 3)]


def test_counting_never_goes_back() -> None:
    numbering = Numbering(SESSION, Clock(0))
    numbering.skip("c", SESSION, 7)
    numbering.skip("c", SESSION, 3)
    numbering.resume("c", SESSION, 5)
    assert numbering.take("c") == (SESSION, 8)


def test_number_of_another_session_is_not_counted() -> None:
    numbering = Numbering(SESSION, Clock(0))
    numbering.skip("c", b"another", 7)
    assert numbering.take("c") == (SESSION, 0)
