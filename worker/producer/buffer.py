"""The bounded buffer between pushes and Redis: which pushes find room, and which entry is sent next."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from codec.errors import BadEntry
from worker.errors import BufferFull, PushRefused
from worker.producer.lanes import Lane, Pending, Queue, Ticket

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Hashable

    from worker.producer.lanes import Entry

ENTRY_OVERHEAD = 512
"""Bytes counted per entry on top of its PCM: ids and Python objects, so that tiny entries are bounded too."""

MAX_REDIRECTIONS = 5
"""After so many redirections in a row, the nodes disagree on which of them takes an entry."""


class Buffer:
    """Keeps entries in order per partition, and admits pushes for each node in the order in which they asked.

    It holds at most `limit` bytes, and one entry more for each node: if no entry waits for a node, the next one may
    have any size, so that every entry gets in at last. Among several nodes, the entries of each may take as much as
    stays free: a node that takes nothing fills half of the buffer, two of them a third each. So the others always find
    room, also before it is known which node is in trouble.

    `place_of` tells the node that has a partition now. An entry that is on its way stays with its node until the reply.
    """

    def __init__(self, limit: int, clock: Callable[[], float], place_of: Callable[[int], Hashable]) -> None:
        self._limit = limit
        self._clock = clock
        self._place_of = place_of
        self._lanes: dict[int, Lane] = {}
        self._queues: dict[Hashable, Queue] = {}
        self._current: Collection[Hashable] = ()
        self._order = 0
        self._closed = ""
        self._abandoned = False
        self._placed = asyncio.Event()
        self._changed = asyncio.Event()
        self.bytes = 0
        self.entries = 0

    @property
    def waiting(self) -> int:
        """How many pushes wait for room."""
        return sum(len(queue.tickets) for queue in self._queues.values())

    @property
    def places(self) -> Collection[Hashable]:
        """The nodes that have a part of the buffer."""
        return self._queues.keys()

    def oldest_age(self) -> float:
        """Seconds since the oldest entry was admitted, 0 if there is none."""
        now = self._clock()
        return now - min((lane.entries[0].since for lane in self._filled_lanes()), default=now)

    def unsent(self) -> tuple[Entry, ...]:
        """All entries, oldest first."""
        pending = [item for lane in self._filled_lanes() for item in lane.entries]
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
        lane = self._lane(partition)
        if not lane.queue.tickets and self._has_room(lane.queue, size):
            return self._put(lane, size, make)
        if within is not None and within <= 0:
            raise BufferFull(self.bytes, self._limit)
        return await self._queue_up(lane, size, make, within)

    def holds(self, place: Hashable) -> bool:
        """Whether there is something to send to a node."""
        queue = self._queues.get(place)
        return queue is not None and bool(queue.lanes)

    async def filled(self, place: Hashable) -> bool:
        """Wait until there is something to send to a node; returns False if nothing goes there any more."""
        queue = self._queues.get(place)
        if queue is not None:
            await queue.filled.wait()
        return place in self._queues

    async def emptied(self, place: Hashable, within: float) -> None:
        """Wait until nothing more is to be sent to a node, at most `within` seconds."""
        queue = self._queues.get(place)
        if queue is not None:
            await _wait(queue.emptied, within)

    async def placed(self) -> None:
        """Wait until a node gets a part of the buffer."""
        await self._placed.wait()
        self._placed.clear()

    def take(self, place: Hashable, max_bytes: int) -> list[Pending]:
        """The first entry of every lane of a node, as many as fit into `max_bytes`, but at least one if there is any.

        Each must be given back by `confirm`, `put_back` or `redirect`.
        """
        heads: list[Pending] = []
        for lane in self._queues[place].lanes.values() if place in self._queues else ():
            max_bytes -= lane.entries[0].size
            if heads and max_bytes < 0:
                break
            lane.in_flight = True
            heads.append(lane.entries[0])
        return heads

    def is_asking(self, head: Pending) -> bool:
        """Whether the entry goes to a node that is still receiving the slot."""
        return self._lanes[head.partition].asking

    def confirm(self, head: Pending) -> None:
        """Redis has it: forget it, and admit the pushes that now have room."""
        lane = self._lanes[head.partition]
        lane.redirections = 0
        lane.queue.remove_first(lane)
        self.bytes -= head.size
        self.entries -= 1
        self._land(lane, self._place_of(lane.partition))
        self._serve_tickets()
        self._wake()

    def put_back(self, head: Pending) -> None:
        """Redis does not have it: it is still the next one of its lane, and the other lanes come first."""
        lane = self._lanes[head.partition]
        self._land(lane, self._place_of(lane.partition))

    def redirect(self, head: Pending, place: Hashable, *, asking: bool) -> bool:
        """The next node for it is another one; returns False, and puts it back, if that happens too often."""
        lane = self._lanes[head.partition]
        lane.redirections += 1
        if lane.redirections > MAX_REDIRECTIONS:
            lane.redirections = 0
            self.put_back(head)
            return False
        self._land(lane, place)
        lane.asking = asking
        return True

    def rearrange(self, places: Collection[Hashable]) -> None:
        """Partitions have other nodes now, and `places` are all of them: move lanes, and forget former nodes."""
        self._current = places
        for place in places:
            self._queue(place)
        for lane in self._lanes.values():
            if not lane.in_flight and not lane.is_idle:
                self._move(lane, self._place_of(lane.partition))
        for queue in list(self._queues.values()):
            self._forget_former(queue)
        self._serve_tickets()

    async def drained(self) -> None:
        """Wait until all entries admitted before this call are confirmed, or the buffer is abandoned."""
        last = self._order
        while not self._abandoned and any(lane.entries[0].order <= last for lane in self._filled_lanes()):
            await self._changed.wait()

    async def empty(self) -> None:
        """Wait until nothing is held and no push waits, or the buffer is abandoned."""
        while not self._abandoned and (self.entries or self.waiting):
            await self._changed.wait()

    def close(self, reason: str) -> None:
        """Refuse new pushes from now on; those that wait for room may still come in."""
        self._closed = self._closed or reason

    def abandon(self, reason: str) -> None:
        """Sending has ended: refuse waiting pushes too, and end all waits for progress."""
        self.close(reason)
        self._abandoned = True
        for queue in self._queues.values():
            for ticket in queue.tickets:
                ticket.admitted.cancel()
                ticket.lane.waiting -= 1
            queue.tickets.clear()
        self._wake()

    def take_all(self) -> tuple[Entry, ...]:
        """Hand over all entries, oldest first, and forget them."""
        entries = self.unsent()
        self._lanes.clear()
        self._queues.clear()
        self.bytes = self.entries = 0
        return entries

    async def _queue_up(self, lane: Lane, size: int, make: Callable[[], Entry], within: float | None) -> Entry:
        self._order += 1
        ticket = Ticket(lane, size, make, asyncio.get_running_loop().create_future(), self._order)
        lane.queue.tickets.append(ticket)
        lane.waiting += 1
        try:
            await asyncio.wait([ticket.admitted], timeout=within)
        finally:
            self._leave_queue(ticket)
        if ticket.admitted.cancelled():
            raise PushRefused(self._closed)
        if not ticket.admitted.done():
            raise BufferFull(self.bytes, self._limit)
        return ticket.admitted.result()

    def _leave_queue(self, ticket: Ticket) -> None:
        if ticket in ticket.lane.queue.tickets:
            ticket.lane.queue.tickets.remove(ticket)
            ticket.lane.waiting -= 1
            self._serve_tickets()
            self._wake()

    def _serve_tickets(self) -> None:
        while tickets := [queue.tickets[0] for queue in self._queues.values() if self._serves(queue)]:
            ticket = min(tickets, key=lambda ticket: ticket.order)
            ticket.lane.queue.tickets.popleft()
            ticket.lane.waiting -= 1
            try:
                ticket.admitted.set_result(self._put(ticket.lane, ticket.size, ticket.make))
            except BadEntry as error:  # it is for the caller of this push, not for the one that made room
                ticket.admitted.set_exception(error)

    def _serves(self, queue: Queue) -> bool:
        return bool(queue.tickets) and self._has_room(queue, queue.tickets[0].size)

    def _has_room(self, queue: Queue, size: int) -> bool:
        free = self._limit - self.bytes - size
        most = free if len(self._queues) > 1 else self._limit
        return not queue.bytes or (free >= 0 and queue.bytes + size <= most)

    def _put(self, lane: Lane, size: int, make: Callable[[], Entry]) -> Entry:
        entry = make()
        self._order += 1
        lane.queue.append(lane, Pending(lane.partition, entry, size, self._clock(), self._order))
        self.bytes += size
        self.entries += 1
        return entry

    def _lane(self, partition: int) -> Lane:
        if partition not in self._lanes:
            self._lanes[partition] = Lane(partition, self._queue(self._place_of(partition)))
        lane = self._lanes[partition]
        if lane.is_idle:
            self._move(lane, self._place_of(partition))
        return lane

    def _queue(self, place: Hashable) -> Queue:
        if place not in self._queues:
            self._queues[place] = Queue(place)
            self._placed.set()
        return self._queues[place]

    def _land(self, lane: Lane, place: Hashable) -> None:
        before = lane.queue
        lane.in_flight = False
        self._move(lane, place)
        lane.queue.turn(lane)
        self._forget_former(before)

    def _move(self, lane: Lane, place: Hashable) -> None:
        lane.asking = False
        queue = self._queue(place)
        if lane.queue is not queue:
            queue.take_over(lane, lane.queue.release(lane))

    def _forget_former(self, queue: Queue) -> None:
        if queue.is_idle and queue.place not in self._current:
            self._queues.pop(queue.place, None)
            queue.filled.set()

    def _filled_lanes(self) -> list[Lane]:
        return [lane for lane in self._lanes.values() if lane.entries]

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()


async def _wait(event: asyncio.Event, within: float) -> None:
    try:
        async with asyncio.timeout(within):
            await event.wait()
    except TimeoutError:
        return
