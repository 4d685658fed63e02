"""A read-only view of everything under one prefix: partitions, workers and the Redis server."""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Collection, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from worker.errors import StreamError
from worker.model.causes import StreamCause
from worker.model.ids import EntryId, entry_ms, entry_order
from worker.model.layouts import Layouts
from worker.model.states import BatchState
from worker.stream.client import Client
from worker.stream.config import recorded_layouts
from worker.stream.inspection.strays import Stray, Strays
from worker.stream.keys import GROUP, Keys
from worker.stream.leases import member_of, owner_of
from worker.stream.scripting import Call
from worker.stream.servers.checks import ServerState, server_states

T = TypeVar("T")

STATES_IN_REDIS = (BatchState.UNREAD, BatchState.OPEN, BatchState.SEALED)

PAGE = 256
"""Partitions per round trip."""

_NUMBER = re.compile(rb"[0-9]{1,18}")


@dataclass(frozen=True, slots=True)
class PartitionView:
    """One partition at one moment. Times are Redis' own in ms, sizes in bytes of Redis' memory (estimated).

    The `entries` are not stored yet: `sealed_entries` are in `sealed_batches`, perhaps already on their way to the
    store, other `pending` ones are in open batches, and the rest is unread. `stored` counts all blobs ever stored, and
    `lost` the entries that were lost lately, see `LOST_TTL`.
    """

    number: int
    owner: str | None
    lease_left_ms: int
    generation: int
    entries: int
    bytes: int
    oldest: EntryId | None
    pending: int
    sealed_batches: int
    sealed_entries: int
    dead: int
    stored: int
    last_stored_ms: int | None
    lost: int = 0

    @property
    def states(self) -> dict[BatchState, int]:
        """Entries by the state of their batch, as far as Redis knows it: sealed batches may be further."""
        return {
            BatchState.UNREAD: max(0, self.entries - self.pending),
            BatchState.OPEN: max(0, self.pending - self.sealed_entries),
            BatchState.SEALED: self.sealed_entries,
        }

    @property
    def idle(self) -> bool:
        """Whether the partition holds nothing that a person could look at."""
        return not (self.entries or self.sealed_batches or self.dead or self.lost)


@dataclass(frozen=True, slots=True)
class WorkerView:
    """A live worker; `started_ms` is on Redis' clock, `trouble`, `notice`, `growth` and `measured` are as in `Member`.

    Without another heartbeat it counts as dead after `silent_in_ms`.
    """

    name: str
    revision: str
    started_ms: int
    silent_in_ms: int
    trouble: str = ""
    notice: str = ""
    growth: int = 0
    measured: int = 0


@dataclass(frozen=True, slots=True)
class Overview:
    """Everything at Redis' time `now_ms`; `refusals` say what Redis could not show, and why.

    `workers` is None if their list is among that.
    """

    now_ms: int
    servers: tuple[ServerState, ...]
    workers: tuple[WorkerView, ...] | None
    partitions: tuple[PartitionView, ...]
    refusals: tuple[str, ...] = ()
    strays: tuple[Stray, ...] = ()
    layouts: Layouts | None = None

    @property
    def server(self) -> ServerState:
        """The server that will be full first."""
        return min(self.servers, key=lambda server: server.room)

    @property
    def entries(self) -> int:
        """Entries that are not stored yet."""
        return sum(view.entries for view in self.partitions)

    @property
    def states(self) -> dict[BatchState, int]:
        """These entries by state, see `PartitionView.states`."""
        return {state: sum(view.states[state] for view in self.partitions) for state in STATES_IN_REDIS}

    @property
    def sealed_batches(self) -> int:
        """Batches that are sealed and not done."""
        return sum(view.sealed_batches for view in self.partitions)

    @property
    def bytes(self) -> int:
        """Bytes of Redis' memory that the streams take."""
        return sum(view.bytes for view in self.partitions)

    @property
    def oldest_age_ms(self) -> int | None:
        """For how long the oldest entry has waited; None without entries."""
        oldest = [view.oldest for view in self.partitions if view.oldest is not None]
        return max(0, self.now_ms - entry_ms(min(oldest, key=entry_order))) if oldest else None

    @property
    def ahead_ms(self) -> int:
        """By how much entry ids are ahead of Redis' clock, which hides their age; 0 if they are not."""
        return max([0, *(entry_ms(view.oldest) - self.now_ms for view in self.partitions if view.oldest is not None)])

    @property
    def measured(self) -> WorkerView | None:
        """The worker that has measured the growth of Redis' memory for the longest time; None if none has yet."""
        found = [worker for worker in self.workers or () if worker.measured]
        return max(found, key=lambda worker: worker.measured, default=None)

    @property
    def full_in_s(self) -> float | None:
        """Seconds until Redis is full if its memory grows as it does; None if it does not grow, or can't be told."""
        measured = self.measured
        if measured is None or measured.growth <= 0 or not self.server.memory_limit:
            return None
        return max(0, self.server.memory_limit - self.server.memory) / measured.growth

    @property
    def unowned(self) -> list[PartitionView]:
        """Partitions without an owner."""
        return [view for view in self.partitions if view.owner is None]


