"""What an object that has our name is to our batch, told by its metadata."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.seals import SEAL
from worker.conflict import Judgement, Verdict, judge

OURS = replace(SEAL, entries=("5-0", "7-0", "9-0", "11-0"))
PENDING = ("5-0", "7-0", "9-0", "11-0", "12-0", "100-0")


def found(first: str, last: str) -> dict[str, str]:
    return {"first-entry": first, "last-entry": last, "codec": "opus"}


def test_same_first_and_last_entry_are_this_very_batch() -> None:
    assert judge(OURS, found("5-0", "11-0"), PENDING) == Judgement(Verdict.SAME, OURS.entries)


def test_shorter_blob_holds_a_part() -> None:
    assert judge(OURS, found("5-0", "7-0"), PENDING) == Judgement(Verdict.PART, ("5-0", "7-0"))


def test_longer_blob_covers_pending_entries_beyond_the_batch() -> None:
    assert judge(OURS, found("5-0", "12-0"), PENDING) == Judgement(Verdict.PART, PENDING[:5])


def test_blob_that_began_before_and_ends_inside_covers_what_overlaps() -> None:
    assert judge(OURS, found("1-0", "5-0"), PENDING) == Judgement(Verdict.PART, ("5-0",))


def test_ids_are_compared_as_numbers() -> None:
    assert judge(OURS, found("5-0", "9-0"), PENDING).covered == ("5-0", "7-0", "9-0")
    assert judge(OURS, found("10-0", "12-0"), PENDING).covered == ("11-0", "12-0")


@pytest.mark.parametrize(
    "metadata",
    [
        {},
        {"codec": "opus"},
        {"first-entry": "5-0"},
        {"last-entry": "11-0"},
        found("12-0", "100-0"),
        found("1-0", "4-9"),
        found("5-1", "6-9"),
        found("five", "eleven"),
        found("", ""),
    ],
)
def test_blob_without_our_entries_is_foreign(metadata: dict[str, str]) -> None:
    assert judge(OURS, metadata, PENDING) == Judgement(Verdict.FOREIGN)
