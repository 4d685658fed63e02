"""Entries that wait for Redis: a lane for each partition, and for each node its lanes and the pushes that wait."""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

from codec.entry import Chunk, End

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

Entry: TypeAlias = Chunk | End


@dataclass(slots=True, eq=False, frozen=True)
class Pending:
    """An entry that Redis has not confirmed."""

    partition: int
    entry: Entry
    size: int
    since: float
    order: int


@dataclass(slots=True, eq=False)
class Lane:
    """The entries of one partition in their order, and how many pushes of it wait for room.

    While its first entry is on its way, the lane stays in its queue, so that no other node gets that entry meanwhile.
    `asking` tells that the node is still receiving the slot, and `redirections` to how many nodes its first entry went.
    """

    partition: int
    queue: Queue
    entries: deque[Pending] = field(default_factory=deque)
    bytes: int = 0
    waiting: int = 0
    in_flight: bool = False
    asking: bool = False
    redirections: int = 0

    @property
    def is_idle(self) -> bool:
        """Whether nothing keeps it in its queue."""
        return not self.entries and not self.waiting


@dataclass(slots=True, eq=False, frozen=True)
class Ticket:
    """A push that waits for room."""

    lane: Lane
    size: int
    make: Callable[[], Entry]
    admitted: asyncio.Future[Entry]
    order: int


class Queue:
    """The lanes of one node: those with entries take turns. Pushes for this node wait for room in their order."""

    def __init__(self, place: Hashable) -> None:
        self.place = place
        self.lanes: OrderedDict[int, Lane] = OrderedDict()
        self.tickets: deque[Ticket] = deque()
        self.bytes = 0
        self.filled = asyncio.Event()
        self.emptied = asyncio.Event()

    @property
    def is_idle(self) -> bool:
        """Whether it has no entry and no push that waits for room."""
        return not self.lanes and not self.tickets

    def append(self, lane: Lane, item: Pending) -> None:
        """Add an entry to a lane of this queue."""
        lane.entries.append(item)
        lane.bytes += item.size
        self.bytes += item.size
        self.lanes[lane.partition] = lane
        self._mark()

    def remove_first(self, lane: Lane) -> None:
        """Remove the first entry of a lane."""
        size = lane.entries.popleft().size
        lane.bytes -= size
        self.bytes -= size
        if not lane.entries:
            del self.lanes[lane.partition]
        self._mark()

    def turn(self, lane: Lane) -> None:
        """Put a lane behind the others after its turn."""
        if lane.entries:
            self.lanes.move_to_end(lane.partition)

    def release(self, lane: Lane) -> list[Ticket]:
        """Give a lane away; returns the pushes that wait for room in it."""
        self.lanes.pop(lane.partition, None)
        self.bytes -= lane.bytes
        leaving = [ticket for ticket in self.tickets if ticket.lane is lane] if lane.waiting else []
        if leaving:
            self.tickets = deque(ticket for ticket in self.tickets if ticket.lane is not lane)
        self._mark()
        return leaving

    def take_over(self, lane: Lane, waiting: list[Ticket]) -> None:
        """Take a lane that another queue has released, and the pushes that wait for room in it."""
        lane.queue = self
        if lane.entries:
            self.lanes[lane.partition] = lane
        self.bytes += lane.bytes
        if waiting:
            self.tickets = deque(sorted([*self.tickets, *waiting], key=lambda ticket: ticket.order))
        self._mark()

    def _mark(self) -> None:
        if self.lanes:
            self.filled.set()
            self.emptied.clear()
        else:
            self.filled.clear()
            self.emptied.set()