class Inspector:
    """Looks at one prefix. Every method raises `StreamError`."""

    def __init__(self, client: Client, keys: Keys) -> None:
        self._client = client
        self._keys = keys

    async def now_ms(self) -> int:
        """Redis' time in ms since 1970."""
        return await self._client.redis_ms()

    async def overview(self, configured: int) -> Overview:
        """Look at everything; each partition is seen at one moment, but their moments differ a little.

        What Redis can't show is told, and hides nothing else.
        """
        refusals: list[str] = []
        now_ms = await self.now_ms()
        servers = await self._servers(refusals)
        layouts = await self._layouts(configured, refusals)
        workers = await _unless(tuple(StreamCause), self._workers(now_ms), refusals)
        views = await self.views(range(layouts.total), refusals)
        return Overview(now_ms, servers, workers, tuple(views), tuple(dict.fromkeys(refusals)), layouts=layouts)

    async def _servers(self, refusals: list[str]) -> tuple[ServerState, ...]:
        """All servers that answer. Raises `StreamError` if none does."""
        states = await server_states(self._client)
        failures = [state for state in states if isinstance(state, StreamError)]
        if len(failures) == len(states):
            raise failures[0]
        refusals += map(str, failures)
        return tuple(state for state in states if isinstance(state, ServerState))

    async def strays(self, configured: int) -> tuple[list[Stray], Sequence[str]]:
        """All stray streams, and the nodes that do not answer."""
        layouts = await self._layouts(configured, [])
        strays = Strays(self._client, self._keys, lambda: layouts)
        return await strays.find(), strays.away

    async def _layouts(self, configured: int, refusals: list[str]) -> Layouts:
        """The recorded numbers of partitions, or the configured one if Redis refuses to tell."""
        refused = (StreamCause.REFUSED,)
        recorded = await _unless(refused, recorded_layouts(self._client, self._keys, configured), refusals)
        return recorded or Layouts.single(configured)

    async def views(self, partitions: Sequence[int], refusals: list[str]) -> list[PartitionView]:
        """Look at some partitions; what Redis refuses to show is added to `refusals`."""
        views: list[PartitionView] = []
        for first in range(0, len(partitions), PAGE):
            page = partitions[first : first + PAGE]
            replies = await self._client.gather([self._call(number) for number in page])
            for number, reply in zip(page, replies, strict=True):
                if isinstance(reply, StreamError):
                    refusals.append(str(reply))
                else:
                    views.append(_partition(number, reply))
        return views

    async def _workers(self, now_ms: int) -> tuple[WorkerView, ...]:
        key = self._keys.workers
        described = await self._client.command(lambda pipe: pipe.hgetall(key), key)
        views = [_worker(name, value, now_ms) for name, value in described.items()]
        return tuple(sorted((view for view in views if view.silent_in_ms > 0), key=lambda view: view.name))

    def _call(self, number: int) -> Call:
        keys = self._keys
        parts = (keys.stream, keys.lease, keys.epoch, keys.ready, keys.dead, keys.done, keys.trials)
        more = (keys.deleted, keys.lost)
        return Call("look", [part(number) for part in (*parts, *more)], [GROUP])


async def _unless(causes: Collection[StreamCause], question: Awaitable[T], refusals: list[str]) -> T | None:
    """The answer; None if it fails for one of these causes, and then the reason is among `refusals`."""
    try:
        return await question
    except StreamError as error:
        if error.cause not in causes:
            raise
        refusals.append(str(error))
        return None


def _partition(number: int, reply: Sequence[Any]) -> PartitionView:
    token, left, generation, entries, size, oldest, pending, seals, dead, stored, last, lost = reply
    return PartitionView(
        number,
        owner=owner_of(token),
        lease_left_ms=max(0, left),
        generation=int(generation) if _NUMBER.fullmatch(generation or b"") else 0,
        entries=entries,
        bytes=size if size and entries else 0,
        oldest=oldest.decode() if oldest else None,
        pending=pending,
        sealed_batches=len(seals),
        sealed_entries=sum(map(_sealed_entries, seals)),
        dead=dead,
        stored=stored,
        last_stored_ms=entry_ms(last.decode()) if last else None,
        lost=lost,
    )


def _sealed_entries(seal: bytes) -> int:
    """Number of entries in a seal; 0 if a newer worker wrote it, so that the rest can still be shown."""
    try:
        facts = json.loads(seal)
        return len(facts["entries"].split()) + len(facts["markers"].split())
    except (ValueError, KeyError, TypeError, AttributeError):
        return 0


def _worker(name: bytes, value: bytes, now_ms: int) -> WorkerView:
    expiry, _, description = value.decode(errors="replace").partition(" ")
    member = member_of(name, description)
    left = int(expiry) - now_ms if _NUMBER.fullmatch(expiry.encode()) else 0
    told = member.trouble, member.notice, member.growth, member.measured
    return WorkerView(member.worker, member.revision, member.started, left, *told)
