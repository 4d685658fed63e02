"""Look up what the store knows and Redis has forgotten, before entries with an uncertain fate become batches.

After a failover, chunks that are stored already may come again, and deletions may be missing. A conversation with such
entries is looked up in the bucket and in the spool, once. Until the answer is there, its entries stay in Redis.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol

import structlog

from codec.entry import CLEAR_PROTECTION, DEFAULT_PROTECTION, DEFAULT_SAMPLE_RATE, PROTECTIONS
from codec.manifest import Manifest, digest_of, verified
from codec.metadata import BlobMetadata
from codec.names import parse_name, prefix
from worker.delivery.sink import remove_upload
from worker.errors import SpoolRefused, StreamError
from worker.model.ids import START, Conversation, EntryId, StreamIdentity, entry_ms, entry_order
from worker.model.seal import Seal
from worker.model.stored_blob import StoredBlob
from worker.runtime.context import Context
from worker.stores.base import BlobInfo
from worker.stores.retrying import RetryingStore
from worker.stores.tombstones import Tombstone, read_tombstone
from worker.stream.entries import SEEN_TTL, Entries

TRIGGER_UNKNOWN = "recovered"
"""Trigger in the event of a blob whose metadata do not name one."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class FoundBlob:
    """A blob whose manifest proves and lists its chunks, also where the object's own manifest has only a digest."""

    info: BlobInfo
    manifest: Manifest
    spooled: bool = False
    up_to: EntryId | None = None
    """For a blob of a stream whose id Redis has forgotten: the last entry that may be one of its chunks."""

    def may_hold(self, entry: EntryId) -> bool:
        """Whether an entry with the identity of one of its chunks may be that chunk."""
        return self.up_to is None or entry_order(entry) <= entry_order(self.up_to)

    @property
    def facts(self) -> BlobMetadata:
        """The facts in its metadata."""
        return BlobMetadata.from_mapping(self.info.metadata)

    def seal(self, conversation: Conversation, entries: Sequence[EntryId]) -> Seal:
        """Make a seal over entries that came again, to finish them as if their batch had just been stored."""
        name, facts = parse_name(self.info.name), self.facts
        fallback = DEFAULT_PROTECTION if name.kind.encrypted else CLEAR_PROTECTION
        return Seal(
            object=self.info.name,
            uid=conversation.uid,
            conversation_id=conversation.conversation_id,
            start=name.start,
            last_start=name.start if name.end is None else name.end,
            sample_rate=facts.sample_rate or DEFAULT_SAMPLE_RATE,
            samples=facts.samples or 0,
            protection=next((known for known in PROTECTIONS if known == facts.protection), fallback),
            codec=name.kind.codec(facts.codec),
            trigger=facts.trigger or TRIGGER_UNKNOWN,
            entries=tuple(entries),
            stream=self.manifest.stream,
        )

    def stored(self, entries: Sequence[EntryId]) -> StoredBlob:
        """Tell where the audio of these entries is."""
        return StoredBlob(
            self.info.name,
            self.info.size,
            self.facts,
            entries,
            self.manifest.upload,
            spooled=self.spooled,
            identities=self.manifest.identities or b"",
        )


class SpoolHolder(Protocol):
    """The part of the spool that a look-up needs."""

    async def found(self, conversation: Conversation) -> list[BlobInfo]:
        """Blobs of a conversation that are spooled, described as the objects that they will be."""


