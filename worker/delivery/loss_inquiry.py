"""After a failover, find out what became of chunks that this worker had in hand.

The new primary may have forgotten chunks that workers had read, and their leases with them. So the present owner of the
partition knows nothing of such a chunk. Only the worker that had it can tell that it is lost.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import defaultdict, deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice

import structlog

from worker.delivery.loss_account import LossAccount
from worker.errors import StreamError
from worker.model.holding import Holding
from worker.model.ids import EntryId, entry_order
from worker.runtime.context import Context
from worker.stream.entries import CHUNKS_PAGE, SEEN_TTL, Entries
from worker.stream.losses import LossQuestion

KEPT_SECONDS = 300.0
"""How long chunks are kept while the same server answers: replicas are behind by less."""

MAX_KEPT = 100_000
"""Chunks that are kept at most: some 25 MB."""

log = structlog.get_logger()


@dataclass(slots=True, eq=False)
class _Inquiry:
    """What is still to be asked about a holding; `is_same` says that the same server answered the last time."""

    holding: Holding
    questions: deque[LossQuestion]
    is_same: bool = False
    chunks: int = field(init=False)

    def __post_init__(self) -> None:
        self.chunks = sum(len(question.chunks) for question in self.questions)


class LossInquiry:
    """Keeps what this worker had in hand, and asks the server that has the partition now what is lost.

    It asks only if that is another server, or if it has another stream. Then each lost entry is counted by one of all
    workers. The worker must `run` it beside its other work.
    """

    def __init__(self, entries: Entries, context: Context) -> None:
        self._entries = entries
        self._context = context
        self._metrics = context.metrics
        self._clock = context.clock
        self._interval = context.timing.delivery.losses
        self._kept: deque[_Inquiry] = deque()
        self._counted: dict[int, list[EntryId]] = defaultdict(list)

    def keep(self, holding: Holding) -> None:
        """Ask about these chunks from now on."""
        questions = deque(_questions(holding))
        if not questions or not holding.server:
            return
        self._kept.append(_Inquiry(holding, questions))
        while sum(inquiry.chunks for inquiry in self._kept) > MAX_KEPT:
            self._give_up(self._kept.popleft())

    def record(self, partition: int, entries: Sequence[EntryId]) -> None:
        """Record entries that were counted as lost."""
        self._counted[partition] += entries

    async def run(self) -> None:
        """Ask at intervals, until cancelled."""
        while True:
            await self._try_to_settle()
            await asyncio.sleep(self._interval)

    async def leave(self, grace: float) -> None:
        """Ask for the last time, within `grace` seconds."""
        with suppress(TimeoutError):
            async with asyncio.timeout(grace):
                await self._try_to_settle()
        for inquiry in self._kept:
            self._give_up(inquiry)

    async def settle(self) -> None:
        """Ask all that is to be asked now; servers that don't answer are asked again by the next call.

        Raises:
            StreamError: no server answers.
        """
        self._forget_old()
        due = [inquiry for inquiry in self._kept if self._is_due(inquiry)]
        lost: dict[int, list[EntryId]] = defaultdict(list)
        try:
            while due:
                answers = await self._entries.losses.lost([inquiry.questions[0] for inquiry in due])
                for inquiry, answer in zip(due, answers, strict=True):
                    lost[inquiry.holding.partition] += self._note(inquiry, answer)
                due = [inquiry for inquiry, answer in zip(due, answers, strict=True) if _goes_on(inquiry, answer)]
        finally:
            self._kept = deque(inquiry for inquiry in self._kept if inquiry.questions)
            for partition, entries in lost.items():
                LossAccount(partition, self._metrics).count(entries, failover=True)
        for partition in list(self._counted):
            await self._entries.losses.record_lost(partition, self._counted[partition])
            del self._counted[partition]

    async def _try_to_settle(self) -> None:
        try:
            await self.settle()
        except StreamError as error:
            self._metrics.redis_errors.labels(error.cause).inc()
            self._context.digest.note(log.warning, "losses.redis_failed", error=str(error))

    def _note(self, inquiry: _Inquiry, answer: list[EntryId] | StreamError | None) -> list[EntryId]:
        """Take note of an answer; returns the lost entries."""
        if isinstance(answer, StreamError):
            self._context.digest.note(log.warning, "losses.redis_failed", error=str(answer))
            return []
        inquiry.is_same = answer is None
        if answer is None:
            return []
        inquiry.chunks -= len(inquiry.questions.popleft().chunks)
        return answer

    def _is_due(self, inquiry: _Inquiry) -> bool:
        """Whether to ask: the first time, and then if another server is there, as its connections know."""
        seen_id = self._entries.node_of(inquiry.holding.partition).seen_id
        return not inquiry.is_same or seen_id != inquiry.holding.server

    def _forget_old(self) -> None:
        now, kept = self._clock(), deque[_Inquiry]()
        for inquiry in self._kept:
            age = now - inquiry.holding.known_at
            if age > SEEN_TTL:
                self._give_up(inquiry)
            elif age <= KEPT_SECONDS or self._is_due(inquiry):
                kept.append(inquiry)
        self._kept = kept

    def _give_up(self, inquiry: _Inquiry) -> None:
        """Stop asking; log it, unless the last answer was from the same server."""
        if not inquiry.is_same:
            self._context.digest.note(
                log.warning,
                "entries.unaccounted",
                first_partition=inquiry.holding.partition,
                sums={"entries": inquiry.chunks},
            )


def _questions(holding: Holding) -> Iterator[LossQuestion]:
    token = secrets.token_hex(8)
    for conversation, chunks in holding.chunks.items():
        first_of = {chunks[entry]: entry for entry in sorted(chunks, key=entry_order, reverse=True)}  # others repeat it
        items = ((entry, identity) for identity, entry in first_of.items())
        while page := dict(islice(items, CHUNKS_PAGE)):
            yield LossQuestion(token, holding.partition, holding.server, holding.stream, conversation, page)


def _goes_on(inquiry: _Inquiry, answer: list[EntryId] | StreamError | None) -> bool:
    return isinstance(answer, list) and bool(inquiry.questions)
