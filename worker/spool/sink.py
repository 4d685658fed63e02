"""Put blobs into the store or into the spool: where they are durable soonest, or into the spool first."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace

from worker.delivery.conflict import judge
from worker.delivery.sink import EncodedBatch, Pending, StoreSink, report_conflict, stored_as_sealed, stored_by
from worker.errors import Outage, SpoolRefused
from worker.model.stored_blob import StoredBlob
from worker.runtime.metrics import Metrics
from worker.spool.record import make_record
from worker.spool.spool import Spool


class SpoolSink:
    """A `BlobSink` with two places.

    Args:
        direct: gives up with `Outage` when the store refuses for long.
        spool: takes blobs that the store refuses; if it refuses too, the batch waits and its audio stays in Redis.
        first: ask the spool before the store, unless the store may hold a part of the batch already.
    """

    def __init__(
        self, direct: StoreSink, spool: Spool, metrics: Metrics, secrets: Sequence[str], *, first: bool
    ) -> None:
        self._direct = direct
        self._spool = spool
        self._metrics = metrics
        self._secrets = secrets
        self._withdrawn: set[str] = set()
        self._asking_first = (direct.place, self._spooled)
        self._ways = (self._spooled, direct.place) if first else self._asking_first

    async def place(self, encoded: EncodedBatch, pending: Pending) -> StoredBlob:
        """See `BlobSink`."""
        ways = self._ways
        if encoded.recovered:
            if known := await self._found(encoded, pending):
                return known
            ways = self._asking_first  # the store may hold a part: the drainer would store the whole beside it
        while True:
            for way in ways:
                with suppress(Outage, SpoolRefused):
                    return await way(encoded, pending)
            await asyncio.sleep(self._spool.timing.rest)

    async def withdraw(self, stored: StoredBlob) -> None:
        """See `BlobSink`. A spooled blob is left to the uploader, which asks Redis what became of it."""
        if stored.spooled:
            self._withdrawn.add(stored.upload)
        else:
            await self._direct.withdraw(stored)

    async def erase(self, stored: StoredBlob) -> None:
        """See `BlobSink`. The uploader may have stored the blob by now."""
        if stored.spooled:
            self._withdrawn.add(stored.upload)
        await self._direct.erase(stored)

    async def made(self, upload: str, name: str) -> bool | None:
        """See `BlobSink`. An event may name a blob that is still in the spool: then there is no object yet."""
        return await self._direct.made(upload, name)

    async def _spooled(self, encoded: EncodedBatch, _: Pending) -> StoredBlob:
        with self._metrics.stage.labels("spool").time():
            await self._spool.put(
                make_record(self._spool.origin, encoded.partition, encoded.seal, encoded.metadata, encoded.blob)
            )
        return replace(stored_as_sealed(encoded, encoded.seal.object), spooled=True)

    async def _found(self, encoded: EncodedBatch, pending: Pending) -> StoredBlob | None:
        """Where a batch is in the spool; like the store, that may know more than a Redis that has lost writes."""
        try:
            found = await self._spool.found(encoded.seal.conversation)
        except SpoolRefused:  # known losses of Redis were looked up before, see `worker.delivery.recovery`
            return None
        for info in found:
            judgement = judge(encoded.claim, info, pending(), self._secrets)
            stored = stored_by(encoded.seal, encoded.chunks, info, judgement)
            if stored is not None and stored.upload not in self._withdrawn:
                report_conflict(info, judgement, self._metrics)
                return replace(stored, spooled=True)
        return None