class Recovery:
    """Looks up conversations.

    Every method asks the store and the spool until they answer. It raises `StreamError` if Redis does not answer.
    """

    def __init__(
        self,
        store: RetryingStore,
        spool: SpoolHolder | None,
        entries: Entries,
        secrets: Sequence[str],
        context: Context,
    ) -> None:
        self.timing = context.timing.delivery
        self._store = store
        self._spool = spool
        self._entries = entries
        self._secrets = secrets
        self._metrics = context.metrics
        self.digest = context.digest

    async def search(self, partition: int, identity: StreamIdentity, conversation: Conversation) -> list[FoundBlob]:
        """Find the blobs of a stream's chunks, and record in Redis the deletions that the bucket knows."""
        deletions = await self.restore_deletions(partition, conversation, identity.stream, identity.born)
        spooled = await self._spooled(conversation)  # first, because they move to the store
        stored = await self._store.listed(prefix(*conversation))
        blobs: list[FoundBlob] = []
        for info in (*spooled, *stored):
            blob = await self._proven(partition, identity, conversation, info)
            if blob is not None and any(_covers(deletion, blob) for deletion in deletions):
                await self._remove(blob, spooled=info in spooled)
            elif blob is not None:
                blobs.append(replace(blob, spooled=info in spooled))
        self._metrics.recoveries.inc()
        self.digest.note(
            log.info,
            "conversations.looked_up",
            first=str(conversation),
            sums={"conversations": 1, "blobs": len(blobs), "deletions": len(deletions)},
        )
        return blobs

    async def restore_deletions(
        self, partition: int, conversation: Conversation, stream: str, born: EntryId
    ) -> list[Tombstone]:
        """Record in Redis the deletions of a conversation that the bucket knows; returns these.

        `born` is that of `StreamIdentity`.
        """
        ids = ((conversation.uid, None), (conversation.uid, conversation.conversation_id))
        found: list[Tombstone] = []
        for name, (uid, conversation_id) in zip(conversation.tombstones, ids, strict=True):
            read = partial(read_tombstone, uid=uid, conversation_id=conversation_id)
            tombstone = await self._store.repeat(read, endless=True)
            if tombstone is None:
                continue
            found.append(tombstone)
            if (last := _deleted_up_to(tombstone, stream, born)) is not None:
                await self._entries.restore_tombstone(partition, name, last)
        return found

    async def _spooled(self, conversation: Conversation) -> list[BlobInfo]:
        while self._spool is not None:
            try:
                return await self._spool.found(conversation)
            except SpoolRefused as error:
                self.digest.note(log.warning, "recovery.waits", error.cause, error=str(error))
                await asyncio.sleep(self.timing.recovery_rest)
        return []

    async def _proven(
        self, partition: int, identity: StreamIdentity, conversation: Conversation, info: BlobInfo
    ) -> FoundBlob | None:
        manifest = verified(info.metadata, *conversation, all_secrets=self._secrets)
        if manifest is None or not manifest.fits(info.size, info.crc32c):
            return None
        is_kin = manifest.stream == identity.stream
        if not is_kin and identity.born == START:
            return None
        if not _may_come_again(BlobMetadata.from_mapping(info.metadata).last_entry, identity):
            return None
        if manifest.identities is None:
            manifest = await self._listed(partition, conversation, info, manifest)
        return None if manifest is None else FoundBlob(info, manifest, up_to=None if is_kin else identity.born)

    async def _listed(
        self, partition: int, conversation: Conversation, info: BlobInfo, manifest: Manifest
    ) -> Manifest | None:
        """The manifest with the identities of its chunks, if Redis holds all of them again."""
        facts = BlobMetadata.from_mapping(info.metadata)
        if facts.first_entry is None or facts.last_entry is None:
            return None
        chunks = await self._entries.chunks(partition, conversation, facts.first_entry, facts.last_entry)
        identities = b"".join(dict.fromkeys(chunk.identity() for chunk in chunks))
        return replace(manifest, identities=identities) if digest_of(identities) == manifest.digest else None

    async def _remove(self, blob: FoundBlob, *, spooled: bool) -> None:
        """Remove a blob of deleted audio, which an upload stored after the deletion."""
        log.warning("recovery.deleted_again", object=blob.info.name)
        if not spooled:  # the uploader asks for deletions by itself
            remove = partial(remove_upload, name=blob.info.name, upload=blob.manifest.upload)
            await self._store.repeat(remove, endless=True)


