"""The entries of a partition that left Redis without being stored; each is counted and logged once."""

from __future__ import annotations

from collections.abc import Iterable

import structlog

from worker.model.causes import OrphanFate
from worker.model.ids import EntryId, entry_order
from worker.model.stored_blob import Orphan
from worker.runtime.metrics import Metrics

log = structlog.get_logger()


class LossAccount:
    """Expects entries until they come.

    Entries that have not come at the stream's end are lost, unless others have stored them.
    """

    def __init__(self, partition: int, metrics: Metrics) -> None:
        self._metrics = metrics
        self._log = log.bind(partition=partition)
        self._expected: set[EntryId] = set()
        self._sealed_by_others: set[EntryId] = set()
        self._stored_beside: set[EntryId] = set()
        self._orphans: list[Orphan] = []

    def expect(self, entries: Iterable[EntryId]) -> None:
        """Expect entries that were there; those that do not come before the stream's end are lost."""
        self._expected |= set(entries)

    def came(self, entries: Iterable[EntryId]) -> None:
        """Note entries that are pending with us."""
        self._expected -= set(entries)

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
        self._expected -= gone
        self._lose(gone - self._sealed_by_others)

    def reached_end(self) -> None:
        """Count the expected entries that have not come, because the stream holds no more."""
        if not (self._expected or self._stored_beside or self._orphans):
            return
        self._lose(self._expected - self._sealed_by_others - self._stored_beside)
        self._expected, self._stored_beside, self._orphans = set(), set(), []

    def _lose(self, gone: set[EntryId]) -> None:
        for orphan in self._orphans:
            if orphan.fate is not OrphanFate.UNCOUNTED:
                held = gone.intersection(orphan.seal.all_ids)
                orphan.missing |= held
                gone = gone - held
        self.count(gone)

    def count(self, entries: Iterable[EntryId]) -> None:
        """Count these entries as lost."""
        lost = sorted(entries, key=entry_order)
        if lost:
            self._metrics.lost.inc(len(lost))
            self._log.error("entries.lost", entries=len(lost), first=lost[0], last=lost[-1])

    def count_unread(self, entries: int) -> None:
        """Count so many entries that left the stream before any owner had read them."""
        if entries:
            self._metrics.lost.inc(entries)
            self._log.error("entries.lost", entries=entries, unread=True)
