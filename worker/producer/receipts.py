"""Ids of the entries that Redis has confirmed lately: after a failover they tell how many it has lost."""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from worker.model.ids import entry_order

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from worker.model.ids import EntryId

REMEMBERED_SECONDS = 600.0
"""A partition that got nothing for this long is forgotten: replicas that are further behind are rare."""

MAX_REMEMBERED = 100_000
"""Ids of all partitions together: 40 seconds of 12,000 sessions, and some 10 MB."""


@dataclass(slots=True)
class _Receipt:
    """What one server has confirmed of a partition, oldest first."""

    server: str
    at: float
    ids: deque[EntryId] = field(default_factory=deque)


class Receipts:
    """Remembers confirmed entries, and by which server; its memory is bounded.

    Ids of a stream only grow. If its greatest id on another server is smaller than one of ours, that server has lost
    our entry. If it is not, others may have pushed since then: so what is counted is at most what was lost.
    """

    def __init__(self, clock: Callable[[], float], *, limit: int = MAX_REMEMBERED) -> None:
        self._clock = clock
        self._limit = limit
        self._of: OrderedDict[int, _Receipt] = OrderedDict()
        self._size = 0

    def note(self, partition: int, entry: EntryId, server: str) -> None:
        """A server has confirmed an entry."""
        receipt = self._of.setdefault(partition, _Receipt(server, 0.0))
        receipt.server, receipt.at = server, self._clock()
        receipt.ids.append(entry)
        self._of.move_to_end(partition)
        self._size += 1
        self._forget_oldest()

    def from_others(self, server: str) -> list[int]:
        """The partitions whose last entries another server has confirmed."""
        self._forget_oldest()
        return [partition for partition, receipt in self._of.items() if receipt.server != server]

    def is_from_other(self, partition: int, server: str) -> bool:
        """Whether another server has confirmed the last entries of a partition."""
        receipt = self._of.get(partition)
        return receipt is not None and receipt.server != server

    def compare(self, partition: int, greatest: EntryId, server: str) -> Sequence[EntryId]:
        """Take out the entries that a server has lost: those behind its greatest id of the partition."""
        receipt = self._of[partition]
        receipt.server = server
        lost: deque[EntryId] = deque()
        while receipt.ids and entry_order(receipt.ids[-1]) > entry_order(greatest):
            lost.appendleft(receipt.ids.pop())
        self._size -= len(lost)
        return lost

    def forget(self, partition: int) -> None:
        """Forget what was confirmed of a partition."""
        if receipt := self._of.pop(partition, None):
            self._size -= len(receipt.ids)

    def _forget_oldest(self) -> None:
        horizon = self._clock() - REMEMBERED_SECONDS
        while self._of:
            partition, receipt = next(iter(self._of.items()))
            if receipt.at < horizon or not receipt.ids:
                self.forget(partition)
            elif self._size > self._limit:
                receipt.ids.popleft()
                self._size -= 1
            else:
                return
