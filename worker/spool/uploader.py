"""The way of a spooled blob into the store, under the rules of every upload: create-only, and no deleted audio."""

from __future__ import annotations

from collections.abc import Sequence

from codec.manifest import Manifest, claimed
from worker.delivery.sink import Attempt, EncodedBatch, erase_upload, remove_upload
from worker.model.ids import EntryId, entry_order
from worker.model.stored_blob import StoredBlob
from worker.runtime.metrics import Metrics
from worker.spool.record import Record, RecordHeader
from worker.stores.monitored import MonitoredStore, StoreHealth
from worker.stores.tombstones import find_tombstones
from worker.stream.entries import Entries


class Uploader:
    """Uploads blobs whose entries have left Redis; the store must get all of their audio, beside any other objects."""

    def __init__(self, store: MonitoredStore, entries: Entries, metrics: Metrics, secrets: Sequence[str]) -> None:
        self._store = store
        self._entries = entries
        self._metrics = metrics
        self._secrets = secrets

    @property
    def health(self) -> StoreHealth:
        """The health of the store."""
        return self._store.health

    def now_ms(self) -> int:
        """Redis' time in ms."""
        return self._entries.client.now_ms()

    async def upload(self, record: Record) -> str | None:
        """Store a blob once; returns its name in the store, None if its audio must not be stored.

        Audio must not be stored if it was deleted on demand, or if the worker that spooled it had lost its seal. The
        call may be repeated after any failure.

        Raises:
            StoreError: the store refuses.
            StreamError: Redis can't say what has been deleted.
        """
        encoded = _encoded(record)
        if await self._is_unwanted(record.header, encoded.manifest.upload):
            await erase_upload(self._store, name=record.header.seal.object, upload=encoded.manifest.upload)
            return None
        stored = await self._store_whole(encoded)
        if await self._is_unwanted(record.header, encoded.manifest.upload):  # meanwhile
            await remove_upload(self._store, name=stored.name, upload=stored.upload)
            return None
        return stored.name

    async def _store_whole(self, encoded: EncodedBatch) -> StoredBlob:
        """Store all of it, also beside an object that holds a part: the rest has left Redis and is nowhere else."""
        attempt = Attempt(encoded, lambda: encoded.chunks, self._secrets, self._metrics, parts_count=False)
        return await attempt.store(self._store)

    async def _is_unwanted(self, header: RecordHeader, upload: str) -> bool:
        seal = header.seal
        standing = await self._entries.standing(header.partition, seal, upload)
        if standing.deleted or standing.withdrawn:
            return True
        if standing.stream == seal.stream and entry_order(standing.changed) < entry_order(seal.id):
            return False
        # Redis may have lost data since, and deletions with it.
        deletions = await find_tombstones(self._store, seal.uid, seal.conversation_id)
        return any(deletion.covers(seal.stream, seal.id) for deletion in deletions)


def _encoded(record: Record) -> EncodedBatch:
    """The blob as a delivery would have it; the header fits its checksum, so its claims count as our own."""
    header = record.header
    manifest = claimed(header.metadata) or _unidentified(header)
    chunks: dict[EntryId, bytes] = dict(zip(header.seal.entries, manifest.listed(), strict=False))
    metadata = {**header.metadata, "upload": manifest.upload}
    return EncodedBatch(header.partition, header.seal, record.blob, manifest, metadata, chunks)


def _unidentified(header: RecordHeader) -> Manifest:
    """The manifest of a blob that an older version spooled; its checksum recognises only its own uploads."""
    return Manifest("", "", len(header.seal.entries), f"{header.crc32c:016x}", header.size, header.crc32c)
