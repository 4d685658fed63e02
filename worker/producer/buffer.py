"""The bounded buffer between pushes and Redis: one lane per partition, and a queue of pushes that wait for room."""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from codec.entry import Chunk, End
from codec.errors import BadEntry
from worker.errors import BufferFull, PushRefused

if TYPE_CHECKING:
    from collections.abc import Callable

Entry: TypeAlias = Chunk | End

ENTRY_OVERHEAD = 512
"""Bytes counted per entry on top of its PCM: ids and Python objects, so that tiny entries are bounded too."""


@dataclass(slots=True, eq=False, frozen=True)
class Pending:
    """An entry that Redis has not confirmed."""

    partition: int
    entry: Entry
    size: int
    since: float
    order: int


@dataclass(slots=True, eq=False, frozen=True)
class _Ticket:
    partition: int
    size: int
    make: Callable[[], Entry]
    admitted: asyncio.Future[Entry]


class Buffer:
    """Keeps entries in order per partition, and admits pushes in the order in which they asked.

    It holds at most `limit` bytes; an empty one admits any single entry, so that every entry gets in at last.
    """

    def __init__(self, limit: int, clock: Callable[[], float]) -> None:
        self._limit = limit
        self._clock = clock
        self._lanes: OrderedDict[int, deque[Pending]] = OrderedDict()
        self._tickets: deque[_Ticket] = deque()
        self._order = 0
        self._closed = ""
        self._abandoned = False
        self._filled = asyncio.Event()
        self._changed = asyncio.Event()
        self.bytes = 0
        self.entries = 0

    @property
    def waiting(self) -> int:
        """How many pushes wait for room."""
        return len(self._tickets)

    def oldest_age(self) -> float:
        """Seconds since the oldest entry was admitted, 0 if there is none."""
        now = self._clock()
        return now - min((lane[0].since for lane in self._lanes.values()), default=now)

    def unsent(self) -> tuple[Entry, ...]:
        """All entries, oldest first."""
        pending = [item for lane in self._lanes.values() for item in lane]
        return tuple(item.entry for item in sorted(pending, key=lambda item: item.order))

    async def admit(self, partition: int, size: int, make: Callable[[], Entry], within: float | None) -> Entry:
        """Take in what `make` returns; it is called when there is room, so that numbers follow the order of admission.

        Raises:
            BufferFull: there was no room within `within` seconds (None: wait without limit).
            PushRefused: the buffer is closed.
        """
        size += ENTRY_OVERHEAD
        if self._closed:
            raise PushRefused(self._closed)
        if not self._tickets and self._has_room(size):
            return self._put(partition, size, make)
        if within is not None and within <= 0:
            raise BufferFull(self.bytes, self._limit)
        return await self._queue_up(partition, size, make, within)

    def heads(self, max_bytes: int) -> list[Pending]:
        """The first entry of every lane, as many as fit into `max_bytes`, but at least one if there is any."""
        heads: list[Pending] = []
        for lane in self._lanes.values():
            max_bytes -= lane[0].size
            if heads and max_bytes < 0:
                break
            heads.append(lane[0])
        return heads

    def confirm(self, head: Pending) -> None:
        """Redis has it: forget it, move its lane behind the others, and admit the pushes that now have room."""
        lane = self._lanes[head.partition]
        lane.popleft()
        self._lanes.move_to_end(head.partition)
        if not lane:
            del self._lanes[head.partition]
        self.bytes -= head.size
        self.entries -= 1
        self._serve_tickets()
        if not self._lanes:
            self._filled.clear()
        self._wake()

    async def filled(self) -> None:
        """Wait until there is something to send."""
        await self._filled.wait()

    async def drained(self) -> None:
        """Wait until all entries admitted before this call are confirmed, or the buffer is abandoned."""
        last = self._order
        while not self._abandoned and any(lane[0].order <= last for lane in self._lanes.values()):
            await self._changed.wait()

    async def empty(self) -> None:
        """Wait until nothing is held and no push waits, or the buffer is abandoned."""
        while not self._abandoned and (self._lanes or self._tickets):
            await self._changed.wait()

    def close(self, reason: str) -> None:
        """Refuse new pushes from now on; those that wait for room may still come in."""
        self._closed = self._closed or reason

    def abandon(self, reason: str) -> None:
        """Sending has ended: refuse waiting pushes too, and end all waits for progress."""
        self.close(reason)
        self._abandoned = True
        for ticket in self._tickets:
            ticket.admitted.cancel()
        self._tickets.clear()
        self._wake()

    def take_all(self) -> tuple[Entry, ...]:
        """Hand over all entries, oldest first, and forget them."""
        entries = self.unsent()
        self._lanes.clear()
        self.bytes = self.entries = 0
        return entries

    async def _queue_up(self, partition: int, size: int, make: Callable[[], Entry], within: float | None) -> Entry:
        ticket = _Ticket(partition, size, make, asyncio.get_running_loop().create_future())
        self._tickets.append(ticket)
        try:
            await asyncio.wait([ticket.admitted], timeout=within)
        finally:
            self._leave_queue(ticket)
        if ticket.admitted.cancelled():
            raise PushRefused(self._closed)
        if not ticket.admitted.done():
            raise BufferFull(self.bytes, self._limit)
        return ticket.admitted.result()

    def _leave_queue(self, ticket: _Ticket) -> None:
        if ticket in self._tickets:
            self._tickets.remove(ticket)
            self._serve_tickets()
            self._wake()

    def _serve_tickets(self) -> None:
        while self._tickets and self._has_room(self._tickets[0].size):
            ticket = self._tickets.popleft()
            try:
                ticket.admitted.set_result(self._put(ticket.partition, ticket.size, ticket.make))
            except BadEntry as error:  # it is for the caller of this push, not for the one that made room
                ticket.admitted.set_exception(error)

    def _has_room(self, size: int) -> bool:
        return not self.entries or self.bytes + size <= self._limit

    def _put(self, partition: int, size: int, make: Callable[[], Entry]) -> Entry:
        self._order += 1
        item = Pending(partition, make(), size, self._clock(), self._order)
        self._lanes.setdefault(partition, deque()).append(item)
        self.bytes += size
        self.entries += 1
        self._filled.set()
        return item.entry

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()
