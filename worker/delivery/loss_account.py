"""The entries of a partition that left Redis without being stored; each is counted and logged once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import structlog

from worker.model.causes import OrphanFate
from worker.model.holding import ChunksHeld
from worker.model.ids import Conversation, EntryId, entry_order
from worker.model.stored_blob import Orphan
from worker.runtime.metrics import Metrics

log = structlog.get_logger()


class LossAccount:
    """Expects entries until they come.

    Entries that have not come at the stream's end are lost, unless others have stored them. `record` is told of each
    entry that is counted here.
    """

    def __init__(
        self, partition: int, metrics: Metrics, record: Callable[[int, Sequence[EntryId]], None] | None = None
    ) -> None:
        self._partition = partition
        self._metrics = metrics
        self._record = record
        self._log = log.bind(partition=partition)
        self._expected: dict[EntryId, tuple[Conversation, bytes] | None] = {}
        self._sealed_by_others: set[EntryId] = set()
        self._stored_beside: set[EntryId] = set()
        self._orphans: list[Orphan] = []

    def expect(self, entries: Iterable[EntryId]) -> None:
        """Expect entries that were there; those that do not come before the stream's end are lost."""
        for entry in entries:
            self._expected.setdefault(entry)

    def expect_chunks(self, held: ChunksHeld) -> None:
        """Expect entries whose chunks are known."""
        for conversation, chunks in held.items():
            self._expected |= {entry: (conversation, identity) for entry, identity in chunks.items()}

    def hand_over(self) -> ChunksHeld:
        """Expect nothing any more; returns the chunks of which only an inquiry can tell whether they are lost.

        Orphans have their own, and keep them until it is certain that the object goes.
        """
        kept = self._stored_beside.union(*(orphan.seal.all_ids for orphan in self._orphans))
        held: dict[Conversation, dict[EntryId, bytes]] = {}
        for entry, known in self._expected.items():
            if known is not None and entry not in kept:
                conversation, identity = known
                held.setdefault(conversation, {})[entry] = identity
        self._expected = {}
        return held

    def came(self, entries: Iterable[EntryId]) -> None:
        """Note entries that are pending with us."""
        for entry in entries:
            self._expected.pop(entry, None)

    def sealed(self, entries: Iterable[EntryId]) -> None:
        """Note entries that were sealed before we came; a former owner may still finish them."""
        self._sealed_by_others |= set(entries)

    def stored_beside(self, entries: Iterable[EntryId]) -> None:
        """Note entries that another object was found to hold; they have left Redis with it."""
        self._stored_beside |= set(entries)

    def orphaned(self, orphan: Orphan) -> None:
        """Note an orphan; those of its entries that are gone are lost only if the object goes too."""
        self._orphans.append(orphan)

    def vanished(self, entries: Iterable[EntryId]) -> None:
        """Count pending entries that are gone, except those that a former owner may have finished."""
        gone = set(entries)
        self.came(gone)
        self._lose(gone - self._sealed_by_others)

    def reached_end(self) -> None:
        """Count the expected entries that have not come, because the stream holds no more."""
        if not (self._expected or self._stored_beside or self._orphans):
            return
        self._lose(self._expected.keys() - self._sealed_by_others - self._stored_beside)
        self._expected, self._stored_beside, self._orphans = {}, set(), []

    def _lose(self, gone: set[EntryId]) -> None:
        for orphan in self._orphans:
            if orphan.fate is not OrphanFate.UNCOUNTED:
                held = gone.intersection(orphan.seal.all_ids)
                orphan.missing |= held
                gone = gone - held
        self.count(gone)

    def count(self, entries: Iterable[EntryId], *, failover: bool = False) -> None:
        """Count these entries as lost, perhaps by a failover."""
        lost = sorted(entries, key=entry_order)
        if not lost:
            return
        self._metrics.lost.inc(len(lost))
        self._log.error("entries.lost", entries=len(lost), first=lost[0], last=lost[-1], failover=failover)
        if self._record is not None:
            self._record(self._partition, lost)

    def count_unread(self, entries: int) -> None:
        """Count so many entries that left the stream before any owner had read them."""
        if entries:
            self._metrics.lost.inc(entries)
            self._log.error("entries.lost", entries=entries, unread=True)