class Recoveries:
    """The look-ups of one partition; `found` holds the stored chunks of each conversation that was looked up."""

    def __init__(self, partition: int, recovery: Recovery) -> None:
        self._partition = partition
        self._recovery = recovery
        self._identity = StreamIdentity("")
        self._tasks: dict[Conversation, asyncio.Task[list[FoundBlob]]] = {}
        self.found: dict[Conversation, dict[bytes, FoundBlob]] = {}

    def begin(self, identity: StreamIdentity, *, forgot: bool) -> None:
        """Begin, or begin again; results stay valid until Redis has forgotten more, perhaps about the same entries."""
        if forgot or (identity.stream, identity.changed) != (self._identity.stream, self._identity.changed):
            self.stop()
            self.found.clear()
        self._identity = identity

    def ask(self, conversation: Conversation) -> None:
        """Look a conversation up, once."""
        if conversation not in self.found and conversation not in self._tasks:
            self._tasks[conversation] = asyncio.create_task(
                self._search(conversation), name=f"recover {self._partition} {conversation}"
            )

    def is_waiting(self, conversation: Conversation) -> bool:
        """Whether a conversation is being looked up."""
        return conversation in self._tasks

    @property
    def are_waiting(self) -> bool:
        """Whether any conversation is being looked up."""
        return bool(self._tasks)

    def finished(self) -> bool:
        """Whether all look-ups have ended; true only once, then the partition must be read again."""
        if not self._tasks or not all(task.done() for task in self._tasks.values()):
            return False
        for conversation, task in self._tasks.items():
            blobs = task.result()
            self.found[conversation] = {identity: blob for blob in blobs for identity in blob.manifest.listed()}
        self._tasks.clear()
        return True

    def by_blob(
        self, conversation: Conversation, entries: Mapping[EntryId, bytes]
    ) -> Iterator[tuple[FoundBlob, dict[EntryId, bytes]]]:
        """Group entries by the blob that holds them."""
        groups: dict[str, dict[EntryId, bytes]] = {}
        for entry, identity in entries.items():
            groups.setdefault(self.found[conversation][identity].info.name, {})[entry] = identity
        for group in groups.values():
            yield self.found[conversation][next(iter(group.values()))], group

    def forget(self, conversation: Conversation) -> None:
        """Forget what was found for a conversation, because it is not true any more."""
        self.found.pop(conversation, None)

    def stop(self) -> None:
        """End all look-ups."""
        for task in self._tasks.values():
            task.cancel()
        self._tasks.clear()

    async def _search(self, conversation: Conversation) -> list[FoundBlob]:
        while True:
            try:
                return await self._recovery.search(self._partition, self._identity, conversation)
            except StreamError as error:
                self._recovery.digest.note(log.warning, "recovery.waits", error.cause, error=str(error))
            except Exception as error:  # noqa: BLE001 -- a look-up that failed must not count as an answer
                name = type(error).__name__
                self._recovery.digest.note(
                    log.error, "recovery.failed", name, conversation=str(conversation), exc_info=error
                )
            await asyncio.sleep(self._recovery.timing.recovery_rest)


def _deleted_up_to(deletion: Tombstone, stream: str, born: EntryId) -> EntryId | None:
    """The last deleted entry of a stream; entries older than the stream's id may have been in any stream before."""
    before = [min(last, born, key=entry_order) for last in deletion.streams.values()]
    own = deletion.streams.get(stream, START)
    last = max([own, *before], key=entry_order)
    return None if last == START else last


def _covers(deletion: Tombstone, blob: FoundBlob) -> bool:
    first = blob.facts.first_entry
    return first is not None and deletion.covers(blob.manifest.stream, first)


def _may_come_again(last: EntryId | None, identity: StreamIdentity) -> bool:
    """Whether Redis may hold chunks of a blob again, or a pusher may repeat them; this bounds what is remembered.

    Chunks come again only with an entry that is not before the stream's first one. Duplicates come soon.
    """
    if last is None:
        return False
    horizon = entry_ms(identity.changed) - SEEN_TTL * 1000
    return entry_order(last) >= entry_order(identity.first) or entry_ms(last) >= horizon
