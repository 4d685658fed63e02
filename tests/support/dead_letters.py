"""Dead letters as the worker makes them: pushed, and dead_lettered by the owner of their partition."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from worker.settings import Settings
from worker.stream.client import Client
from worker.stream.entries import Entries
from worker.stream.inspection.dead_letters import DeadLetter, DeadLetters
from worker.stream.keys import Keys
from worker.stream.leases import Lease, Leases
from worker.stream.servers.connecting import connect

Fields = Sequence[bytes | str]
"""Names and values in turn, as a stream keeps them: names may repeat."""


RAW = """
local entries = redis.call('XRANGE', KEYS[1], '-', '+')
for i, entry in ipairs(entries) do
  entries[i] = entry[2]
end
return entries
"""


class DeadLetterStreams:
    """Streams and dead letters under one prefix, in raw form."""

    def __init__(self, client: Client, settings: Settings) -> None:
        self.client = client
        self.keys = Keys(settings.stream_prefix)
        self.letters = DeadLetters(client, self.keys)
        self._settings = settings

    async def push(self, fields: Fields, partition: int = 0) -> str:
        redis: Any = self.client.nodes[0].redis  # the library does not type this method
        entry: bytes = await redis.execute_command("XADD", self.keys.stream(partition), "*", *fields)
        return entry.decode()

    async def dead_letter(self, fields: Fields, reason: str = "a test", partition: int = 0) -> str:
        """Push an entry and move it to the dead letters; returns the id under which it was pushed."""
        entry = await self.push(fields, partition)
        async with self.owned(partition) as (lease, entries):
            await entries.take_over(lease)
            await entries.accept([(lease, [entry])])
            assert await entries.dead_letter(lease, {entry: reason}) == 1
        return entry

    async def ids(self, partition: int = 0) -> list[str]:
        """Ids of a stream's entries."""
        redis: Any = self.client.nodes[0].redis
        found: list[tuple[bytes, object]] = await redis.execute_command("XRANGE", self.keys.stream(partition), "-", "+")
        return [entry.decode() for entry, _ in found]

    @asynccontextmanager
    async def owned(self, partition: int = 0) -> AsyncIterator[tuple[Lease, Entries]]:
        """The partition in the hands of a worker that leaves in the end."""
        leases = Leases(self.client, self.keys, self._settings.partitions, ttl=30)
        (lease,), _ = await leases.acquire([partition], "somebody")
        yield lease, Entries(self.client, self.keys, "somebody")
        await leases.release(lease)

    async def found(self, partition: int = 0) -> list[DeadLetter]:
        return [letter async for letter in self.letters.list(partition)]

    async def raw(self, key: str) -> list[list[bytes]]:
        """Names and values of all entries of a stream; the library would fold fields of one name into one."""
        entries: list[list[bytes]] = await self.client.nodes[0].redis.eval(RAW, 1, key)
        return entries


@asynccontextmanager
async def dead_letter_streams(settings: Settings) -> AsyncIterator[DeadLetterStreams]:
    async with Client(connect(settings.redis_url)) as client:
        yield DeadLetterStreams(client, settings)
