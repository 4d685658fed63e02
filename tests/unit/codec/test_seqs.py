"""Spans of `seq` numbers and their text, against plain sets of numbers."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codec.seqs import MAX_TEXT_BYTES, Span, count, doubled, from_text, merged, note, to_text, without

NUMBERS = st.lists(st.integers(0, 60), max_size=40)
SPANS = st.lists(st.builds(lambda first, length: Span(first, first + length), st.integers(0, 50), st.integers(0, 9)))


def noted(numbers: list[int]) -> list[Span]:
    spans: list[Span] = []
    for number in numbers:
        note(spans, number)
    return spans


def numbers_of(spans: list[Span]) -> set[int]:
    return {number for span in spans for number in range(span.first, span.last + 1)}


def test_numbers_in_order_take_one_span() -> None:
    assert noted(list(range(3000))) == [Span(0, 2999)]


@given(numbers=NUMBERS)
def test_text_tells_the_numbers_that_were_noted(numbers: list[int]) -> None:
    read = from_text(to_text(noted(numbers)))

    assert numbers_of(read or []) == set(numbers)


@pytest.mark.parametrize(
    ("numbers", "text"),
    [([], None), ([7], "7"), ([0, 1, 2], "0-2"), ([8, 0, 1, 2, 3, 4, 6, 7], "0-4,6-8"), ([3, 1, 2], "1-3")],
)
def test_text_is_compact(numbers: list[int], text: str | None) -> None:
    assert to_text(noted(numbers)) == text


def test_text_that_would_be_too_long_is_a_count_which_tells_no_numbers() -> None:
    text = to_text(noted(list(range(0, 2000, 2))))

    assert text == "#1000"
    assert from_text(text) is None


@given(numbers=st.sets(st.integers(0, 10**15 - 1), max_size=200))
def test_text_is_never_longer_than_metadata_allows(numbers: set[int]) -> None:
    assert len(to_text(noted(sorted(numbers))) or "") <= MAX_TEXT_BYTES


@pytest.mark.parametrize("text", ["", "-", "1-", "5-3", "1,,2", "1 2", "#", "x", "1-2-3", "9" * 16, "1," * 600 + "1"])
def test_nonsense_tells_no_numbers(text: str) -> None:
    assert from_text(text) is None


@given(spans=SPANS)
def test_merged_spans_hold_the_same_numbers_and_neither_overlap_nor_touch(spans: list[Span]) -> None:
    result = merged(spans)

    assert numbers_of(result) == numbers_of(spans)
    assert all(before.last + 1 < after.first for before, after in pairwise(result))
    assert count(spans) == len(numbers_of(spans))


@given(spans=SPANS)
def test_doubled_numbers_are_those_in_more_than_one_span(spans: list[Span]) -> None:
    several = {n for n in numbers_of(spans) if sum(span.first <= n <= span.last for span in spans) > 1}

    assert numbers_of(doubled(spans)) == several


@given(spans=SPANS, removed=SPANS)
def test_without_is_the_difference(spans: list[Span], removed: list[Span]) -> None:
    assert numbers_of(without(spans, removed)) == numbers_of(spans) - numbers_of(removed)


@pytest.mark.slow
def test_scattered_numbers_cost_in_proportion() -> None:
    even, odd = ([Span(number, number) for number in range(first, 200_000, 2)] for first in (0, 1))
    assert without(even, odd) == even


def test_huge_spans_cost_nothing() -> None:
    assert without([Span(0, 10**15)], [Span(5, 10**15)]) == [Span(0, 4)]
