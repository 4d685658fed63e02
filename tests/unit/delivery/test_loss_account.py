"""What left Redis without being stored is counted once, and nothing else is."""

from __future__ import annotations

import pytest
from structlog.testing import capture_logs

from worker.delivery.loss_account import LossAccount
from worker.runtime.metrics import PREFIX, Metrics


class Books:
    def __init__(self) -> None:
        self.metrics = Metrics()
        self.account = LossAccount(7, self.metrics)

    @property
    def lost(self) -> float:
        return self.metrics.registry.get_sample_value(f"{PREFIX}_lost_entries_total") or 0.0


@pytest.fixture
def books() -> Books:
    return Books()


def test_what_does_not_come_before_the_end_is_lost_once(books: Books) -> None:
    books.account.expect(["1-0", "2-0", "10-0"])
    books.account.came(["2-0"])
    with capture_logs() as logs:
        books.account.reached_end()
        books.account.reached_end()
    assert books.lost == 2
    assert [(event["first"], event["last"], event["entries"]) for event in logs] == [("1-0", "10-0", 2)]


def test_what_others_had_sealed_is_theirs_to_finish(books: Books) -> None:
    books.account.sealed(["1-0"])
    books.account.expect(["1-0"])
    books.account.reached_end()
    books.account.vanished(["1-0", "2-0"])
    assert books.lost == 1


def test_what_another_object_was_found_to_hold_is_not_lost(books: Books) -> None:
    books.account.expect(["1-0", "2-0"])
    books.account.stored_beside(["1-0"])
    books.account.reached_end()
    assert books.lost == 1


def test_entries_that_nobody_read_are_counted(books: Books) -> None:
    with capture_logs() as logs:
        books.account.count_unread(0)
        books.account.count_unread(3)
    assert books.lost == 3
    assert [event["unread"] for event in logs] == [True]
