"""Put a finished blob into the store, under its seal's name, or under a later one beside the object that has it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from typing import Protocol

import structlog

from codec.errors import BadName
from codec.manifest import Manifest
from codec.metadata import BlobMetadata
from codec.names import format_timestamp, parse_name
from worker.delivery.conflict import Claim, Judgement, judge
from worker.errors import StoreError
from worker.model.causes import StoreCause, Verdict
from worker.model.ids import START, EntryId
from worker.model.seal import Seal, later_name
from worker.model.stored_blob import StoredBlob
from worker.runtime.metrics import Metrics
from worker.stores.base import BlobInfo
from worker.stores.monitored import MonitoredStore
from worker.stores.retrying import RetryingStore

Pending = Callable[[], Mapping[EntryId, bytes]]
"""Returns the entries of the batch's conversation that are pending at the moment, with their identities."""

NAMES_TRIED = 8
"""Names that one try may find taken. Then the store is asked again later, because it may say so of every name."""

UNANSWERED = (StoreCause.NETWORK, StoreCause.TIMEOUT, StoreCause.UNEXPECTED)
"""Causes of failures after which the store may have done the request."""

FORBIDDEN = (StoreCause.HELD, StoreCause.PERMISSION)
"""Causes why an object may have to stay for days or for good."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class EncodedBatch:
    """A batch as a blob, with its object's metadata; `chunks` maps its entries to the identities of their chunks.

    `recovered` says that the entries may have been in a batch whose seal Redis has forgotten. `doubtful` says that
    Redis has indeed lost writes since, so that their audio may be in any of the conversation's objects. `born` is that
    of `StreamIdentity`.
    """

    partition: int
    seal: Seal
    blob: bytes
    manifest: Manifest
    metadata: Mapping[str, str]
    chunks: Mapping[EntryId, bytes]
    recovered: bool = False
    doubtful: bool = False
    born: EntryId = START

    @property
    def claim(self) -> Claim:
        """The facts that objects are compared with."""
        return Claim(self.seal, self.manifest, self.chunks, self.born)


class BlobSink(Protocol):
    """A durable place for blobs."""

    async def place(self, encoded: EncodedBatch, pending: Pending) -> StoredBlob:
        """Store a blob exactly once; it is durable on return."""

    async def withdraw(self, stored: StoredBlob) -> None:
        """Remove a blob that was just stored: its audio was deleted on demand, or another object holds it.

        Raises:
            StoreError: the store forbids that for this object; all other failures are repeated.
        """

    async def erase(self, stored: StoredBlob) -> None:
        """Remove a blob that was stored some time ago; it may have another name by now. Raises as `withdraw`."""

    async def made(self, upload: str, name: str) -> bool | None:
        """Whether an upload has made the object of this name; None if there is none."""


class StoreSink:
    """Puts blobs into the store, and repeats that until the store accepts them."""

    def __init__(self, store: RetryingStore, metrics: Metrics, secrets: Sequence[str]) -> None:
        self._store = store
        self._metrics = metrics
        self._secrets = secrets

    async def place(self, encoded: EncodedBatch, pending: Pending) -> StoredBlob:
        """See `BlobSink`. Raises `Outage` if its `RetryingStore` gives up."""
        attempt = Attempt(encoded, pending, self._secrets, self._metrics)
        with self._metrics.stage.labels("upload").time():
            return await self._store.repeat(attempt.store)

    async def withdraw(self, stored: StoredBlob) -> None:
        """See `BlobSink`."""
        await self._unless_forbidden(partial(remove_upload, name=stored.name, upload=stored.upload))

    async def erase(self, stored: StoredBlob) -> None:
        """See `BlobSink`."""
        await self._unless_forbidden(partial(erase_upload, name=stored.name, upload=stored.upload))

    async def made(self, upload: str, name: str) -> bool | None:
        """See `BlobSink`."""
        found = await self._store.repeat(lambda store: store.stat(name), endless=True)
        return None if found is None else found.metadata.get("upload") == upload

    async def _unless_forbidden(self, removal: Callable[[MonitoredStore], Awaitable[None]]) -> None:
        """Repeat a removal until the store has done it or forbids it. Raises `StoreError` then."""

        async def tried(store: MonitoredStore) -> StoreError | None:
            try:
                await removal(store)
            except StoreError as error:
                if error.cause not in FORBIDDEN:
                    raise
                return error
            return None

        if (refusal := await self._store.repeat(tried, endless=True)) is not None:
            raise refusal


@dataclass(slots=True)
class Attempt:
    """Stores a batch, or finds where it is stored; `store` may be repeated after any failure.

    A request may have stored the batch although no answer came. Then the next try looks first, because the object may
    have been converted and have another name by then.

    `parts_count` says whether an object that holds only a part of the batch counts as stored audio. It does if the
    entries of the batch are in Redis. If the batch is nowhere else, the whole of it is stored beside that object.
    """

    encoded: EncodedBatch
    pending: Pending
    secrets: Sequence[str]
    metrics: Metrics
    parts_count: bool = True
    _may_be_stored: bool = field(default=False, init=False)
    _reported: set[tuple[str, Verdict]] = field(default_factory=set, init=False)

    async def store(self, store: MonitoredStore) -> StoredBlob:
        """One try. Raises `StoreError`."""
        stored = await self._stored(store)
        store.accepted()
        return stored

    async def _stored(self, store: MonitoredStore) -> StoredBlob:
        encoded = self.encoded
        name, (folder, _, _) = encoded.seal.object, encoded.seal.object.rpartition("/")
        if known := self._among(await self._candidates(store)):
            return known
        for _ in range(NAMES_TRIED):
            taken = await self._put(store, name)
            if taken is None:
                return stored_as_sealed(encoded, name)
            if known := self._known(taken):
                return known
            others = await store.listed(f"{folder}/")
            if known := self._among(others):
                return known
            name = next_free_name(encoded.seal.object, others)
        raise store.refused(
            StoreError(
                f"{encoded.seal.object} and {NAMES_TRIED} names after it are taken", cause=StoreCause.NAMES_TAKEN
            )
        )

    async def _put(self, store: MonitoredStore, name: str) -> BlobInfo | None:
        try:
            return await store.put(name, self.encoded.blob, self.encoded.metadata)
        except StoreError as error:
            self._may_be_stored |= error.cause in UNANSWERED
            raise

    def _is_own(self, taken: BlobInfo) -> bool:
        """Whether an upload of ours, whose reply was lost, has made the object completely."""
        manifest = self.encoded.manifest
        return taken.metadata.get("upload") == manifest.upload and manifest.fits(taken.size, taken.crc32c)

    def _among(self, others: Iterable[BlobInfo]) -> StoredBlob | None:
        """Where the batch is, if one of the objects holds it: the first in the order of their names."""
        found = (self._known(info, is_candidate=True) for info in others)
        return next((known for known in found if known is not None), None)

    def _known(self, info: BlobInfo, *, is_candidate: bool = False) -> StoredBlob | None:
        """What the found object means for the batch; None if it does not hold it."""
        encoded = self.encoded
        if self._is_own(info):
            self._report(info, Judgement(Verdict.SAME))
            return stored_as_sealed(encoded, info.name)
        judgement = judge(encoded.claim, info, self.pending(), self.secrets)
        if judgement.verdict is not Verdict.FOREIGN or not is_candidate:  # a candidate has another name
            self._report(info, judgement)
        stored = stored_by(encoded.seal, encoded.chunks, info, judgement)
        if stored is not None and (stored.complete or self.parts_count):
            return stored
        return None

    def _report(self, info: BlobInfo, judgement: Judgement) -> None:
        """Report each object and verdict once.

        The object may have the name, be listed too, and be met again by the next try.
        """
        if (info.name, judgement.verdict) not in self._reported:
            self._reported.add((info.name, judgement.verdict))
            report_conflict(info, judgement, self.metrics)

    async def _candidates(self, store: MonitoredStore) -> list[BlobInfo]:
        """Objects under other names that may hold chunks of the batch; none in the steady state."""
        folder, _, _ = self.encoded.seal.object.rpartition("/")
        if self.encoded.doubtful:
            return await store.listed(f"{folder}/")
        if self.encoded.recovered or self._may_be_stored:  # perhaps in another format, or with another end
            stem = parse_name(self.encoded.seal.object).stem
            return await store.listed(f"{folder}/{stem.partition('-')[0]}")
        return []


def stored_as_sealed(encoded: EncodedBatch, name: str) -> StoredBlob:
    """Where a batch is that its own upload has stored completely."""
    return StoredBlob(
        name,
        len(encoded.blob),
        BlobMetadata.from_mapping(encoded.metadata),
        encoded.seal.all_ids,
        encoded.manifest.upload,
        created=True,
        identities=b"".join(encoded.chunks.values()),
    )


def report_conflict(info: BlobInfo, judgement: Judgement, metrics: Metrics) -> None:
    """Count and log an object that was found instead of a free name; the batch's own object is not a conflict."""
    metrics.conflicts.labels(judgement.verdict).inc()
    if judgement.verdict is Verdict.SAME:
        log.info("store.recognised", object=info.name)
    else:
        log.warning("store.conflict", object=info.name, verdict=judgement.verdict)


