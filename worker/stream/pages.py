"""Reading pages of the streams, of many streams in one round trip; reading changes nothing in Redis."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from redis.asyncio.client import Pipeline

from codec.entry import MAX_CHUNK_BYTES
from worker.errors import StreamError
from worker.model.causes import ONE_PARTITION
from worker.model.ids import EntryId
from worker.stream.client import Client
from worker.stream.keys import Keys
from worker.stream.replies import Entry, entries_by_stream, entry_of
from worker.stream.scripting import Call
from worker.stream.servers.reply_limit import at_most

MAX_ENTRY_BYTES = MAX_CHUNK_BYTES + 64 * 1024
"""Bytes of field names and values up to which an entry is read; a chunk never has more."""

MAX_PAGES_BYTES = 64 * 1024 * 1024
"""Bytes that one round trip may return: over twice the number that its pages aim at."""

PAGES_TOGETHER = 8
"""Pages that one command reads at most, each from another stream. A worker polls all its streams all the time, and
commands are its largest cost. But the reply to one command must arrive within the connection's timeout."""

Page: TypeAlias = list[Entry] | StreamError
"""The entries of a read, or its error."""


@dataclass(frozen=True, slots=True, eq=False)
class ReadRequest:
    """At most `count` entries after the id `cursor`: about so many pages, see `worker.consuming.read_size`."""

    partition: int
    cursor: EntryId
    count: int
    pages: float = 1.0


class PageReader:
    """Reads pages of all partitions under one prefix. Every method raises `StreamError`."""

    def __init__(self, client: Client, keys: Keys) -> None:
        self._client = client
        self._keys = keys

    async def read(self, requests: Sequence[ReadRequest]) -> list[Page]:
        """Entries after each request's cursor, or the error of that read; changes nothing.

        Raises a `StreamError` of cause "large" if all entries together have over MAX_PAGES_BYTES.
        """
        with at_most(MAX_PAGES_BYTES):
            alike = [
                some
                for same in _alike(requests)
                for some in self._client.together(same, int(PAGES_TOGETHER / same[0].pages))
            ]
            pages = await self._read_together(alike)
            # One stream that can't be read has failed all streams of the same command.
            spoiled = [[request] for request in requests if isinstance(pages[request], StreamError)]
            if spoiled:
                pages |= await self._read_together(spoiled)
        return [pages[request] for request in requests]

    async def _read_together(self, groups: Sequence[Sequence[ReadRequest]]) -> dict[ReadRequest, Page]:
        """One command for each group, all in one round trip."""

        def queue(pipe: Pipeline) -> None:
            pipe.response_callbacks = {}  # the library's would hide repeated fields
            for group in groups:
                pipe.xread({self._keys.stream(r.partition): r.cursor for r in group}, count=group[0].count)

        pages: dict[ReadRequest, Page] = {}
        for group, reply in zip(groups, await self._client.pipeline(queue), strict=True):
            found = entries_by_stream(reply)
            if not found:
                pages |= {request: [] for request in group}
            elif isinstance(found, dict):
                pages |= {request: found.get(self._keys.stream(request.partition), []) for request in group}
            elif found.cause in ONE_PARTITION:
                pages |= dict.fromkeys(group, found)
            else:
                raise found
        return pages

    async def read_next(self, request: ReadRequest) -> Page:
        """The next entry after the request's cursor, if any; costs Redis more than `read`, but is safe for any size."""
        call = Call("next", [self._keys.stream(request.partition)], [request.cursor, MAX_ENTRY_BYTES])
        (found,) = await self._client.gather([call])
        if isinstance(found, StreamError) or not found:
            return found
        entry, size, flat = found
        return [entry_of(entry, flat) if flat else Entry(entry.decode(), {}, size)]


def _alike(requests: Sequence[ReadRequest]) -> list[list[ReadRequest]]:
    """Groups of requests that one command can make: one count for all its streams, and each stream once."""
    alike: dict[tuple[int, float, int], list[ReadRequest]] = {}
    times: Counter[int] = Counter()
    for request in requests:
        alike.setdefault((request.count, request.pages, times[request.partition]), []).append(request)
        times[request.partition] += 1
    return list(alike.values())
