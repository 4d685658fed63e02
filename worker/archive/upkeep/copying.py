"""Merges conversations: copies blobs inside the store, under their own file names, without losing any."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass, field, replace
from itertools import count, groupby
from typing import NamedTuple

import google_crc32c

from codec.names import BlobName, format_timestamp, parse_name
from worker.archive.blobs.listing import Blob, UnknownObject, list_blobs
from worker.archive.blobs.ordered import ordered
from worker.archive.blobs.progress import Progress, unseen
from worker.archive.blobs.provenance import Provenance, copy_metadata
from worker.archive.blobs.reading import Problem, Reader, check_size
from worker.archive.blobs.retrying import OF_ONE_OBJECT, retry
from worker.errors import NothingStored, ObjectExists, ObjectMissing, StoreError, Unreadable
from worker.model.seal import later_name
from worker.stores.base import Store

COPIES = 16
"""Copies at once."""


class BlobCopy(NamedTuple):
    """A blob and the name of its copy; `exists` says that the copy is there already."""

    blob: Blob
    target: BlobName
    exists: bool

    @property
    def renamed(self) -> bool:
        """Whether another blob had its name, so that the copy starts some ms later."""
        return self.target.stem != self.blob.name.stem


@dataclass(slots=True)
class CopyReport:
    """The copies, new or there already; the other objects, which are left; and blobs that could not be copied."""

    copies: list[BlobCopy] = field(default_factory=list)
    unknown: list[UnknownObject] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)


class Content(NamedTuple):
    """Equal for two objects that are copies of each other; without a checksum an object equals only itself."""

    extension: str
    identity: int | str


class Candidate(NamedTuple):
    """A blob and its contents: its own, and the one that it was converted from. Blobs that share one are copies."""

    blob: Blob
    contents: frozenset[Content]


class Plan:
    """Finds a place for every blob: one start in the target belongs to one audio, in all kinds that it is there.

    Blobs of a conversation that start together are the same audio and stay together. They also find the copies that an
    earlier, interrupted run made of them.
    """

    def __init__(self, conversation_id: str) -> None:
        self._conversation_id = conversation_id
        self._places: dict[str, set[Content]] = defaultdict(set)

    def occupy(self, found: Candidate) -> None:
        """Take note of a blob that the target has."""
        self._places[format_timestamp(found.blob.start)] |= found.contents

    def add(self, together: Sequence[Candidate]) -> Iterator[BlobCopy]:
        """Decide on the names of blobs that start together."""
        names = [replace(blob.name, conversation_id=self._conversation_id) for blob, _ in together]
        milliseconds = self._first_free(names[0], frozenset[Content]().union(*(each.contents for each in together)))
        for name, (blob, contents) in zip(names, together, strict=True):
            target = _later(name, milliseconds)
            place = self._places[format_timestamp(target.start)]
            yield BlobCopy(blob, target, exists=bool(contents & place))
            place |= contents

    def _first_free(self, name: BlobName, contents: frozenset[Content]) -> int:
        for milliseconds in count():
            place = self._places.get(format_timestamp(_later(name, milliseconds).start), set())
            if not place or place & contents:
                return milliseconds
        raise AssertionError("unreachable: some millisecond is free")


class Copier:
    """Copies conversations inside the store; `progress` is called for every copy."""

    def __init__(self, store: Store, progress: Progress = unseen) -> None:
        self._store = store
        self._progress = progress

    async def copy(self, uid: str, conversations: Sequence[str], target: str, *, dry_run: bool = False) -> CopyReport:
        """Copy all blobs of some conversations of a user into another one; a second run copies only missing blobs.

        Blobs keep their file names. Where different audio of two conversations starts at the same millisecond, the
        later copy starts a millisecond or more after it. The sources stay as they are.

        Raises:
            NothingStored: none of the conversations has a blob.
            StoreError: the store does not answer; earlier copies stay. A blob that is damaged, or that the store
                refuses to copy, is only left out.
        """
        report = CopyReport()
        plan = await self._prepared(uid, target)
        for conversation_id in conversations:
            listing = await list_blobs(self._store, uid, conversation_id)
            report.unknown += listing.unknown
            for together in _starting_together(listing.blobs):
                report.copies += plan.add([await _candidate(self._store, blob) for blob in together])
        if not report.copies:
            raise NothingStored(f"no audio of {uid} is stored in {', '.join(conversations)}")
        if not dry_run:
            await self._carry_out(report)
        return report

    async def _prepared(self, uid: str, target: str) -> Plan:
        plan = Plan(target)
        for blob in (await list_blobs(self._store, uid, target)).blobs:
            plan.occupy(await _candidate(self._store, blob))
        return plan

    async def _carry_out(self, report: CopyReport) -> None:
        wanted = [copy for copy in report.copies if not copy.exists]

        async def copied(copy: BlobCopy) -> Problem | None:
            return await _copied(self._store, copy)

        async with aclosing(ordered(wanted, copied, limit=COPIES)) as results:
            done = 0
            async for problem in results:
                done += 1
                self._progress(done, len(wanted))
                if problem is not None:
                    report.problems.append(problem)


async def _copied(store: Store, copy: BlobCopy) -> Problem | None:
    try:
        check_size(copy.blob)
        if copy.blob.info.flaw:
            return Problem(copy.blob.path, copy.blob.info.flaw)
        return await _copy(store, copy)
    except Unreadable as error:
        return Problem(copy.blob.path, str(error))
    except ObjectMissing:
        return Problem(copy.blob.path, "it has been deleted meanwhile")
    except StoreError as error:
        if error.cause not in OF_ONE_OBJECT:
            raise
        return Problem(copy.blob.path, str(error), cause=error.cause)


async def _copy(store: Store, copy: BlobCopy) -> Problem | None:
    target = str(copy.target)
    try:
        await retry(lambda: store.copy(copy.blob.path, target, copy_metadata(copy.blob)))
    except ObjectExists:
        found = await retry(lambda: store.stat(target))
        info = copy.blob.info
        # It is ours if a reply was lost.
        if found is None or (found.size, found.crc32c) != (info.size, info.crc32c):
            return Problem(copy.blob.path, f"{target} was taken by another writer meanwhile: copy again")
    return None


def _later(name: BlobName, milliseconds: int) -> BlobName:
    return parse_name(later_name(str(name), milliseconds)) if milliseconds else name


def _starting_together(blobs: Sequence[Blob]) -> Iterator[list[Blob]]:
    for _, together in groupby(blobs, key=lambda blob: format_timestamp(blob.start)):
        yield list(together)


async def _candidate(store: Store, blob: Blob) -> Candidate:
    crc32c = blob.info.crc32c
    if crc32c is None:  # another program wrote it, or it is damaged; the copy will then say so
        with suppress(Unreadable):
            crc32c = google_crc32c.value(await Reader(store, ()).data(blob))
    contents = {Content(blob.name.kind.extension, blob.path if crc32c is None else crc32c)}
    if origin := Provenance.noted(blob.info):
        contents.add(Content(origin.name.kind.extension, origin.crc32c))
    return Candidate(blob, frozenset(contents))
