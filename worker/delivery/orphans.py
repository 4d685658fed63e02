"""Objects whose upload lost its seal: each stays until it is certain that no done step counts it.

After a failover, a stored batch may have no seal in Redis. While its entries are in the stream, an owner that reads
them again may find the object and count it. So the maker of the object asks Redis until the entries have left. Only
then it removes the object, if it is uncounted. A store that keeps the object, as under a hold, is asked more and more
rarely; before each time Redis is asked again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import structlog

from worker.delivery.loss_account import LossAccount
from worker.delivery.loss_inquiry import LossInquiry
from worker.delivery.sink import BlobSink
from worker.errors import StoreError, StreamError
from worker.model.causes import OrphanFate
from worker.model.stored_blob import Orphan
from worker.runtime.context import Context
from worker.stream.entries import Entries

log = structlog.get_logger()


class Kept(NamedTuple):
    """An object that the store keeps: how often it has refused to remove it, and when to ask again (monotonic s)."""

    failures: int
    until: float


class Orphans:
    """Keeps or removes each orphan, when Redis tells what became of its audio."""

    def __init__(self, entries: Entries, sink: BlobSink, inquiry: LossInquiry, context: Context) -> None:
        self._entries = entries
        self._sink = sink
        self._inquiry = inquiry
        self._metrics = context.metrics
        self._digest = context.digest
        self._timing = context.timing.delivery
        self._clock = context.clock
        self._waiting: list[Orphan] = []
        self._kept: dict[str, Kept] = {}

    def add(self, orphan: Orphan) -> None:
        """Look after an object from now on."""
        self._waiting.append(orphan)

    async def run(self) -> None:
        """Ask at intervals about all orphans, until cancelled."""
        while True:
            with self._answering():
                await self.settle()
            await asyncio.sleep(self._timing.orphans)

    async def settle(self) -> None:
        """Ask once about each orphan. Raises `StreamError`."""
        for orphan in list(self._waiting):
            stored = orphan.stored
            if (kept := self._kept.get(stored.upload)) and self._clock() < kept.until:
                continue
            fate = OrphanFate.UNCOUNTED if orphan.deleted else await self._fate(orphan)
            if fate is OrphanFate.WAITING or (fate is OrphanFate.UNCOUNTED and not await self._erased(orphan)):
                continue
            if fate is OrphanFate.UNCOUNTED:
                self._lose(orphan)
            orphan.fate = fate
            self._waiting.remove(orphan)
            self._kept.pop(stored.upload, None)
            self._metrics.abandoned.labels(fate).inc()
            self._digest.note(log.warning, "delivery.abandoned", fate, object=stored.name, fate=fate)

    async def _erased(self, orphan: Orphan) -> bool:
        """Remove an object; False if the store keeps it, which is logged once."""
        stored = orphan.stored
        try:
            await self._sink.erase(stored)
        except StoreError as error:
            failures = self._kept[stored.upload].failures + 1 if stored.upload in self._kept else 1
            if failures == 1:
                log.warning("delivery.kept_by_store", object=stored.name, cause=error.cause, error=str(error))
            self._kept[stored.upload] = Kept(failures, self._clock() + self._timing.erase_retry.after(failures))
            return False
        return True

    def _lose(self, orphan: Orphan) -> None:
        LossAccount(orphan.partition, self._metrics, self._inquiry.record).count(orphan.missing)
        if orphan.holding is not None:
            self._inquiry.keep(orphan.holding.without(orphan.missing))

    async def _fate(self, orphan: Orphan) -> OrphanFate:
        """What became of an orphan; an event may name the same object by another name than its maker knows."""
        stored, others = orphan.stored, list[str]()
        while True:
            fate, told = await self._entries.abandon(orphan, others)
            if fate is not OrphanFate.COUNTED or told == stored.name:
                return fate
            ours = await self._sink.made(stored.upload, told)
            if ours is not False:
                return OrphanFate.COUNTED if ours else OrphanFate.UNKNOWN
            others.append(told)

    async def leave(self, grace: float) -> None:
        """Ask for the last time; an orphan that still waits stays, and the next owner of its entries looks for it."""
        with self._answering():
            async with asyncio.timeout(grace):
                await self.settle()
        for orphan in self._waiting:
            fate = OrphanFate.WAITING
            self._digest.note(log.warning, "delivery.abandoned", fate, object=orphan.stored.name, fate=fate)

    @contextmanager
    def _answering(self) -> Iterator[None]:
        try:
            yield
        except StreamError as error:
            self._metrics.redis_errors.labels(error.cause).inc()
            log.warning("orphans.redis_failed", error=str(error))
        except TimeoutError:
            log.warning("orphans.left", objects=len(self._waiting))
