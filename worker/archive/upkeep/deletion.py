"""Deleting recordings, verified: what is gone is listed again, and what is on its way is kept from coming back.

Who makes an object from one that is being deleted, as a conversion does, must see it. So a deletion is recorded anew
before each listing, and is complete when a listing finds nothing. What is made after this listing was made from an
object that was read before the latest record: so its maker finds a record that it did not know.
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
from worker.archive.blobs.retrying import PASSING, pages, retry
from worker.errors import StoreError
from worker.model.ids import EntryId
from worker.stores.base import BlobInfo, Store
from worker.stream.tombstones import Tombstones

FOLDERS = (FOLDER, "audio", "merged")
"""Where a conversation's audio may be: blobs, and what backends derive from them, `{folder}/{uid}/{conversation}/…`."""

DELETES = 32
"""Deletions at once."""

PASSES = 3
"""Listings until nothing is left: uploads that were under way may come after the first."""

STILL_THERE = "it is still there, or came while others were deleted"


class Undeleted(NamedTuple):
    """An object that was still there at the end, and why: the store's words, if it refused to delete it."""

    name: str
    reason: str


@dataclass(slots=True)
class Deletion:
    """What was deleted (with `dry_run`: would be), and what was still there at the end.

    `absent` are timestamps that no blob has. `partitions` counts those in Redis that know of the deletion (None if
    Redis was not told), `dead_letters` those that went with it. Of Redis' `replicas` so many as `unconfirmed_replicas`
    may not know of it yet.
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


async def delete_all(
    store: Store,
    uid: str,
    conversation_id: str | None = None,
    *,
    tombstones: Tombstones | None,
    dry_run: bool = False,
    recorded: bool = True,
    progress: Progress = unseen,
) -> Deletion:
    """Delete a conversation, or a user with all conversations, and everything derived.

    With `tombstones`, audio that is still in Redis, and batches that are being uploaded, do not bring it back. Unless
    `recorded` is false, the deletion is recorded in the store too: for what is in a spool, and for conversions.

    Raises:
        BadName: an id can't be part of a name.
        StreamError: Redis can't be told; nothing is deleted then.
        StoreError: the store does not answer or does not record the deletion; doing it again goes on. An object that
            it refuses to delete is only left.
    """
    below = prefix(uid, conversation_id).removeprefix(FOLDER)
    deletion = Deletion()
    streams: Mapping[str, EntryId] = {}
    if tombstones is not None and not dry_run:
        recorded_in_redis = await tombstones.record_deletion(uid, conversation_id)
        streams, deletion.partitions, deletion.dead_letters = (
            recorded_in_redis.streams,
            recorded_in_redis.partitions,
            recorded_in_redis.dead_letters,
        )
        deletion.replicas, deletion.unconfirmed_replicas = recorded_in_redis.replicas, recorded_in_redis.unconfirmed

    async def record() -> None:
        if recorded:
            await _recorded(record_deletion(store, uid, conversation_id, streams), deletion)

    for folder in FOLDERS:
        await _clear(store, folder + below, _any, deletion, record=record, dry_run=dry_run, progress=progress)
    return deletion


async def delete_chunks(
    store: Store,
    uid: str,
    conversation_id: str,
    timestamps: Sequence[float],
    *,
    dry_run: bool = False,
    recorded: bool = True,
) -> Deletion:
    """Delete the blobs that start at these timestamps, in every kind, with and without a range; others stay.

    Unless `recorded` is false, what a conversion makes of them meanwhile goes too. Raises as `delete_all`.
    """
    wanted = {format_timestamp(timestamp): timestamp for timestamp in timestamps}
    below = prefix(uid, conversation_id)
    deletion = Deletion()

    async def record() -> None:
        for start in wanted.values() if recorded else ():
            await _recorded(record_deletion(store, uid, conversation_id, {}, start=start), deletion)

    await _clear(store, below, lambda name: _start_of(name) in wanted, deletion, record=record, dry_run=dry_run)
    found = {_start_of(name) for name in (*deletion.names, *(left.name for left in deletion.left))}
    deletion.absent = [timestamp for text, timestamp in wanted.items() if text not in found]
    return deletion


async def _recorded(recording: Awaitable[None], deletion: Deletion) -> None:
    try:
        await recording
    except StoreError as error:
        done = f"{len(deletion.names)} objects are" if deletion.names else "nothing is"
        raise StoreError(
            f"{done} deleted: the deletion can't be recorded: {error}",
            cause=error.cause,
            status=error.status,
            retry_after=error.retry_after,
        ) from error


async def _clear(
    store: Store,
    start: str,
    meant: Callable[[str], bool],
    deletion: Deletion,
    *,
    record: Callable[[], Awaitable[None]],
    dry_run: bool,
    progress: Progress = unseen,
) -> None:
    left: list[str] = []
    refused: dict[str, str] = {}
    for _ in range(PASSES):
        if not dry_run:
            await record()
        left = []
        async for page in pages(store, start):
            found = [info for info in page if meant(info.name)]
            left += [info.name for info in found]
            wanted = [info for info in found if info.name not in refused]
            refused |= await _delete(store, wanted, deletion, dry_run=dry_run)
            progress(len(deletion.names), 0)
        if dry_run or refused.keys() >= set(left):
            break
    if not dry_run:
        deletion.left += [Undeleted(name, refused.get(name, STILL_THERE)) for name in left]


async def _delete(store: Store, found: Sequence[BlobInfo], deletion: Deletion, *, dry_run: bool) -> dict[str, str]:
    """Delete objects; gives the names of those that the store refuses to delete, and why."""
    refused: dict[str, str] = {}

    async def gone(info: BlobInfo) -> bool:
        try:
            if not dry_run:
                # Its answer tells nothing: of what was listed just now, an object is missing only if a reply got lost.
                await retry(lambda: store.delete(info.name))
        except StoreError as error:
            if error.cause in PASSING:
                raise
            refused[info.name] = str(error)
        return info.name not in refused

    async with aclosing(ordered(found, gone, limit=DELETES)) as results:
        remaining = iter(found)
        async for happened in results:
            info = next(remaining)
            if happened:
                deletion.names.append(info.name)
                deletion.bytes += info.size
    return refused


def _any(_: str) -> bool:
    return True


def _start_of(name: str) -> str | None:
    try:
        return format_timestamp(parse_name(name).start)
    except BadName:
        return None
