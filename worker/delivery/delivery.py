"""The way of a sealed batch to its done step: encode, encrypt, store, done."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Protocol, TypeVar

import google_crc32c
import structlog

from codec.crypto import derive_key, encrypt, key_id
from codec.manifest import Manifest
from codec.metadata import BlobMetadata
from codec.names import parse_name
from codec.sessions import to_text
from worker import __version__
from worker.batching.closed_batch import ClosedBatch
from worker.delivery.loss_inquiry import LossInquiry
from worker.delivery.orphans import Orphans
from worker.delivery.sink import BlobSink, EncodedBatch, Pending
from worker.errors import StoreError, StreamError
from worker.model.causes import DoneOutcome
from worker.model.done_event import DoneEvent
from worker.model.ids import Conversation, EntryId
from worker.model.seal import Seal
from worker.model.states import BatchState
from worker.model.stored_blob import Orphan, StoredBlob
from worker.runtime.context import Context
from worker.runtime.spans import Attributes
from worker.stream.entries import DoneReply, DoneStep, Entries

DONE_AT_ONCE = 16
"""Done steps under way at once. Each takes a connection to Redis, and a slow Redis must not get thousands."""

T = TypeVar("T")

log = structlog.get_logger()


class Deletions(Protocol):
    """The deletions that the bucket knows."""

    async def restore_deletions(self, partition: int, conversation: Conversation, stream: str, born: EntryId) -> object:
        """Record in Redis the deletions of a conversation that it may have forgotten."""


class Delivery:
    """Stores each sealed batch as one object, also if steps are repeated or another owner stores the same batch.

    `orphans` holds the objects whose upload lost its seal, and `inquiry` the chunks that a failover may have lost. The
    worker must run both beside the deliveries.
    """

    def __init__(
        self,
        entries: Entries,
        sink: BlobSink,
        deletions: Deletions,
        secret: str,
        context: Context,
    ) -> None:
        self._entries = entries
        self._sink = sink
        self.inquiry = LossInquiry(entries, context)
        self.orphans = Orphans(entries, sink, self.inquiry, context)
        self._deletions = deletions
        self._secret = secret
        self._metrics = context.metrics
        self._spans = context.spans
        self._digest = context.digest
        self._clock = context.clock
        self._timing = context.timing.delivery
        self._done_slots = asyncio.Semaphore(DONE_AT_ONCE)

    async def deliver(self, closed: ClosedBatch, pending: Pending) -> StoredBlob:
        """Store a batch and finish it in Redis.

        The result is not `complete` if the partition must be read again. Then the object that was found holds only a
        part of the batch, or more than the batch, or the seal is gone. A seal is gone if another owner was faster, or
        if Redis forgot it.
        """
        if closed.found is not None:
            return await self._adopted(closed, closed.found)
        encoded = await self._encoded(closed)
        stored, outcome = await self._placed(closed, encoded, pending)
        while outcome is DoneOutcome.WITHDRAWN:  # the object's maker removes it: it lost its seal before we came
            await self._withdrawn(stored)
            stored, outcome = await self._placed(closed, encoded, pending)
        if outcome is DoneOutcome.GONE and stored.created:
            orphan = Orphan(closed.partition, closed.seal, stored)
            self.orphans.add(orphan)
            stored = replace(stored, covered=(), orphan=orphan)
        elif outcome is DoneOutcome.DELETED:
            await self._removed(closed, stored)
        self._report(closed, stored, outcome)
        exact = outcome is not DoneOutcome.GONE and set(stored.covered) <= set(closed.seal.all_ids)
        return replace(stored, complete=stored.complete and exact)

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Measure how long a stage takes."""
        began = self._clock()
        yield
        self._metrics.stage.labels(stage).observe(self._clock() - began)

    async def _adopted(self, closed: ClosedBatch, found: StoredBlob) -> StoredBlob:
        """Finish a batch that was found to be stored; not `complete` if it must be looked up again.

        It must be looked up again if another server answers than at the search. That server may not know that the
        maker of the object has given it up since.
        """
        with self.timed("done"):
            outcome, _ = await self._repeated(partial(self._finish, _done_step(closed, found)))
        if outcome is DoneOutcome.WITHDRAWN:
            await self._withdrawn(found)
        elif outcome is DoneOutcome.DELETED:
            await self._removed(closed, found)
        self._report(closed, found, DoneOutcome.ADOPTED if outcome is DoneOutcome.DONE else outcome)
        return replace(found, complete=outcome in (DoneOutcome.DONE, DoneOutcome.DELETED))

    async def _withdrawn(self, stored: StoredBlob) -> None:
        """Remove an object that must go before the batch can be stored; its maker tries the same."""
        async for attempt in self._timing.erase_retry.attempts(lambda error: isinstance(error, StoreError)):
            with attempt:
                await self._sink.withdraw(stored)

    async def _removed(self, closed: ClosedBatch, stored: StoredBlob) -> None:
        """Remove audio that was deleted on demand; if the store forbids that now, later."""
        try:
            await self._sink.withdraw(stored)
        except StoreError:
            self.orphans.add(Orphan(closed.partition, closed.seal, stored, deleted=True))

    async def _placed(
        self, closed: ClosedBatch, encoded: EncodedBatch, pending: Pending
    ) -> tuple[StoredBlob, DoneOutcome]:
        closed.state = BatchState.UPLOADING
        stored = await self._sink.place(encoded, pending)
        with self.timed("done"):
            outcome = await self._done(closed, stored)
        return stored, outcome

    async def _encoded(self, closed: ClosedBatch) -> EncodedBatch:
        closed.state = BatchState.ENCODING
        with self.timed("encode"):
            content = await closed.encoder.finish()
        seal = closed.seal
        blob = self._sealed_content(seal, content)
        manifest = Manifest.of(seal.stream, closed.identities, len(blob), google_crc32c.value(blob))
        facts = _metadata(closed, self._secret).to_mapping()
        metadata = facts | manifest.to_mapping(*seal.conversation, self._secret, facts=facts)
        return EncodedBatch(
            closed.partition,
            seal,
            blob,
            manifest,
            metadata,
            closed.chunks,
            recovered=closed.recovered,
            doubtful=closed.doubtful,
            born=closed.born,
        )

    def _sealed_content(self, seal: Seal, content: bytes) -> bytes:
        if seal.protection == "standard":
            return content
        return encrypt(derive_key(self._secret, seal.uid), content)

    async def _done(self, closed: ClosedBatch, stored: StoredBlob) -> DoneOutcome:
        step = _done_step(closed, stored)
        outcome, server = await self._repeated(partial(self._finish, step))
        while outcome is DoneOutcome.CHANGED:  # Redis may have forgotten a deletion that the bucket knows
            seal = closed.seal
            restore = self._deletions.restore_deletions
            await self._repeated(partial(restore, closed.partition, seal.conversation, seal.stream, closed.born))
            step = replace(step, server=server)
            outcome, server = await self._repeated(partial(self._finish, step))
        return outcome

    async def _finish(self, step: DoneStep) -> DoneReply:
        async with self._done_slots:
            return await self._entries.done(step)

    async def _repeated(self, step: Callable[[], Awaitable[T]]) -> T:
        """Repeat a step until Redis answers."""
        async for attempt in self._timing.done_retry.attempts(self._again):
            with attempt:
                return await step()
        raise AssertionError("unreachable: it is repeated until it succeeds")

    def _again(self, error: Exception) -> bool:
        if not isinstance(error, StreamError):
            return False
        self._metrics.redis_errors.labels(error.cause).inc()
        self._digest.note(log.warning, "done.redis_failed", error.cause, error=str(error))
        return True

    def _report(self, closed: ClosedBatch, stored: StoredBlob, outcome: DoneOutcome) -> None:
        took = self._clock() - closed.closed_at
        log.info(
            "batch.finished",
            outcome=outcome,
            object=stored.name,
            bytes=stored.size,
            chunks=len(closed.seal.entries),
            trigger=closed.seal.trigger,
            took_s=round(took, 3),
            spooled=stored.spooled,
        )
        self._spans.record(_span(closed, stored, outcome), took, closed.trace)
        if outcome is not DoneOutcome.DONE:
            return
        seconds = closed.seal.samples / closed.seal.sample_rate
        self._metrics.batches.labels(closed.seal.trigger).inc()
        self._metrics.batch_audio.observe(seconds)
        self._metrics.stored_seconds.inc(seconds)
        self._metrics.stored_bytes.inc(stored.size)
        self._metrics.closed_to_done.observe(took)


