"""Follows the done events of all partitions, for people who watch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from worker.model.done_event import DoneEvent
from worker.model.ids import EntryId, entry_order
from worker.stream.client import Client
from worker.stream.keys import Keys

PAGE = 100
"""Events of one partition per round trip."""


class SeenEvent(NamedTuple):
    """A done event with its id and the partition that it was announced in."""

    id: EntryId
    partition: int
    event: DoneEvent


class DoneEvents:
    """Reads the newest events first, then those that follow. Every method raises `StreamError`.

    A partition that Redis refuses to show has no events here.
    """

    def __init__(self, client: Client, keys: Keys, partitions: int) -> None:
        self._client = client
        self._keys = keys
        self._last: dict[int, EntryId] = dict.fromkeys(range(partitions), "0-0")

    async def newest(self, count: int) -> list[SeenEvent]:
        """The newest `count` events, the oldest of them first."""
        replies = await self._client.pipeline(
            lambda pipe: [pipe.xrevrange(self._keys.done(number), count=count) for number in self._last]
        )
        found = self._seen([reply if isinstance(reply, Exception) else reply[::-1] for reply in replies])
        return found[-count:]

    async def following(self) -> list[SeenEvent]:
        """The events since the last call, in order."""
        replies = await self._client.pipeline(
            lambda pipe: [
                pipe.xrange(self._keys.done(number), min=f"({last}", count=PAGE) for number, last in self._last.items()
            ]
        )
        return self._seen(replies)

    def _seen(self, replies: Sequence[Any]) -> list[SeenEvent]:
        found: list[SeenEvent] = []
        for number, reply in zip(list(self._last), replies, strict=True):
            if isinstance(reply, Exception):
                continue
            for entry, fields in reply:
                found.append(SeenEvent(entry.decode(), number, DoneEvent.from_fields(fields)))
                self._last[number] = found[-1].id
        return sorted(found, key=lambda seen: entry_order(seen.id))
