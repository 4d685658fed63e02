"""Looks for stray streams at long intervals: audio in a stream that no worker reads would wait unnoticed."""

from __future__ import annotations

import asyncio

import structlog

from worker.coordination.ownership import Ownership
from worker.errors import StreamError
from worker.runtime.context import Context
from worker.stream.inspection.strays import Strays

NAMED = 20
"""Stray streams that one search names in the log."""

log = structlog.get_logger()


class StrayWatch:
    """Measures and logs stray streams while `run` runs, on the one worker that leads."""

    def __init__(self, strays: Strays, ownership: Ownership, context: Context) -> None:
        self._strays = strays
        self._ownership = ownership
        self._metrics = context.metrics
        self._timing = context.timing.gauges
        self._clock = context.clock
        self._searched: float | None = None
        self._known: set[str] = set()

    async def run(self) -> None:
        """Search when it is time, until cancelled."""
        while True:
            try:
                await self.turn()
            except StreamError as error:
                self._metrics.redis_errors.labels(error.cause).inc()
                log.warning("streams.search_failed", error=str(error))
            await asyncio.sleep(self._timing.observe)

    async def turn(self) -> None:
        """Search if this worker leads and the last search is long ago. Raises `StreamError`."""
        if not self._ownership.leads:
            self._metrics.strays.set(0)
            self._searched, self._known = None, set()
        elif self._searched is None or self._clock() >= self._searched + self._timing.strays:
            self._searched = self._clock()
            await self._search()

    async def _search(self) -> None:
        strays = await self._strays.find(self._timing.stray_step)
        if self._strays.away:
            log.warning("streams.not_searched", nodes=list(self._strays.away))
        self._metrics.strays.set(sum(stray.entries for stray in strays))
        new = [stray for stray in strays if stray.key not in self._known]
        for stray in new[:NAMED]:
            log.warning("streams.stray", stream=stray.key, entries=stray.entries, reason=stray.reason)
        self._known = {stray.key for stray in strays}
