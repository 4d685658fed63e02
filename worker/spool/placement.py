"""Blobs go to the store or to the spool: wherever they are durable soonest, or in the order that was asked for."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import replace

from worker.errors import Outage, SpoolRefused
from worker.metrics import Metrics
from worker.placement import Finished, Pending, Stored, StorePlacement, judged
from worker.spool.record import record
from worker.spool.spool import REST_SECONDS, Spool
from worker.stores import BlobInfo


class SpoolPlacement:
    """A `Placement` with two places.

    Args:
        direct: gives up with `Outage` when the store refuses for long.
        spool: takes what the store does not; when it refuses too, the batch waits and its audio stays in Redis.
        first: always spool before the store is asked.
    """

    def __init__(self, direct: StorePlacement, spool: Spool, metrics: Metrics, *, first: bool) -> None:
        self._direct = direct
        self._spool = spool
        self._metrics = metrics
        self._ways = (self._spooled, direct.place) if first else (direct.place, self._spooled)

    async def place(self, finished: Finished, pending: Pending) -> Stored:
        """See `Placement`."""
        if finished.recovered and (known := await self._found(finished, pending)):
            return known
        while True:
            for way in self._ways:
                with suppress(Outage, SpoolRefused):
                    return await way(finished, pending)
            await asyncio.sleep(REST_SECONDS)

    async def withdraw(self, stored: Stored) -> None:
        """See `Placement`; in the spool it is the tombstone that keeps the audio from being stored."""
        if not stored.spooled:
            await self._direct.withdraw(stored)

    async def _spooled(self, finished: Finished, _: Pending) -> Stored:
        seal, blob = finished.seal, finished.blob
        metadata = finished.metadata.to_mapping()
        with self._metrics.stage.labels("spool").time():
            await self._spool.put(record(self._spool.origin, finished.partition, seal, metadata, blob))
        return Stored(seal.object, len(blob), finished.metadata, seal.all_ids, spooled=True)

    async def _found(self, finished: Finished, pending: Pending) -> Stored | None:
        """What the spool holds of a batch: like the store, it may know more than a Redis that has lost writes."""
        try:
            held = await self._spool.held(finished.seal.conversation)
        except SpoolRefused:  # then at worst audio that a failover of Redis brought back is stored twice
            return None
        for header in held:
            info = BlobInfo(header.seal.object, header.size, header.metadata)
            if known := judged(finished.seal, info, pending(), self._metrics):
                return replace(known, spooled=True)
        return None
