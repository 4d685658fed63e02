"""One spooled blob's way into the store, under the rules of every upload: create-only, and never what was deleted."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count

import structlog

from worker.batch import entry_ms
from worker.conflict import Verdict, judge
from worker.metrics import Metrics
from worker.placement import create_or_find
from worker.seal import Seal, next_free_name
from worker.spool.record import Header, Record
from worker.stores import BlobInfo
from worker.stores.watched import WatchedStore
from worker.stream.entries import Entries

log = structlog.get_logger()


class Uploader:
    """Uploads blobs whose entries have left Redis: whatever it finds in the store, their audio must get there whole."""

    def __init__(self, store: WatchedStore, entries: Entries, metrics: Metrics) -> None:
        self._store = store
        self._entries = entries
        self._metrics = metrics

    async def upload(self, record: Record) -> str | None:
        """Store a blob once; returns its name in the store, None if the audio has been deleted on demand.

        May be repeated after any failure.

        Raises:
            StoreError: the store refuses.
            StreamError: Redis can't say what has been deleted.
        """
        header = record.header
        if await self._is_deleted(header):
            await self._erase(header)
            return None
        name = await self._store_under_free_name(record)
        if await self._is_deleted(header):  # meanwhile, and whoever deleted may not have seen the object yet
            await self._store.delete(name)
            return None
        return name

    async def _store_under_free_name(self, record: Record) -> str:
        header = record.header
        metadata = dict(header.metadata)
        for name in _names(header.seal):
            found = await create_or_find(self._store, name, record.blob, metadata)
            if found is None or self._holds(found, header.seal):
                return name
        raise AssertionError("unreachable: there is always a next name")

    def _holds(self, found: BlobInfo, seal: Seal) -> bool:
        """Whether all our audio is in the object.

        One that holds a part of it stays, and we go beside it: the rest has left Redis and is nowhere else.
        """
        judgement = judge(seal, found.metadata, seal.entries)
        complete = set(judgement.covered).issuperset(seal.entries)
        self._metrics.conflicts.labels(judgement.verdict.value).inc()
        log.warning("spool.conflict", object=found.name, verdict=judgement.verdict.value, stored=complete)
        return complete

    async def _is_deleted(self, header: Header) -> bool:
        seal = header.seal
        return await self._entries.is_deleted(header.partition, seal.conversation, entry_ms(seal.id))

    async def _erase(self, header: Header) -> None:
        """Remove the object if an earlier try got so far."""
        for name in _names(header.seal):
            found = await self._store.stat(name)
            if found is None:
                return
            if judge(header.seal, found.metadata, header.seal.entries).verdict is Verdict.SAME:
                await self._store.delete(name)
                return


def _names(seal: Seal) -> Iterator[str]:
    yield seal.object
    for step in count(1):
        yield next_free_name(seal.object, step)