def stored_by(seal: Seal, chunks: Mapping[EntryId, bytes], info: BlobInfo, judgement: Judgement) -> StoredBlob | None:
    """Where a batch is stored, if an object holds it or a part of it."""
    manifest = judgement.manifest
    if manifest is None:
        return None
    complete = set(judgement.covered).issuperset(chunks)
    covered = judgement.covered
    if complete:  # vanished entries of the batch leave with it
        covered = tuple(dict.fromkeys((*covered, *seal.all_ids)))
    metadata = BlobMetadata.from_mapping(info.metadata)
    identities = manifest.identities or b"".join(chunks[entry] for entry in judgement.covered if entry in chunks)
    return StoredBlob(info.name, info.size, metadata, covered, manifest.upload, complete, identities=identities)


async def remove_upload(store: MonitoredStore, *, name: str, upload: str) -> None:
    """Remove an object if this upload made it; another one that has taken its name since stays."""
    found = await store.stat(name)
    if found is not None and found.metadata.get("upload") == upload:
        await store.delete(name, found.generation)


async def erase_upload(store: MonitoredStore, *, name: str, upload: str) -> None:
    """Remove the objects of this upload from the folder of `name`."""
    folder, _, _ = name.rpartition("/")
    for info in await store.listed(f"{folder}/"):
        if info.metadata.get("upload") == upload:
            await store.delete(info.name, info.generation)


def next_free_name(name: str, others: Iterable[BlobInfo]) -> str:
    """The first later name whose start no blob of the conversation has.

    Readers take blobs with one start for the same audio.
    """
    starts = set(_starts(others))
    later = (later_name(name, step) for step in count(1))
    return next(found for found in later if format_timestamp(parse_name(found).start) not in starts)


def _starts(found: Iterable[BlobInfo]) -> Iterator[str]:
    for info in found:
        try:
            yield format_timestamp(parse_name(info.name).start)
        except BadName:
            continue
