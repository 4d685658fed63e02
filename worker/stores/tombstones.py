"""Deletions as the store keeps them, for as long as deleted audio might come back.

Redis has tombstones too, and forgets them with its data. A blob in a spool, a replica that lagged behind, or a
conversion in progress would then restore deleted audio. So a deletion is also one small object:

    deleted/{first 32 hex digits of SHA-256 of uid, a zero byte and the conversation id, if it is of a conversation}

Its content is JSON: `id` (random, of the latest deletion) and `streams`, which maps the random id of a stream to the
last entry that was in it at the deletion. All entries of that stream up to this one are deleted. The names do not
reveal whose audio it was. A lifecycle rule may remove the objects when all spools and backups of Redis are younger.
"""

from __future__ import annotations

import json
import secrets
from dataclasses import dataclass, field
from hashlib import sha256
from typing import TYPE_CHECKING, Protocol

from worker.errors import ObjectExists, ObjectMissing, StoreError
from worker.model.causes import StoreCause
from worker.model.ids import entry_order

if TYPE_CHECKING:
    from collections.abc import Mapping

    from worker.model.ids import EntryId
    from worker.stores.base import Store

FOLDER = "deleted"
SPARE = ".next"
"""Ends the name of the object that keeps a record while the record is replaced."""

TRIES = 5
"""Attempts of a deletion: another one of the same conversation may replace the object at the same time."""


class TombstoneReader(Protocol):
    """The part of a store that reading needs."""

    async def read(self, name: str) -> bytes:
        """See `Store.read`."""


@dataclass(frozen=True, slots=True)
class Tombstone:
    """A deletion: its random id, and per stream the last entry that it covers."""

    id: str
    streams: Mapping[str, EntryId] = field(default_factory=dict)

    def covers(self, stream: str, entry: EntryId) -> bool:
        """Whether an entry of a stream was pushed before the deletion."""
        last = self.streams.get(stream)
        return last is not None and entry_order(entry) <= entry_order(last)

    def to_bytes(self) -> bytes:
        """The object's content."""
        return json.dumps({"id": self.id, "streams": dict(self.streams)}, sort_keys=True).encode()


def tombstone_name(uid: str, conversation_id: str | None = None) -> str:
    """Name of the object that records the deletion of a user or of one conversation."""
    whose = uid if conversation_id is None else f"{uid}\0{conversation_id}"
    return f"{FOLDER}/{sha256(whose.encode()).hexdigest()[:32]}"


async def record_tombstone(
    store: Store, uid: str, conversation_id: str | None, streams: Mapping[str, EntryId]
) -> Tombstone:
    """Record a deletion as of now; what former deletions cover stays covered.

    Raises:
        StoreError: a request to the store failed; the deletion is not recorded then.
    """
    name = tombstone_name(uid, conversation_id)
    for _ in range(TRIES):
        generation = await _generation(store, name)
        before = await _read(store, name)
        interrupted = await _read(store, name + SPARE)
        merged = _merged(streams, *(found.streams for found in (before, interrupted) if found is not None))
        tombstone = Tombstone(secrets.token_hex(8), merged)
        try:
            if interrupted is not None:
                await store.delete(name + SPARE)
            if before is not None:
                await _make_room(store, name, tombstone.to_bytes(), generation)
            await store.create(name, tombstone.to_bytes(), {})
        except ObjectExists:
            continue
        if before is not None or interrupted is not None:
            await store.delete(name + SPARE)
        return tombstone
    raise StoreError(
        f"{name} changes all the time: other deletions of the same audio are under way", cause=StoreCause.EXISTS
    )


async def _make_room(store: Store, name: str, content: bytes, generation: str | None) -> None:
    """Remove the record that was read. A spare keeps the new content, in case this process dies in between.

    Raises:
        ObjectExists: another deletion replaces the record, or has replaced it.
    """
    await store.create(name + SPARE, content, {})
    if generation is None or not await store.delete(name, generation):
        raise ObjectExists(name)


async def _generation(store: Store, name: str) -> str | None:
    found = await store.stat(name)
    return None if found is None else found.generation


def _merged(*known: Mapping[str, EntryId]) -> dict[str, EntryId]:
    """The last entry of each stream that any of these covers."""
    merged: dict[str, EntryId] = {}
    for streams in known:
        for stream, last in streams.items():
            merged[stream] = max(last, merged.get(stream, last), key=entry_order)
    return merged


async def find_tombstones(store: TombstoneReader, uid: str, conversation_id: str) -> list[Tombstone]:
    """Deletions of a conversation and of its user; empty if neither was ever deleted.

    Raises:
        StoreError: the store does not answer.
    """
    found = [await read_tombstone(store, uid), await read_tombstone(store, uid, conversation_id)]
    return [tombstone for tombstone in found if tombstone is not None]


async def read_tombstone(store: TombstoneReader, uid: str, conversation_id: str | None = None) -> Tombstone | None:
    """The deletion of a user or of one conversation; None if it was never deleted. Raises as `find_tombstones`.

    While the record is replaced, only the spare is there. If that is gone too, the new record has come meanwhile.
    """
    name = tombstone_name(uid, conversation_id)
    for place in (name, name + SPARE, name):
        if (found := await _read(store, place)) is not None:
            return found
    return None


async def _read(store: TombstoneReader, name: str) -> Tombstone | None:
    try:
        content = await store.read(name)
    except ObjectMissing:
        return None
    try:
        facts = json.loads(content)
        streams = {str(stream): str(last) for stream, last in facts["streams"].items()}
        for last in streams.values():
            entry_order(last)
        return Tombstone(str(facts["id"]), streams)
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise StoreError(
            f"{name} is not a record of a deletion; a person must look", cause=StoreCause.CORRUPT
        ) from error
