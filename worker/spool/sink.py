"""Blobs go to the store or to the spool: wherever they are durable soonest, or in the order that was asked for."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace

from worker.delivery.conflict import judge
from worker.delivery.sink import Finished, Pending, StorePlacement, report_conflict, stored_as_sealed, stored_by
from worker.errors import Outage, SpoolRefused
from worker.model.stored_blob import Stored
from worker.runtime.metrics import Metrics
from worker.spool.record import record
from worker.spool.spool import REST_SECONDS, Spool


class SpoolPlacement:
    """A `Placement` with two places.

    Args:
        direct: gives up with `Outage` when the store refuses for long.
        spool: takes what the store does not; when it refuses too, the batch waits and its audio stays in Redis.
        first: spool before the store is asked, unless it may hold a part of the batch already.
    """

    def __init__(
        self, direct: StorePlacement, spool: Spool, metrics: Metrics, secrets: Sequence[str], *, first: bool
    ) -> None:
        self._direct = direct
        self._spool = spool
        self._metrics = metrics
        self._secrets = secrets
        self._withdrawn: set[str] = set()
        self._asking_first = (direct.place, self._spooled)
        self._ways = (self._spooled, direct.place) if first else self._asking_first

    async def place(self, finished: Finished, pending: Pending) -> Stored:
        """See `Placement`."""
        ways = self._ways
        if finished.recovered:
            if known := await self._found(finished, pending):
                return known
            ways = self._asking_first  # whether a part of it is stored: as a whole it would be stored beside that
        while True:
            for way in ways:
                with suppress(Outage, SpoolRefused):
                    return await way(finished, pending)
            await asyncio.sleep(REST_SECONDS)

    async def withdraw(self, stored: Stored) -> None:
        """See `Placement`. A spooled blob is left to the uploader, which asks Redis what has become of it."""
        if stored.spooled:
            self._withdrawn.add(stored.upload)
        else:
            await self._direct.withdraw(stored)

    async def erase(self, stored: Stored) -> None:
        """See `Placement`. The uploader may have stored the blob by now."""
        if stored.spooled:
            self._withdrawn.add(stored.upload)
        await self._direct.erase(stored)

    async def _spooled(self, finished: Finished, _: Pending) -> Stored:
        with self._metrics.stage.labels("spool").time():
            await self._spool.put(
                record(self._spool.origin, finished.partition, finished.seal, finished.metadata, finished.blob)
            )
        return replace(stored_as_sealed(finished, finished.seal.object), spooled=True)

    async def _found(self, finished: Finished, pending: Pending) -> Stored | None:
        """What the spool holds of a batch: like the store, it may know more than a Redis that has lost writes."""
        try:
            found = await self._spool.found(finished.seal.conversation)
        except SpoolRefused:  # what Redis is known to have lost was looked up before, see `worker.delivery.recovery`
            return None
        for info in found:
            judgement = judge(
                finished.seal, finished.manifest, finished.chunks, info, pending(), self._secrets, finished.born
            )
            stored = stored_by(finished.seal, finished.chunks, info, judgement)
            if stored is not None and stored.upload not in self._withdrawn:
                report_conflict(info, judgement, self._metrics)
                return replace(stored, spooled=True)
        return None