def _span(closed: ClosedBatch, stored: StoredBlob, outcome: DoneOutcome) -> Attributes:
    """What a span tells of a batch: no user, no conversation and no name of an object, as in metrics."""
    seal = closed.seal
    return {
        "batch.outcome": str(outcome),
        "batch.trigger": seal.trigger,
        "batch.codec": seal.codec,
        "batch.chunks": len(seal.entries),
        "batch.audio_seconds": seal.samples / seal.sample_rate,
        "batch.bytes": stored.size,
        "batch.partition": closed.partition,
        "batch.recovered": int(closed.recovered),
    }


def _metadata(closed: ClosedBatch, secret: str) -> BlobMetadata:
    seal = closed.seal
    return BlobMetadata(
        codec=seal.codec,
        sample_rate=seal.sample_rate,
        samples=closed.encoder.samples,
        pre_skip=closed.encoder.pre_skip,
        start=seal.start,
        chunks=len(seal.entries),
        first_entry=seal.entries[0],
        last_entry=seal.entries[-1],
        seqs=to_text(closed.seqs),
        ends=to_text(closed.ends),
        trigger=seal.trigger,
        protection=seal.protection,
        worker_version=__version__,
        key_id=None if seal.protection == "standard" else key_id(secret),
    )


def _done_step(closed: ClosedBatch, stored: StoredBlob) -> DoneStep:
    event = _event(closed.seal, stored)
    if closed.trace is not None:
        event = replace(event, **closed.trace._asdict())
    return DoneStep(
        closed.partition, closed.seal, stored.covered, stored.upload, stored.identities, event, closed.server
    )


def _event(seal: Seal, stored: StoredBlob) -> DoneEvent:
    """The event with all that a backend needs to update the conversation's record."""
    facts = stored.metadata
    return DoneEvent(
        uid=seal.uid,
        conversation_id=seal.conversation_id,
        object=stored.name,
        start=parse_name(stored.name).start,
        samples=facts.samples or 0,
        sample_rate=facts.sample_rate or seal.sample_rate,
        bytes=stored.size,
        trigger=seal.trigger,
        chunks=facts.chunks or len(stored.covered),
        codec=facts.codec or seal.codec,
        protection=seal.protection,
        first_entry=facts.first_entry or seal.entries[0],
        last_entry=facts.last_entry or seal.entries[-1],
        seqs=facts.seqs,
        stream=facts.stream,
        chunks_digest=facts.chunks_digest,
    )
