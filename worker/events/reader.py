"""The reader of done events that a backend runs: all partitions in turn, each from its own position."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any, NamedTuple, Self, TypeVar

import structlog
from redis.asyncio.client import Pipeline
from redis.backoff import EqualJitterBackoff
from redis.exceptions import ResponseError

from codec.arguments import FUNCTION, NOTHING, check_types
from codec.errors import escaped
from worker.errors import SettingsError, StreamError
from worker.model.done_event import DoneEvent
from worker.model.ids import START, EntryId, entry_order
from worker.stream.client import Client
from worker.stream.config import recorded_layouts
from worker.stream.keys import MAX_PARTITIONS, PREFIX, Keys
from worker.stream.servers.connecting import connect
from worker.stream.servers.failures import stream_error

MOST_EVENTS = 10_000
"""Events that one round trip may return: some 5 MB."""

MOST_PER_PARTITION = 100
STREAMS_TOGETHER = 256
"""Streams that one XREAD names where Redis is one server: it takes a tenth of a millisecond."""

FIRST_DELAY = 0.05
MAX_DELAY = 5.0

T = TypeVar("T")

log: structlog.stdlib.BoundLogger = structlog.get_logger()


class ReceivedEvent(NamedTuple):
    """A done event, and its position: the backend that has handled it saves `id` for `partition`."""

    partition: int
    id: EntryId
    event: DoneEvent


@dataclass(frozen=True, slots=True)
class Polling:
    """How often a reader asks Redis, in seconds.

    `every` is the time between two questions while there are no events. After `check` the reader looks anew how many
    partitions there are, and whether its positions still lie in the streams. A connection that is silent for
    `reply_timeout` counts as lost.

    Raises:
        WrongType: a value is not a number.
    """

    every: float = 1.0
    check: float = 30.0
    reply_timeout: float = 5.0

    def __post_init__(self) -> None:
        check_types(Real, every=self.every, check=self.check, reply_timeout=self.reply_timeout)


class EventReader:
    """Reads the done events of all partitions, in order per partition; an asynchronous context manager.

    `positions` are the ids of the events that the backend has handled last, by partition, as it has saved them; without
    one, a partition is read from its oldest event. The number of partitions comes from `{prefix}:config` in Redis,
    which the first worker or producer writes; until then there are no events. A change of the number is followed.

    Each event comes at least once. It comes again after a restart if its position was not saved, and may come again
    after a failover of Redis: `event.object` tells.

    Redis keeps some 10,000 events per partition. `on_missed` is called with the number of a partition whose older
    events are gone, and of which this reader can't have seen all. The backend then lists the store for what it lacks.

    The reader retries without limit, with backoff, while Redis or a node of it is away. The other nodes' events come.

    Raises:
        SettingsError: `redis_url`, `prefix` or a position can't be understood.
        WrongType: another argument has a type that it can't have.
    """

    def __init__(
        self,
        redis_url: str,
        *,
        prefix: str = "pcm",
        positions: Mapping[int, EntryId] = {},
        polling: Polling = Polling(),
        on_missed: Callable[[int], object] = lambda _: None,
    ) -> None:
        check_types(Mapping, positions=positions)
        check_types(Polling, polling=polling)
        check_types(FUNCTION, on_missed=on_missed)
        if not isinstance(prefix, str) or not PREFIX.fullmatch(prefix):
            raise SettingsError(f"STREAM_PREFIX is {escaped(prefix)}; give 1 to 64 letters, digits and _ . : -")
        self._positions = {partition: _checked(partition, position) for partition, position in positions.items()}
        self._partitions = max(self._positions, default=-1) + 1
        self._keys = Keys(prefix)
        self._polling = polling
        self._on_missed = on_missed
        self._client = Client(connect(redis_url, timeout=polling.reply_timeout))
        self._backoff = EqualJitterBackoff(cap=MAX_DELAY, base=FIRST_DELAY)
        self._check_at = 0.0
        self._failures = 0

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Disconnect."""
        await self._client.close()

    @property
    def positions(self) -> Mapping[int, EntryId]:
        """Partition → id of the last event that `read` has returned, for a backend that saves all at once."""
        return dict(self._positions)

    async def read(self, *, within: float | None = None) -> Sequence[ReceivedEvent]:
        """Wait for events, at most `within` seconds and one round trip (None: as long as it takes), and return them.

        The list is empty if there are none. The next call returns those that follow.

        Raises:
            WrongType: `within` is neither a number nor None.
        """
        check_types(Real, NOTHING, within=within)
        deadline = None if within is None else time.monotonic() + within
        while True:
            found = await self._attempt()
            rest = self._rest()
            if found or (deadline is not None and time.monotonic() >= deadline):
                return found
            await asyncio.sleep(rest if deadline is None else min(rest, max(0.0, deadline - time.monotonic())))

    async def _attempt(self) -> list[ReceivedEvent]:
        failures = self._failures
        if time.monotonic() >= self._check_at:
            await self._noting(self._check())
        found = await self._noting(self._poll()) or []
        if failures and failures == self._failures:
            log.info("events.recovered", failures=failures)
            self._failures = 0
        return found

    async def _noting(self, step: Awaitable[T]) -> T | None:
        try:
            return await step
        except StreamError as error:
            self._note(error)
            return None

    def _rest(self) -> float:
        return float(self._backoff.compute(self._failures)) if self._failures else self._polling.every

    def _note(self, error: StreamError) -> None:
        """Log the first of several failures, and look again at everything once Redis answers."""
        if not self._failures:
            log.warning("events.unavailable", error=str(error))
        self._failures += 1
        self._check_at = 0.0

    async def _poll(self) -> list[ReceivedEvent]:
        """The events after the positions, as far as nodes answer."""
        count = max(1, min(MOST_PER_PARTITION, MOST_EVENTS // max(1, self._partitions)))
        groups = self._client.together(range(self._partitions), STREAMS_TOGETHER)

        def queue(pipe: Pipeline) -> None:
            for group in groups:
                pipe.xread({self._keys.done(number): self._position(number) for number in group}, count=count)

        found, failure = [], None
        for group, reply in zip(groups, await self._replies(queue), strict=True):
            if isinstance(reply, Exception):
                failure = stream_error(reply)
            else:
                found += self._received(group, reply)
        if failure:
            self._note(failure)
        return found

    def _received(self, group: Sequence[int], reply: Sequence[Any]) -> list[ReceivedEvent]:
        numbers = {self._keys.done(number).encode(): number for number in group}
        found = [
            ReceivedEvent(numbers[key], entry.decode(), DoneEvent.from_fields(fields))
            for key, entries in reply
            for entry, fields in entries
        ]
        self._positions |= {received.partition: received.id for received in found}
        return found

    async def _check(self) -> None:
        """Follow a change of the number of partitions, and find positions that are not in their streams."""
        layouts = await recorded_layouts(self._client, self._keys, 0)
        self._partitions = max(self._partitions, layouts.total)
        self._check_at = time.monotonic() + (self._polling.check if self._partitions else 0)
        numbers = range(self._partitions)
        replies = await self._replies(lambda pipe: [pipe.xinfo_stream(self._keys.done(number)) for number in numbers])
        for number, reply in zip(numbers, replies, strict=True):
            if not isinstance(reply, Exception):
                self._compare(number, reply)
            elif not (isinstance(reply, ResponseError) and "no such key" in str(reply)):
                self._check_at = 0.0  # the poll meets this failure too, and notes it

    def _compare(self, number: int, stream: Mapping[str, Any]) -> None:
        position, newest = entry_order(self._position(number)), entry_order(stream["last-generated-id"].decode())
        if position > newest:
            log.warning("events.position_ahead", partition=number, position=self._position(number))
            del self._positions[number]  # Redis has lost events: those that follow may have smaller ids
        elif _is_trimmed(stream) and position < entry_order(stream["first-entry"][0].decode()):
            log.warning("events.missed", partition=number, position=self._position(number))
            self._on_missed(number)

    async def _replies(self, queue: Callable[[Pipeline], object]) -> list[Any]:
        return await self._client.pipeline(queue) if self._partitions else []

    def _position(self, number: int) -> EntryId:
        return self._positions.get(number, START)


def _is_trimmed(stream: Mapping[str, Any]) -> bool:
    return bool(stream["first-entry"]) and stream["entries-added"] > stream["length"]


def _checked(partition: int, position: EntryId) -> EntryId:
    if not isinstance(partition, int) or isinstance(partition, bool) or not 0 <= partition < MAX_PARTITIONS:
        raise SettingsError(f"positions name the partition {escaped(partition)}; give numbers below {MAX_PARTITIONS}")
    try:
        entry_order(position)
    except (ValueError, TypeError, AttributeError):
        text = f"positions: that of partition {partition} is {escaped(position)}, not an entry id"
        raise SettingsError(text) from None
    return position
