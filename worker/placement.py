"""Where a finished blob goes: into the store under its seal's name, or beside what has that name already."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Protocol

import structlog

from codec.metadata import BlobMetadata
from codec.names import parse_name
from worker.batch import EntryId
from worker.conflict import Verdict, judge
from worker.errors import ObjectExists
from worker.metrics import Metrics
from worker.seal import Seal, next_free_name
from worker.stores import BlobInfo
from worker.stores.patient import PatientStore

Pending = Callable[[], Collection[EntryId]]
"""Tells which entries of the batch's conversation are pending at the moment it is asked."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Finished:
    """A batch as a blob.

    `recovered` says that its entries may have been in a batch whose seal is forgotten, `doubtful` that Redis has indeed
    lost writes since, so that they may be anywhere among the conversation's objects.
    """

    partition: int
    seal: Seal
    blob: bytes
    metadata: BlobMetadata
    recovered: bool = False
    doubtful: bool = False


@dataclass(frozen=True, slots=True)
class Stored:
    """Where the audio is, which entries are in it, and whether all of the batch are among them.

    `spooled` says that the object will appear later, and under a later name should this one be taken.
    """

    name: str
    size: int
    metadata: BlobMetadata
    covered: Sequence[EntryId]
    complete: bool = True
    spooled: bool = False


class Placement(Protocol):
    """A durable place for blobs."""

    async def place(self, finished: Finished, pending: Pending) -> Stored:
        """Keep a blob, once; durable on return."""

    async def withdraw(self, stored: Stored) -> None:
        """Remove what was just placed, because its audio has been deleted on demand."""


class StorePlacement:
    """Puts blobs into the store, for ever trying."""

    def __init__(self, store: PatientStore, metrics: Metrics) -> None:
        self._store = store
        self._metrics = metrics

    async def place(self, finished: Finished, pending: Pending) -> Stored:
        """See `Placement`. Raises `Outage`, if the store was told to give up."""
        seal = finished.seal
        for info in await self._candidates(finished):
            if known := judged(seal, info, pending(), self._metrics):
                return known
        metadata = finished.metadata.to_mapping()
        name = seal.object
        for step in count(1):
            taken = await self._timed_create(name, finished.blob, metadata)
            if taken is None:
                return Stored(name, len(finished.blob), finished.metadata, seal.all_ids)
            if known := judged(seal, taken, pending(), self._metrics):
                return known
            name = next_free_name(seal.object, step)
        raise AssertionError("unreachable: there is always a next name")

    async def withdraw(self, stored: Stored) -> None:
        """See `Placement`."""
        await self._store.delete(stored.name)

    async def _candidates(self, finished: Finished) -> list[BlobInfo]:
        """Objects under other names that may hold entries of the batch; none in the steady state."""
        folder, _, _ = finished.seal.object.rpartition("/")
        parsed = parse_name(finished.seal.object)
        if finished.doubtful:
            return await self._store.listed(f"{folder}/")
        if finished.recovered and parsed.kind.batch:  # the same start may have another end, or none
            return await self._store.listed(f"{folder}/{parsed.stem.partition('-')[0]}")
        return []

    async def _timed_create(self, name: str, blob: bytes, metadata: Mapping[str, str]) -> BlobInfo | None:
        with self._metrics.stage.labels("upload").time():
            return await create_or_find(self._store, name, blob, metadata)


class Creator(Protocol):
    """What `create_or_find` asks of a store."""

    async def create(self, name: str, data: bytes, metadata: Mapping[str, str]) -> None:
        """See `Store.create`."""

    async def stat(self, name: str) -> BlobInfo | None:
        """See `Store.stat`."""


async def create_or_find(store: Creator, name: str, blob: bytes, metadata: Mapping[str, str]) -> BlobInfo | None:
    """Create an object; None when it is stored, else what has the name."""
    while True:
        try:
            await store.create(name, blob, metadata)
        except ObjectExists:
            taken = await store.stat(name)
            if taken is None:  # deleted since: the name is free again
                continue
            return taken
        return None


def judged(seal: Seal, found: BlobInfo, pending: Collection[EntryId], metrics: Metrics) -> Stored | None:
    """What the found object means for a batch; None if it is foreign."""
    judgement = judge(seal, found.metadata, pending)
    metrics.conflicts.labels(judgement.verdict.value).inc()
    log.warning("store.conflict", object=found.name, verdict=judgement.verdict.value)
    if judgement.verdict is Verdict.FOREIGN:
        return None
    complete = set(judgement.covered).issuperset(seal.entries)
    covered = (*judgement.covered, *seal.markers) if complete else judgement.covered
    return Stored(found.name, found.size, BlobMetadata.from_mapping(found.metadata), covered, complete)
