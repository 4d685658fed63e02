"""How many entries are read at once, by what was in the pages before."""

from __future__ import annotations

from worker.consuming.read_size import FIRST_COUNT, LOOK, MAX_COUNT, PAGE_BYTES, ReadSize


def test_pages_of_small_entries_grow_slowly_to_the_most() -> None:
    size = ReadSize()
    counts = []
    for _ in range(5):
        counts.append(size.count(1.0))
        size.took(counts[-1], counts[-1] * 100)
    assert counts == [FIRST_COUNT, 2 * FIRST_COUNT, 4 * FIRST_COUNT, MAX_COUNT, MAX_COUNT]


def test_large_entries_make_small_pages() -> None:
    size = ReadSize()
    size.took(FIRST_COUNT, FIRST_COUNT * PAGE_BYTES // 3)
    assert size.count(1.0) == 3
    size.took(3, 3 * 2 * PAGE_BYTES)
    assert size.one_at_a_time


def test_a_look_asks_for_a_part_and_never_for_nothing() -> None:
    size = ReadSize()
    assert size.count(LOOK) == FIRST_COUNT * LOOK
    size.failed()
    assert size.count(LOOK) == 1


def test_what_was_in_a_page_that_failed_is_read_one_by_one() -> None:
    size = ReadSize()
    size.failed()
    for _ in range(FIRST_COUNT - 1):
        assert size.one_at_a_time
        size.took(1, 100)
    assert size.one_at_a_time
    size.took(1, 100)
    assert not size.one_at_a_time


def test_at_the_end_there_is_nothing_to_be_careful_of() -> None:
    size = ReadSize()
    size.failed()
    size.reached_end()
    assert not size.one_at_a_time
