"""Deletions that work on recordings must know because they happen at the same time.

A deletion is recorded in the store before anything is deleted. Work that makes an object from another one notes in the
new object which deletions were recorded before it read the source. If others are recorded once the object is made, the
audio must not stay.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import aclosing
from typing import TYPE_CHECKING, cast

from codec.names import format_timestamp
from worker.archive.blobs.ordered import ordered
from worker.archive.blobs.retrying import pages, retry
from worker.stores.tombstones import FOLDER, Tombstone, find_tombstones, record_tombstone, tombstone_name

if TYPE_CHECKING:
    from codec.names import BlobName
    from worker.model.ids import EntryId
    from worker.stores.base import BlobInfo, Store

KNOWN = "deletions-known"
"""Metadata of a converted blob: ids of the deletions that its maker knew of, joined by commas; NONE without any."""

NONE = "none"


async def record_deletion(
    store: Store, uid: str, conversation_id: str | None, streams: Mapping[str, EntryId], *, start: float | None = None
) -> None:
    """Record the deletion of a user, of a conversation, or of the blobs in it that start at `start` (Unix seconds).

    Raises:
        StoreError: the store can't record it.
    """
    if conversation_id is not None and start is not None:
        conversation_id = _at(conversation_id, start)
    await record_tombstone(_patient(store), uid, conversation_id, streams)


async def known_deletions(store: Store, name: BlobName) -> frozenset[str]:
    """Ids of the latest deletions that concern a blob of this name. Raises `StoreError`."""
    whose = (name.conversation_id, _at(name.conversation_id, name.start))

    async def found(conversation_id: str) -> list[Tombstone]:
        return await find_tombstones(_patient(store), name.uid, conversation_id)

    async with aclosing(ordered(whose, found, limit=len(whose))) as results:
        return frozenset([tombstone.id async for tombstones in results for tombstone in tombstones])


async def recorded_deletions(store: Store) -> frozenset[str]:
    """Names of all records of deletions. Raises `StoreError`."""
    return frozenset([info.name async for page in pages(store, f"{FOLDER}/") for info in page])


def may_concern(recorded: frozenset[str], name: BlobName) -> bool:
    """Whether one of the records is of a deletion that concerns a blob of this name."""
    conversation_id = name.conversation_id
    whose = (None, conversation_id, _at(conversation_id, name.start))
    return not recorded.isdisjoint(tombstone_name(name.uid, each) for each in whose)


def noting(deletions: frozenset[str]) -> dict[str, str]:
    """Deletions as metadata."""
    return {KNOWN: ",".join(sorted(deletions)) or NONE}


def noted(info: BlobInfo) -> frozenset[str] | None:
    """The deletions that the maker of a blob knew of; None if its metadata says nothing."""
    text = info.metadata.get(KNOWN)
    return None if text is None else frozenset(text.split(",")) - {NONE}


def _at(conversation_id: str, start: float) -> str:
    # Ids hold no control characters: so this can't be the id of another conversation.
    return f"{conversation_id}\0{format_timestamp(start)}"


class _Patient:
    """The requests that tombstones need, each retried on its own.

    A retry of the whole recording might lose what earlier deletions cover: its first step may have happened.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    async def read(self, name: str) -> bytes:
        return await retry(lambda: self._store.read(name))

    async def create(self, name: str, data: bytes, metadata: Mapping[str, str]) -> None:
        await retry(lambda: self._store.create(name, data, metadata))

    async def stat(self, name: str) -> BlobInfo | None:
        return await retry(lambda: self._store.stat(name))

    async def delete(self, name: str, generation: str | None = None) -> bool:
        return await retry(lambda: self._store.delete(name, generation))


def _patient(store: Store) -> Store:
    return cast("Store", _Patient(store))
