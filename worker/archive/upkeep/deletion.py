"""Deletes recordings and verifies it: another listing checks the result, and audio on its way does not come back.

Work that makes an object from one that is being deleted, for example a conversion, must notice the deletion. So a
deletion is recorded anew before each listing, and is complete when a listing finds nothing. An object that is made
after this listing comes from an object that was read before the latest record. So its maker finds a record that it did
not know.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import NamedTuple

from codec.errors import BadName
from codec.names import FOLDER, format_timestamp, parse_name, prefix
from worker.archive.blobs.known_deletions import record_deletion
from worker.archive.blobs.ordered import ordered
from worker.archive.blobs.progress import Progress, unseen
from worker.archive.blobs.retrying import OF_ONE_OBJECT, pages, retry
from worker.errors import StoreError, StreamError
from worker.model.ids import EntryId
from worker.stores.base import BlobInfo, Store
from worker.stream.tombstones import RecordedDeletion, Tombstones

FOLDERS = (FOLDER, "audio", "merged", "playback")
"""Folders of a conversation's audio: blobs, and files that backends make of them, `{folder}/{uid}/{conversation}/…`."""

DELETES = 32
"""Deletions at once."""

PASSES = 3
"""The most listings until nothing is left: uploads that were under way may come after the first."""

STILL_THERE = "it is still there, or came while others were deleted"


class Undeleted(NamedTuple):
    """An object that was still there at the end, and why: the store's message, if it refused to delete it."""

    name: str
    reason: str


@dataclass(slots=True)
class Deletion:
    """The objects that were deleted (with `dry_run`: would be), and those that were still there at the end.

    `bytes` is the size of the deleted ones. `absent` are timestamps at which no blob starts. `partitions` counts those
    in Redis that know of the deletion (None if Redis was not told), `dead_letters` those that were deleted with it. Of
    Redis' `replicas`, as many as `unconfirmed_replicas` may not know of it yet.
    """

    names: list[str] = field(default_factory=list)
    bytes: int = 0
    left: list[Undeleted] = field(default_factory=list)
    absent: list[float] = field(default_factory=list)
    partitions: int | None = None
    dead_letters: int = 0
    replicas: int = 0
    unconfirmed_replicas: int = 0

    @property
    def complete(self) -> bool:
        """Whether nothing is left, and nothing comes back."""
        return not self.left and not self.unconfirmed_replicas


class Deleter:
    """Deletes once: a whole conversation or user, or some blobs of a conversation.

    Unless `recorded` is false, the deletion is recorded in the store too: for blobs in a spool, and for conversions.
    With `dry_run` nothing is changed; `progress` takes the number of objects that were deleted.
    """

    def __init__(
        self, store: Store, *, dry_run: bool = False, recorded: bool = True, progress: Progress = unseen
    ) -> None:
        self._store = store
        self._dry_run = dry_run
        self._recorded = recorded
        self._progress = progress
        self._deletion = Deletion()

    async def delete_all(
        self, uid: str, conversation_id: str | None = None, *, tombstones: Tombstones | None
    ) -> Deletion:
        """Delete a conversation, or a user with all conversations, and everything derived.

        With `tombstones`, audio that is still in Redis and batches that are being uploaded do not bring it back.

        Raises:
            BadName: an id can't be part of a name.
            StreamError: Redis can't be told in full; nothing is deleted in the store then. Partitions that were told
                don't store what was pushed until now; a second call tells the others.
            StoreError: the store does not answer or does not record the deletion; a second call resumes. An object
                that the store refuses to delete raises nothing; it is in `left`.
        """
        below = prefix(uid, conversation_id).removeprefix(FOLDER)
        streams: Mapping[str, EntryId] = {}
        if tombstones is not None and not self._dry_run:
            told = await _recorded(tombstones, uid, conversation_id)
            streams = told.streams
            self._deletion.partitions, self._deletion.dead_letters = told.partitions, told.dead_letters
            self._deletion.replicas, self._deletion.unconfirmed_replicas = told.replicas, told.unconfirmed

        async def record() -> None:
            await record_deletion(self._store, uid, conversation_id, streams)

        for folder in FOLDERS:
            await self._clear(folder + below, _any, record)
        return self._deletion

    async def delete_chunks(self, uid: str, conversation_id: str, timestamps: Sequence[float]) -> Deletion:
        """Delete the blobs that start at these timestamps, in every kind, with and without a range; others stay.

        If it is recorded, blobs that a conversion makes of them meanwhile are deleted too. Raises as `delete_all`.
        """
        wanted = {format_timestamp(timestamp): timestamp for timestamp in timestamps}

        async def record() -> None:
            for start in wanted.values():
                await record_deletion(self._store, uid, conversation_id, {}, start=start)

        await self._clear(prefix(uid, conversation_id), lambda name: _start_of(name) in wanted, record)
        deletion = self._deletion
        found = {_start_of(name) for name in (*deletion.names, *(left.name for left in deletion.left))}
        deletion.absent = [timestamp for text, timestamp in wanted.items() if text not in found]
        return deletion

    async def _clear(self, start: str, meant: Callable[[str], bool], record: Callable[[], Awaitable[None]]) -> None:
        left: list[str] = []
        refused: dict[str, str] = {}
        for _ in range(PASSES):
            if self._recorded and not self._dry_run:
                await self._record(record)
            left = []
            async for page in pages(self._store, start):
                found = [info for info in page if meant(info.name)]
                left += [info.name for info in found]
                refused |= await self._delete([info for info in found if info.name not in refused])
            if self._dry_run or refused.keys() >= set(left):
                break
        if not self._dry_run:
            self._deletion.left += [Undeleted(name, refused.get(name, STILL_THERE)) for name in left]

    async def _record(self, record: Callable[[], Awaitable[None]]) -> None:
        try:
            await record()
        except StoreError as error:
            names = self._deletion.names
            done = f"{len(names)} objects are" if names else "nothing is"
            raise StoreError(
                f"{done} deleted: the deletion can't be recorded: {error}",
                cause=error.cause,
                status=error.status,
                retry_after=error.retry_after,
            ) from error

    async def _delete(self, found: Sequence[BlobInfo]) -> dict[str, str]:
        """Delete objects; returns the names of those that the store refuses to delete, and why."""
        refused: dict[str, str] = {}

        async def gone(info: BlobInfo) -> bool:
            try:
                if not self._dry_run:
                    # The answer does not matter: a just listed object is missing only if a reply was lost.
                    await retry(lambda: self._store.delete(info.name))
            except StoreError as error:
                if error.cause not in OF_ONE_OBJECT:
                    raise
                refused[info.name] = str(error)
            return info.name not in refused

        async with aclosing(ordered(found, gone, limit=DELETES)) as results:
            remaining = iter(found)
            async for happened in results:
                info = next(remaining)
                if happened:
                    self._deletion.names.append(info.name)
                    self._deletion.bytes += info.size
                    self._progress(len(self._deletion.names), 0)
        return refused


async def _recorded(tombstones: Tombstones, uid: str, conversation_id: str | None) -> RecordedDeletion:
    try:
        return await tombstones.record_deletion(uid, conversation_id)
    except StreamError as error:
        raise StreamError(
            f"nothing is deleted in the store, because Redis could not be told of all of it: {error}; the same deletion"
            " once more completes it",
            error.cause,
        ) from error


def _any(_: str) -> bool:
    return True


def _start_of(name: str) -> str | None:
    try:
        return format_timestamp(parse_name(name).start)
    except BadName:
        return None
