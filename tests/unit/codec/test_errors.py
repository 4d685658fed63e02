from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codec import errors


@pytest.mark.slow
@given(st.one_of(st.text(), st.binary(), st.integers(), st.floats()))
def test_shown_values_are_short_plain_ascii_whatever_they_are(value: object) -> None:
    text = errors.escaped(value)
    assert len(text) <= errors.SHOWN_CHARACTERS
    assert text.isascii()
    assert text.isprintable()


def test_shown_values_say_that_they_were_cut() -> None:
    assert errors.escaped("a" * 100).endswith("...")
    assert errors.escaped("short") == "'short'"


def test_every_error_about_bytes_can_be_caught_as_a_value_error() -> None:
    for error in (errors.BadEntry, errors.BadName, errors.BadSecret, errors.BadBlob, errors.DecryptionFailed):
        assert issubclass(error, ValueError)
