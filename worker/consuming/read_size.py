"""How much of a stream to read at once: about PAGE_BYTES, for tiny and for huge chunks; pure."""

from __future__ import annotations

FIRST_COUNT, MAX_COUNT = 8, 64
"""Entries per read: at first, and at most. A single entry is read with a check of its size."""

PAGE_BYTES = 1_500_000
"""Bytes per read that the number of entries aims at: nine 5-second chunks at 16 kHz."""

LOOK = 1 / 4
"""Share of a page that a partition without a backlog is asked for; if that is full, the rest is read at once."""


class ReadSize:
    """Entries per read of one partition; the number grows slowly, because the next entries may be larger."""

    def __init__(self) -> None:
        self._count = FIRST_COUNT
        self._suspect = 0

    @property
    def one_at_a_time(self) -> bool:
        """Whether the next read is of one entry alone, because more may be too large."""
        return self._count == 1

    def count(self, pages: float) -> int:
        """Entries in so many pages, at least one."""
        return max(1, int(self._count * pages))

    def failed(self) -> None:
        """Note that a page could not be read: it may have been too large for memory, or to come in time.

        Its entries are read one by one.
        """
        self._suspect = max(self._suspect, self._count)
        self._count = 1

    def reached_end(self) -> None:
        """Stop reading one by one, because no entry is left to be careful of."""
        self._suspect, self._count = 0, max(self._count, 2)

    def took(self, entries: int, size: int) -> None:
        """Note that a page of so many entries and bytes was read."""
        self._suspect -= entries
        if self._suspect > 0:
            return
        self._suspect = 0
        wanted = int(PAGE_BYTES / max(size / entries, 1))
        self._count = max(1, min(wanted, 2 * self._count, MAX_COUNT))
