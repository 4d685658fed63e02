"""What is remembered of a conversation's chunks."""

from __future__ import annotations

from worker.model.recent_chunks import IDENTITY_BYTES, MAX_BYTES, MAX_IDENTITIES, MAX_SESSIONS, RecentChunks


def identity(number: int) -> bytes:
    return number.to_bytes(IDENTITY_BYTES, "big")


def remembered(stored: bytes) -> RecentChunks:
    history = RecentChunks()
    history.precede(stored)
    return history


def test_noted_chunks_are_recognised_and_others_are_not() -> None:
    history = RecentChunks()
    history.note(identity(1))
    assert history.holds(identity(1))
    assert not history.holds(identity(2))


def test_what_is_stored_is_recognised() -> None:
    assert remembered(identity(1) + identity(2)).holds(identity(2))


def test_bytes_across_two_identities_are_no_identity() -> None:
    history = remembered(b"AAAABBBB" + b"CCCCDDDD" + b"BBBBCCCC")
    assert history.holds(b"BBBBCCCC")
    assert not remembered(b"AAAABBBB" + b"CCCCDDDD").holds(b"BBBBCCCC")


def test_oldest_are_forgotten_first() -> None:
    history = RecentChunks()
    for number in range(MAX_IDENTITIES + 1):
        history.note(identity(number))
    assert not history.holds(identity(0))
    assert history.holds(identity(1))
    assert history.holds(identity(MAX_IDENTITIES))
    assert len(history._identities) == MAX_BYTES


def test_hour_of_chunks_is_remembered() -> None:
    assert MAX_IDENTITIES * 5 >= 3600


def test_first_number_only_sets_the_beginning() -> None:
    assert RecentChunks().follow(None, 4711) == 0


def test_numbers_in_order_are_due() -> None:
    history = RecentChunks()
    assert [history.follow(None, number) for number in (7, 8, 9)] == [0, 0, 0]


def test_skipped_numbers_are_counted_and_late_ones_told_apart() -> None:
    history = RecentChunks()
    assert [history.follow(None, number) for number in (0, 3, 1, 2, 4)] == [0, 2, -3, -2, 0]


def test_every_session_counts_by_itself() -> None:
    history = RecentChunks()
    numbers = [(b"a", 0), (b"b", 0), (None, 7), (b"a", 1), (b"b", 3), (None, 8), (b"a", 2)]
    assert [history.follow(session, number) for session, number in numbers] == [0, 0, 0, 0, 2, 0, 0]


def test_past_the_limit_the_least_recently_used_session_is_forgotten() -> None:
    history = RecentChunks()
    for number in range(MAX_SESSIONS):
        history.follow(b"%d" % number, 0)
    history.follow(b"0", 1)
    history.follow(b"another", 0)
    assert history.follow(b"0", 9) == 7
    assert history.follow(b"1", 9) == 0  # as if it were its first
    assert len(history._other_sessions or ()) == MAX_SESSIONS - 1


def test_end_tells_the_chunks_that_its_session_lacks() -> None:
    history = RecentChunks()
    history.follow(b"a", 0)
    history.follow(b"b", 0)
    assert history.missing_at_end(b"a", 3) == 2
    assert history.missing_at_end(b"b", 1) == 0


def test_repeated_end_counts_nothing_twice() -> None:
    history = RecentChunks()
    history.follow(None, 0)
    assert [history.missing_at_end(None, 5), history.missing_at_end(None, 5)] == [4, 0]


def test_end_of_a_session_that_was_not_seen_tells_nothing() -> None:
    history = RecentChunks()
    history.follow(b"a", 0)
    assert [history.missing_at_end(b"b", 5), history.missing_at_end(b"a", None)] == [0, 0]
    assert history.follow(b"a", 1) == 0
