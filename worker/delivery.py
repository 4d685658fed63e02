"""A sealed batch's way to its done step: encode, encrypt, place, done."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace

import stamina
import structlog

from codec.crypto import derive_key, encrypt, key_id
from codec.metadata import BlobMetadata
from codec.names import parse_name
from codec.seqs import to_text
from worker import __version__
from worker.closed import Closed
from worker.errors import StreamError
from worker.history import IDENTITY_BYTES
from worker.metrics import Metrics
from worker.placement import Finished, Pending, Placement, Stored
from worker.seal import Seal
from worker.stream.entries import Entries

DONE_AT_ONCE = 16
"""Done steps under way at once: each takes a connection to Redis, and a slow Redis must not be given thousands."""

LONGEST_WAIT = 10.0
"""Seconds between tries of the done step while Redis is away."""

log = structlog.get_logger()


class Delivery:
    """Stores sealed batches: one object each, whatever is repeated and whoever else does the same."""

    def __init__(
        self,
        entries: Entries,
        placement: Placement,
        secret: str,
        metrics: Metrics,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._entries = entries
        self._placement = placement
        self._secret = secret
        self._metrics = metrics
        self._clock = clock
        self._done_slots = asyncio.Semaphore(DONE_AT_ONCE)

    async def deliver(self, closed: Closed, pending: Pending) -> Stored:
        """Store a batch and finish it in Redis.

        The result is not `complete` if the partition must be read again: the object that has its name holds only a part
        of the batch, or more than the batch; or the seal is gone, because another owner was faster or because Redis
        forgot it.
        """
        stored = await self._placement.place(await self._finished(closed), pending)
        with self.timed("done"):
            outcome = await self._finish(closed, stored)
        if outcome == "deleted":
            await self._placement.withdraw(stored)
        self._report(closed, stored, outcome)
        exact = outcome != "gone" and set(stored.covered) <= set(closed.seal.all_ids)
        return replace(stored, complete=stored.complete and exact)

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Measure how long a stage takes."""
        began = self._clock()
        yield
        self._metrics.stage.labels(stage).observe(self._clock() - began)

    async def _finished(self, closed: Closed) -> Finished:
        with self.timed("encode"):
            content = await closed.recording.finish()
        blob = self._sealed_content(closed.seal, content)
        metadata = _metadata(closed, self._secret)
        return Finished(closed.partition, closed.seal, blob, metadata, closed.recovered, closed.doubtful)

    def _sealed_content(self, seal: Seal, content: bytes) -> bytes:
        if seal.protection == "standard":
            return content
        return encrypt(derive_key(self._secret, seal.uid), content)

    async def _finish(self, closed: Closed, stored: Stored) -> str:
        event, identities = _event(closed.seal, stored), _covered_identities(closed, stored)
        async for attempt in stamina.retry_context(self._again, attempts=None, timeout=None, wait_max=LONGEST_WAIT):
            with attempt:
                async with self._done_slots:
                    return await self._entries.done(closed.partition, closed.seal, stored.covered, identities, event)
        raise AssertionError("unreachable: repeated for ever")

    def _again(self, error: Exception) -> bool:
        if not isinstance(error, StreamError):
            return False
        self._metrics.redis_errors.labels(error.cause).inc()
        log.warning("done.redis_failed", error=str(error))
        return True

    def _report(self, closed: Closed, stored: Stored, outcome: str) -> None:
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
        if outcome != "done":
            return
        seconds = closed.seal.samples / closed.seal.sample_rate
        self._metrics.batches.labels(closed.seal.trigger).inc()
        self._metrics.batch_audio.observe(seconds)
        self._metrics.stored_seconds.inc(seconds)
        self._metrics.stored_bytes.inc(stored.size)
        self._metrics.closed_to_done.observe(took)


def _covered_identities(closed: Closed, stored: Stored) -> bytes:
    """What is not stored yet comes again, and must not look like a twin then."""
    if stored.complete:
        return closed.identities
    starts = range(0, len(closed.identities), IDENTITY_BYTES)
    if len(starts) != len(closed.seal.entries):  # some vanished, so that it is not known whose these are
        return b""
    pairs = zip(closed.seal.entries, starts, strict=True)
    return b"".join(closed.identities[at : at + IDENTITY_BYTES] for entry, at in pairs if entry in stored.covered)


def _metadata(closed: Closed, secret: str) -> BlobMetadata:
    seal = closed.seal
    return BlobMetadata(
        codec=seal.codec,
        sample_rate=seal.sample_rate,
        samples=closed.recording.samples,
        pre_skip=closed.recording.pre_skip,
        start=seal.start,
        chunks=len(seal.entries),
        first_entry=seal.entries[0],
        last_entry=seal.entries[-1],
        seqs=to_text(closed.seqs),
        worker_version=__version__,
        key_id=None if seal.protection == "standard" else key_id(secret),
    )


def _event(seal: Seal, stored: Stored) -> Mapping[str, str]:
    """What a backend needs to update the conversation's record."""
    name, facts = parse_name(stored.name), stored.metadata
    numbers = {} if facts.seqs is None else {"seqs": facts.seqs}
    return {
        "uid": seal.uid,
        "conversation_id": seal.conversation_id,
        "object": stored.name,
        "start": f"{name.start:.3f}",
        "samples": str(facts.samples or 0),
        "sample_rate": str(facts.sample_rate or seal.sample_rate),
        "bytes": str(stored.size),
        "trigger": seal.trigger,
        "chunks": str(facts.chunks or len(stored.covered)),
        "codec": facts.codec or seal.codec,
        "protection": seal.protection,
        "first_entry": facts.first_entry or seal.entries[0],
        "last_entry": facts.last_entry or seal.entries[-1],
        **numbers,
    }
