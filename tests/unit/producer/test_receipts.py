"""What is remembered of confirmed entries, for how long, and what it proves."""

from __future__ import annotations

from tests.support.clock import Clock
from worker.producer.receipts import REMEMBERED_SECONDS, Receipts


def noted(receipts: Receipts, partition: int, count: int, server: str = "one") -> list[str]:
    ids = [f"{1000 + number}-0" for number in range(count)]
    for entry in ids:
        receipts.note(partition, entry, server)
    return ids


def test_entries_behind_the_greatest_id_of_another_server_are_lost_once() -> None:
    receipts = Receipts(Clock())
    ids = noted(receipts, 7, 5)
    assert receipts.from_others("two") == [7]
    assert list(receipts.compare(7, ids[2], "two")) == ids[3:]
    assert receipts.from_others("two") == []
    assert list(receipts.compare(7, ids[1], "three")) == [ids[2]]


def test_ids_compare_as_numbers() -> None:
    receipts = Receipts(Clock())
    for entry in ("999-9", "999-10", "1000-0"):
        receipts.note(0, entry, "one")
    assert list(receipts.compare(0, "999-9", "two")) == ["999-10", "1000-0"]


def test_the_same_server_has_lost_nothing() -> None:
    receipts = Receipts(Clock())
    noted(receipts, 0, 3)
    assert receipts.from_others("one") == []
    assert not receipts.is_from_other(0, "one")
    assert receipts.is_from_other(0, "two")
    assert not receipts.is_from_other(1, "two")


def test_partitions_without_new_entries_are_forgotten() -> None:
    clock = Clock()
    receipts = Receipts(clock)
    noted(receipts, 0, 3)
    clock.now += REMEMBERED_SECONDS
    noted(receipts, 1, 3)
    assert receipts.from_others("two") == [0, 1]
    clock.now += 1
    assert receipts.from_others("two") == [1]


def test_the_oldest_are_forgotten_when_there_are_too_many() -> None:
    receipts = Receipts(Clock(), limit=5)
    noted(receipts, 0, 4)
    ids = noted(receipts, 1, 4)
    assert list(receipts.compare(0, "0-0", "two")) == ["1003-0"]
    assert list(receipts.compare(1, "0-0", "two")) == ids
    noted(receipts, 2, 9)
    assert receipts.from_others("two") == [2]
    assert len(receipts.compare(2, "0-0", "two")) == 5
