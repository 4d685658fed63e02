"""Deleting recordings, verified: what is gone is listed again, and what is on its way is kept from coming back."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field

from codec.names import FOLDER, format_timestamp, prefix
from worker.archive.listing import list_blobs
from worker.archive.merging import Progress, unseen
from worker.archive.parallel import ordered
from worker.archive.patience import pages, patiently
from worker.stores import BlobInfo, Store
from worker.stream.tombstones import Tombstones

FOLDERS = (FOLDER, "audio", "merged")
"""Where a conversation's audio may be: blobs, and what backends derive from them, `{folder}/{uid}/{conversation}/…`."""

DELETES = 32
"""Deletions at once."""

PASSES = 3
"""Listings until nothing is left: uploads that were under way may come after the first."""


@dataclass(slots=True)
class Deletion:
    """What was deleted (with `dry_run`: would be), and what was still there at the end.

    `absent` are timestamps that no blob has. `partitions` counts those in Redis that know of the deletion (None if
    Redis was not told), `dead_letters` those that went with it.
    """

    names: list[str] = field(default_factory=list)
    bytes: int = 0
    left: list[str] = field(default_factory=list)
    absent: list[float] = field(default_factory=list)
    partitions: int | None = None
    dead_letters: int = 0


async def delete_all(
    store: Store,
    uid: str,
    conversation_id: str | None = None,
    *,
    tombstones: Tombstones | None,
    dry_run: bool = False,
    progress: Progress = unseen,
) -> Deletion:
    """Delete a conversation, or a user with all conversations, and everything derived.

    With `tombstones`, audio that is still in Redis, and batches that are being uploaded, do not bring it back.

    Raises:
        BadName: an id can't be part of a name.
        StreamError: Redis can't be told; nothing is deleted then.
        StoreError: the store does not answer; doing it again goes on.
    """
    below = prefix(uid, conversation_id).removeprefix(FOLDER)
    deletion = Deletion()
    if tombstones is not None and not dry_run:
        buried = await tombstones.bury(uid, conversation_id)
        deletion.partitions, deletion.dead_letters = buried.partitions, buried.dead_letters
    for folder in FOLDERS:
        await _clear(store, folder + below, _any, deletion, dry_run=dry_run, progress=progress)
    return deletion


async def delete_chunks(
    store: Store, uid: str, conversation_id: str, timestamps: Sequence[float], *, dry_run: bool = False
) -> Deletion:
    """Delete the blobs that start at these timestamps, in every kind, with and without a range; others stay.

    Raises as `delete_all`.
    """
    wanted = {format_timestamp(timestamp): timestamp for timestamp in timestamps}
    listing = await list_blobs(store, uid, conversation_id)
    chosen = [blob for blob in listing.blobs if format_timestamp(blob.start) in wanted]
    found = {format_timestamp(blob.start) for blob in chosen}
    names = {blob.path for blob in chosen}
    deletion = Deletion(absent=[timestamp for text, timestamp in wanted.items() if text not in found])
    if names:
        await _clear(store, prefix(uid, conversation_id), names.__contains__, deletion, dry_run=dry_run)
    return deletion


async def _clear(
    store: Store,
    start: str,
    meant: Callable[[str], bool],
    deletion: Deletion,
    *,
    dry_run: bool,
    progress: Progress = unseen,
) -> None:
    left: list[str] = []
    for _ in range(PASSES):
        left = []
        async for page in pages(store, start):
            found = [info for info in page if meant(info.name)]
            left += [info.name for info in found]
            await _delete(store, found, deletion, dry_run=dry_run)
            progress(len(deletion.names), 0)
        if dry_run or not left:
            return
    deletion.left += left


async def _delete(store: Store, found: Collection[BlobInfo], deletion: Deletion, *, dry_run: bool) -> None:
    async def deleted(info: BlobInfo) -> bool:
        return dry_run or await patiently(lambda: store.delete(info.name))

    async with aclosing(ordered(found, deleted, limit=DELETES)) as results:
        remaining = iter(found)
        async for happened in results:
            info = next(remaining)
            if happened:
                deletion.names.append(info.name)
                deletion.bytes += info.size


def _any(_: str) -> bool:
    return True
