"""Sealed batches of one partition on their way to the store: one task each."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial

import structlog

from worker.batching.closed_batch import ClosedBatch
from worker.delivery.delivery import Delivery
from worker.model.ids import Conversation, EntryId
from worker.model.stored_blob import StoredBlob
from worker.runtime.context import Context

Ended = Callable[[ClosedBatch, StoredBlob | None], None]
"""Is told where each batch is stored; None if its delivery failed."""

PendingOf = Callable[[Conversation], Mapping[EntryId, bytes]]
"""Returns the entries of a conversation that are pending now, with the identities of their chunks."""

log = structlog.get_logger()


class InFlight:
    """The batches that are being delivered; batches that would have the same name go one after the other."""

    def __init__(self, delivery: Delivery, pending: PendingOf, ended: Ended, context: Context) -> None:
        self._delivery = delivery
        self._pending = pending
        self._ended = ended
        self._metrics = context.metrics
        self._digest = context.digest
        self._timing = context.timing.reading
        self._failures: Counter[EntryId] = Counter()
        self._last_of_name: dict[str, asyncio.Task[None]] = {}
        self.batches: dict[EntryId, ClosedBatch] = {}
        self.tasks: set[asyncio.Task[None]] = set()

    def send(self, closed: ClosedBatch) -> None:
        """Deliver a sealed batch."""
        self.batches[closed.seal.id] = closed
        name = closed.seal.object
        before = self._last_of_name.get(name)
        task = asyncio.create_task(self._deliver(closed, before), name=f"deliver {closed.seal.id}")
        self._last_of_name[name] = task
        self.tasks.add(task)
        task.add_done_callback(partial(self._forget, name))

    async def finished(self) -> None:
        """Wait until all deliveries have ended."""
        while self.tasks:
            await asyncio.wait(self.tasks)

    def conversations(self) -> dict[EntryId, Conversation]:
        """The entries that are being delivered, and their conversations."""
        return {entry: closed.seal.conversation for closed in self.batches.values() for entry in closed.seal.all_ids}

    def identities(self, conversation: Conversation) -> dict[EntryId, bytes]:
        """The entries of a conversation that are being delivered, and the identities of their chunks."""
        found: dict[EntryId, bytes] = {}
        for closed in self.batches.values():
            if closed.seal.conversation == conversation:
                found |= closed.chunks
        return found

    def _forget(self, name: str, task: asyncio.Task[None]) -> None:
        self.tasks.discard(task)
        if self._last_of_name.get(name) is task:
            del self._last_of_name[name]

    async def _deliver(self, closed: ClosedBatch, before: asyncio.Task[None] | None) -> None:
        """Deliver a batch after `before`, which would have the same name: the later audio gets the later name."""
        try:
            if before is not None:
                await asyncio.wait([before])
            stored = await self._delivery.deliver(closed, partial(self._pending, closed.seal.conversation))
        except asyncio.CancelledError:
            self._ended(closed, None)
            raise
        except Exception as error:  # noqa: BLE001 -- no error may stop the other conversations
            await self._rest_after(error, closed)
            self._ended(closed, None)
        else:
            self._failures.pop(closed.seal.id, None)
            self._ended(closed, stored)
        finally:
            del self.batches[closed.seal.id]
            closed.encoder.release()

    async def _rest_after(self, error: Exception, closed: ClosedBatch) -> None:
        """Report an unexpected failure, and wait; the entries are in Redis, and are tried again."""
        self._failures[closed.seal.id] += 1
        failures = self._failures[closed.seal.id]
        name = type(error).__name__
        self._metrics.failures.labels(name).inc()
        self._digest.note(log.error, "batch.failed", name, object=closed.seal.object, failures=failures, exc_info=error)
        await asyncio.sleep(self._timing.batch_retry.after(failures))
