"""What is asked after a failover, when, and for how long; what can't be told is told."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import cast

import pytest
from structlog.testing import capture_logs

from tests.support.clock import Clock
from worker.delivery import loss_inquiry
from worker.delivery.loss_inquiry import KEPT_SECONDS, LossInquiry
from worker.errors import StreamError
from worker.model.causes import StreamCause
from worker.model.holding import Holding
from worker.model.ids import Conversation, EntryId
from worker.runtime.context import Context
from worker.runtime.metrics import PREFIX
from worker.stream.entries import CHUNKS_PAGE, SEEN_TTL, Entries
from worker.stream.losses import LossQuestion

CONVERSATION = Conversation("u", "c")


class Redis:
    """In the place of Redis: it has lost everything, unless it is the same server; or it does not answer."""

    def __init__(self) -> None:
        self.server = "former"
        self.answers = True
        self.asked: list[LossQuestion] = []
        self.recorded: list[EntryId] = []
        self.losses = self

    def node_of(self, _: int) -> SimpleNamespace:
        return SimpleNamespace(seen_id=self.server)

    async def lost(self, questions: Sequence[LossQuestion]) -> list[list[EntryId] | StreamError | None]:
        self.asked += questions
        if not self.answers:
            return [StreamError("away", cause=StreamCause.CONNECTION) for _ in questions]
        return [None if question.server == self.server else list(question.chunks) for question in questions]

    async def record_lost(self, _: int, entries: Sequence[EntryId]) -> None:
        self.recorded += entries


class Asking:
    def __init__(self) -> None:
        self.redis, self.clock = Redis(), Clock()
        self.context = Context(clock=self.clock)
        self.inquiry = LossInquiry(cast("Entries", self.redis), self.context)

    def keep(self, *entries: EntryId, partition: int = 7, identity: bytes | None = None) -> None:
        chunks = {entry: identity or f"{entry:8}".encode() for entry in entries}
        self.inquiry.keep(Holding(partition, "former", "stream", self.clock(), {CONVERSATION: chunks}))

    @property
    def lost(self) -> float:
        return self.context.metrics.registry.get_sample_value(f"{PREFIX}_lost_entries_total") or 0.0


@pytest.fixture
def asking() -> Asking:
    return Asking()


async def test_the_same_server_is_asked_once(asking: Asking) -> None:
    """A stream may have been flushed; after that only another server can have lost anything."""
    asking.keep("1-0")
    await asking.inquiry.settle()
    await asking.inquiry.settle()
    assert (len(asking.redis.asked), asking.lost) == (1, 0)


async def test_what_another_server_has_lost_is_counted_once_and_told_per_partition(asking: Asking) -> None:
    many = [f"{number}-0" for number in range(2 * CHUNKS_PAGE + 1)]
    asking.keep(*many)
    asking.keep("5-5", partition=8)
    asking.redis.server = "new"
    with capture_logs() as logs:
        await asking.inquiry.settle()
        await asking.inquiry.settle()
    assert asking.lost == len(many) + 1
    told = [(event["partition"], event["entries"], event["first"], event["last"]) for event in logs]
    assert told == [(7, len(many), "0-0", many[-1]), (8, 1, "5-5", "5-5")]


async def test_failover_that_comes_later_is_noticed(asking: Asking) -> None:
    asking.keep("1-0")
    await asking.inquiry.settle()
    asking.redis.server = "new"
    await asking.inquiry.settle()
    assert asking.lost == 1


async def test_server_that_does_not_answer_is_asked_again(asking: Asking) -> None:
    asking.keep("1-0")
    asking.redis.server, asking.redis.answers = "new", False
    await asking.inquiry.settle()
    asking.clock.now += KEPT_SECONDS + 1
    asking.redis.answers = True
    await asking.inquiry.settle()
    assert asking.lost == 1


async def test_repeated_chunk_counts_once(asking: Asking) -> None:
    asking.keep("1-0", "2-0", identity=b"the same")
    asking.redis.server = "new"
    await asking.inquiry.settle()
    assert (asking.lost, list(asking.redis.asked[0].chunks)) == (1, ["1-0"])


async def test_chunks_are_forgotten_when_the_same_server_has_answered_for_long(asking: Asking) -> None:
    asking.keep("1-0")
    await asking.inquiry.settle()
    asking.clock.now += KEPT_SECONDS + 1
    with capture_logs() as logs:
        await asking.inquiry.settle()
    asking.redis.server = "new"
    await asking.inquiry.settle()
    assert (asking.lost, logs) == (0, [])


async def test_what_redis_may_have_forgotten_as_stored_is_told_and_not_counted(asking: Asking) -> None:
    asking.keep("1-0", "2-0")
    asking.redis.server = "new"
    asking.clock.now += SEEN_TTL + 1
    with capture_logs() as logs:
        await asking.inquiry.settle()
        asking.context.digest.flush()
    assert asking.lost == 0
    assert [(event["event"], event["entries"]) for event in logs] == [("entries.unaccounted", 2)]


async def test_memory_is_bounded(asking: Asking, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loss_inquiry, "MAX_KEPT", 3)
    asking.redis.server = "new"
    with capture_logs() as logs:
        asking.keep("1-0", "2-0")
        asking.keep("3-0", "4-0")
        asking.context.digest.flush()
    await asking.inquiry.settle()
    assert asking.lost == 2
    assert [(event["event"], event["entries"]) for event in logs] == [("entries.unaccounted", 2)]


async def test_what_is_still_open_at_the_end_is_told(asking: Asking) -> None:
    asking.keep("1-0")
    asking.redis.answers = False
    with capture_logs() as logs:
        await asking.inquiry.leave(1.0)
        asking.context.digest.flush()
    assert "entries.unaccounted" in [event["event"] for event in logs]


async def test_losses_that_were_counted_elsewhere_are_recorded(asking: Asking) -> None:
    asking.inquiry.record(7, ["1-0"])
    await asking.inquiry.settle()
    await asking.inquiry.settle()
    assert asking.redis.recorded == ["1-0"]
