"""Numbers by session, and their text in metadata."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codec.seqs import MAX_TEXT_BYTES, Span, merged
from codec.sessions import Numbers, count, from_text, note, session_name, to_text

SESSIONS = st.one_of(st.none(), st.binary(min_size=1, max_size=64))


def noted(*numbers: tuple[bytes | None, int]) -> Numbers:
    found: Numbers = {}
    for session, seq in numbers:
        note(found, session, seq)
    return found


def test_chunks_without_a_session_are_plain_spans() -> None:
    assert to_text(noted((None, 0), (None, 1), (None, 3))) == "0-1,3"


def test_sessions_are_kept_apart() -> None:
    numbers = noted((b"a", 0), (b"a", 1), (b"b", 0), (None, 7))

    assert to_text(numbers) == "a:0-1;b:0;7"
    assert from_text("a:0-1;b:0;7") == {"a": [Span(0, 1)], "b": [Span(0, 0)], "": [Span(7, 7)]}
    assert count(numbers) == 4


@given(numbers=st.lists(st.tuples(SESSIONS, st.integers(0, 20)), min_size=1, max_size=12))
def test_text_tells_what_was_noted(numbers: list[tuple[bytes | None, int]]) -> None:
    found = noted(*numbers)
    text = to_text(found) or ""

    assert len(text) <= MAX_TEXT_BYTES
    assert text.isascii()
    if not text.startswith("#"):
        assert from_text(text) == {session: merged(spans) for session, spans in found.items()}


def test_text_that_would_be_too_long_is_a_count() -> None:
    text = to_text(noted(*((b"s", seq) for seq in range(0, 2000, 2))))

    assert text == "#1000"
    assert from_text(text) is None


@pytest.mark.parametrize("text", [None, "", ";", "a:", "a:1;a:2", "a:x", "1;;2", "#5"])
def test_nonsense_tells_no_numbers(text: str | None) -> None:
    assert from_text(text) is None


def test_a_session_of_any_bytes_has_a_name() -> None:
    assert session_name(b"pod-1.life_2~") == "pod-1.life_2~"
    assert session_name(b"a:b;\xff") == "a%3Ab%3B%FF"
    assert session_name(None) == ""
