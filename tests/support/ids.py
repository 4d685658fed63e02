"""Ids for the tests of entries and names: good ones, bad ones, generated ones."""

from __future__ import annotations

from hypothesis import strategies as st

from codec.entry import MAX_ID_BYTES

GOOD_IDS = ["a", "...", ".hidden", "user@example.com", "x" * 256, "ü" * 128, "日本", "a b", "-", "1e3", "%2e%2e"]
BAD_IDS = ["", ".", "..", "a/b", "/", "a\\b", "a\nb", "\x00", "\x7f", "\x85", "x" * 257, "ü" * 129, "\ud800"]


def ids() -> st.SearchStrategy[str]:
    """Any id that the contract allows."""
    characters = st.characters(exclude_categories=["Cc", "Cs"], exclude_characters="/\\")
    return st.text(characters, min_size=1, max_size=40).filter(
        lambda text: text not in (".", "..") and len(text.encode()) <= MAX_ID_BYTES
    )
