"""Looks at everything again and again, for a person who watches."""

from __future__ import annotations

from dataclasses import replace

from worker.errors import StreamError
from worker.model.causes import StreamCause
from worker.settings import Settings
from worker.stream.client import Client
from worker.stream.inspection.overview import Inspector, Overview
from worker.stream.inspection.strays import Stray
from worker.stream.keys import Keys

SEARCH_SECONDS = 30.0
"""Between two searches for streams that no worker reads."""


class Looks:
    """Looks at everything; streams that no worker reads are searched only now and then, because that reads all keys."""

    def __init__(self, client: Client, settings: Settings) -> None:
        self._inspector = Inspector(client, Keys(settings.stream_prefix))
        self._clock = client.clock
        self._partitions = settings.partitions
        self._searched: float | None = None
        self._strays: tuple[Stray, ...] = ()
        self._refusals: tuple[str, ...] = ()

    async def look(self) -> Overview:
        """Look now. Raises `StreamError`."""
        overview = await self._inspector.overview(self._partitions)
        if self._searched is None or self._clock() > self._searched + SEARCH_SECONDS:
            await self._search()
            self._searched = self._clock()
        return replace(overview, strays=self._strays, refusals=(*overview.refusals, *self._refusals))

    async def _search(self) -> None:
        self._strays, self._refusals = (), ()
        try:
            strays, away = await self._inspector.strays(self._partitions)
            self._strays = tuple(strays)
            self._refusals = tuple(f"the names of streams at {node}: it does not answer" for node in away)
        except StreamError as error:
            if error.cause is not StreamCause.REFUSED:
                raise
            self._refusals = (f"the names of streams: {error}",)
