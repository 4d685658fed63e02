"""The spool as the worker uses it: off the event loop, bounded in size, and with a limited wait for each blob."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TypeVar

import structlog

from worker.errors import SpoolDamaged, SpoolRefused
from worker.model.causes import SpoolCause
from worker.model.ids import Conversation
from worker.runtime.context import Context
from worker.spool.names import WAITING, FileState, SpoolOwner, Stem, conversation_digest
from worker.spool.record import Record, RecordHeader, read_record, stem_of
from worker.spool.volume import Volume, VolumeListing
from worker.stores.base import BlobInfo

T = TypeVar("T")

THREADS = 8
"""Threads of the spool alone, because a volume that hangs must not hold up anything else."""

ROOM_AGAIN = 0.9
"""Share of its limit below which a full spool takes blobs again, so that it does not change state all the time."""

CAUSES = {
    errno.ENOSPC: SpoolCause.NO_SPACE,
    errno.EDQUOT: SpoolCause.NO_SPACE,
    errno.EFBIG: SpoolCause.NO_SPACE,
    errno.EACCES: SpoolCause.PERMISSION,
    errno.EPERM: SpoolCause.PERMISSION,
    errno.EROFS: SpoolCause.PERMISSION,
}

log = structlog.get_logger()


class Spool:
    """Holds blobs that are done in Redis and not in the store yet.

    `trouble` says why it takes no blobs; None while it takes them. `unreadable` counts torn and damaged blobs.
    `waiting` counts the blobs that the last scan saw waiting, `oldest` is the age of their oldest audio in seconds.
    `arrived` is set whenever a blob waits for the drainer.
    """

    def __init__(self, volume: Volume, origin: SpoolOwner, limit: int, context: Context) -> None:
        self.volume = volume
        self.origin = origin
        self.trouble: SpoolCause | None = None
        self.unreadable = 0
        self.waiting = 0
        self.oldest = 0.0
        self.arrived = asyncio.Event()
        self._limit = limit
        self._metrics = context.metrics
        self._clock = context.clock
        self.timing = context.timing.spool
        self._start_patience = context.timing.process.patience
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="spool")
        self._listed = 0
        self._landed: set[Stem] = set()
        self._writing = 0
        self._resting_until = self._clock()
        self._metrics.spool_limit.set(limit)

    async def open(self) -> None:
        """Make sure that the directory is there. Raises `SpoolRefused`, also if the volume does not answer."""
        try:
            async with asyncio.timeout(self._start_patience):
                await self.run(self.volume.prepare)
        except OSError as error:
            raise self._refused(error, self._start_patience) from error

    def close(self) -> None:
        """Release the threads; one that waits for a hanging volume lasts as long as the process."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    async def run(self, work: Callable[[], T]) -> T:
        """Do blocking work on the volume."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, work)

    async def complete(self, work: Callable[[], T]) -> T:
        """Like `run`, for work that must be done: a cancellation waits for its end, a second one does not."""
        running = asyncio.ensure_future(self.run(work))
        try:
            return await asyncio.shield(running)
        except asyncio.CancelledError:
            await asyncio.wait([running])
            raise

    async def put(self, record: Record) -> None:
        """Write a blob; it is durable on return, and replaces a duplicate or stays beside it.

        Raises:
            SpoolRefused: it is full, or the volume does not take it.
        """
        content = record.to_bytes()
        self._check_room(len(content))
        stem = stem_of(record.header, len(content))
        self._writing += len(content)
        try:
            async with asyncio.timeout(self.timing.patience):
                await self.run(lambda: self.volume.write(stem, content))
        except OSError as error:  # TimeoutError is one
            self._resting_until = self._clock() + self.timing.rest
            raise self._refused(error) from error
        finally:
            self._writing -= len(content)
        self._landed.add(stem)
        if self.trouble is not SpoolCause.FULL:  # only a scan ends FULL: this write may have begun before it
            self._recovered()
        self.arrived.set()

    async def found(self, conversation: Conversation) -> list[BlobInfo]:
        """The blobs of `held`, described as the objects that they will be. Raises `SpoolRefused`."""
        return [
            BlobInfo(header.seal.object, header.size, header.metadata, header.crc32c)
            for header in await self.held(conversation)
        ]

    async def held(self, conversation: Conversation) -> list[RecordHeader]:
        """Blobs of a conversation that are spooled, durable and undamaged.

        Raises:
            SpoolRefused: the volume does not answer.
        """
        digest = conversation_digest(conversation)
        try:
            async with asyncio.timeout(self.timing.patience):
                return await self.run(lambda: self._held(digest))
        except OSError as error:
            raise self._refused(error) from error

    async def scan(self) -> VolumeListing:
        """All files, of other origins too. Raises OSError."""
        before = set(self._landed)
        listing = await self.run(self.volume.scan)
        complete = {file.stem for file in listing.files if file.state is not FileState.WRITING}
        self._listed = sum(stem.size for stem in complete)
        self._landed -= before | complete  # blobs that had landed before and are not listed have left
        if self.trouble is SpoolCause.FULL and self._used <= self._ceiling:
            self._recovered()
        return listing

    @property
    def _used(self) -> int:
        """Bytes that the last scan saw, that landed since, and that are being written."""
        return self._listed + sum(stem.size for stem in self._landed) + self._writing

    @property
    def _ceiling(self) -> float:
        return self._limit * ROOM_AGAIN if self.trouble is SpoolCause.FULL else self._limit

    def _held(self, digest: str) -> list[RecordHeader]:
        headers = []
        for file in self.volume.scan().files:
            complete = file.state in WAITING
            if complete and (file.stem.origin, file.stem.conversation) == (self.origin.digest, digest):
                with suppress(FileNotFoundError, SpoolDamaged):  # uploaded meanwhile; the drainer reports damage
                    headers.append(read_record(self.volume.read(file), file.stem).header)
        if headers:
            self.volume.sync()
        return headers

    def _check_room(self, size: int) -> None:
        if self._used + size > self._ceiling:
            raise self._troubled(SpoolCause.FULL, f"it holds {self._used} of SPOOL_MAX_BYTES={self._limit} bytes")
        if self.trouble is not None and self._clock() < self._resting_until:
            raise SpoolRefused("it has just refused a blob", self.trouble)

    def _refused(self, error: OSError, patience: float | None = None) -> SpoolRefused:
        if isinstance(error, TimeoutError):
            waited = self.timing.patience if patience is None else patience
            return self._troubled(SpoolCause.TIMEOUT, f"{self.volume.directory} has not answered for {waited:.0f} s")
        cause = CAUSES.get(error.errno or 0, SpoolCause.DISK)
        return self._troubled(cause, f"{self.volume.directory}: {error.strerror or error}")

    def _troubled(self, cause: SpoolCause, message: str) -> SpoolRefused:
        self._metrics.spool_refusals.labels(cause).inc()
        if cause != self.trouble:
            log.error("spool.refuses", cause=cause, error=message)
        self.trouble = cause
        return SpoolRefused(message, cause)

    def _recovered(self) -> None:
        if self.trouble is not None:
            log.info("spool.recovered", cause=self.trouble)
        self.trouble = None
