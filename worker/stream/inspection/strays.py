"""Stray streams: streams with audio that belong to no partition, so that no worker reads them.

A pusher makes them that leaves the braces out, has another number of partitions, or another prefix. They may be on
any node of a cluster.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from redis.asyncio.client import Pipeline

from codec.entry import MAX_ID_BYTES, partition_of_bytes
from worker.errors import StreamError
from worker.model.causes import MoveOutcome, StreamCause
from worker.model.ids import EntryId, entry_order
from worker.model.layouts import Layouts
from worker.stream.client import Client
from worker.stream.inspection.carrying import Move, carry
from worker.stream.keys import STREAM_KEY, Keys
from worker.stream.scripting import Call, script
from worker.stream.servers.node import Node

SCAN_STEP = 500
"""Keys per SCAN: Redis answers others after a few hundred microseconds."""

PAGE = 25
"""Entries per script call: 25 chunks of 160 kB cost Redis a few milliseconds."""

MAX_FIELDS = 1000
"""A script can't pass thousands of fields to XADD; entries of ours have a dozen."""

_PARTS_WITH_STREAMS = ("done", "dead")
_NUMBERED = re.compile(r"(?P<prefix>.*?):?\{[0-9]{1,9}\}|(?P<other>.+):[0-9]{1,9}", re.DOTALL)
_QUOTES = "\"'` \t\r\n"
"""What shells and settings files leave around a name by mistake."""


@dataclass(frozen=True, slots=True)
class Stray:
    """A stray stream: its key, its entries, the id of its oldest entry, and why no worker reads it.

    If `claimed`, another installation may read it some day: it is moved only if it is named.
    """

    key: str
    entries: int
    oldest: EntryId
    reason: str
    claimed: bool = False


@dataclass(frozen=True, slots=True)
class Moved:
    """One entry of a stray stream, the stream where it belongs ("" if that can't be told), and what became of it.

    `error` is Redis' reason if it has refused the step.
    """

    entry: EntryId
    target: str
    outcome: MoveOutcome
    error: str = ""


class Strays:
    """Finds stray streams beside those of one prefix, and moves their entries. Every method raises `StreamError`."""

    def __init__(self, client: Client, keys: Keys, layouts: Callable[[], Layouts]) -> None:
        self._client = client
        self._keys = keys
        self._layouts = layouts
        self.away: tuple[str, ...] = ()

    async def find(self, pause: float = 0.0) -> list[Stray]:
        """All stray streams of this database, the one with the oldest entry first; nothing is changed.

        Between two steps of the search it rests for `pause` seconds. Under our own prefix, every stream counts that is
        named like a partition's, and every other one whose entries are like ours. Of other names only those count that
        end in a number, whose entries are like ours, which have no consumer group, and whose prefix has no workers.
        Streams that this user of Redis may not read are left out. So are those of nodes of a cluster that do not
        answer: `away` names these afterwards.
        """
        known: dict[str, Stray | None] = {}
        failures: dict[str, StreamError] = {}
        nodes = await self._client.find_nodes()
        for node in nodes:
            try:
                await self._search(node, pause, known)
            except StreamError as error:
                failures[node.name] = error
        if len(failures) == len(nodes):
            raise next(iter(failures.values()))
        self.away = tuple(failures)
        strays = [stray for stray in known.values() if stray is not None]
        return sorted(strays, key=lambda stray: (entry_order(stray.oldest), stray.key))

    async def named(self, key: str) -> Stray | None:
        """A stream that a person names, and that the search leaves out because its name has no number.

        It counts if its first and last entries are like ours and it has no consumer group. None if it does not.
        """
        if self._is_under_prefix(key) or STREAM_KEY.fullmatch(key) or _NUMBERED.fullmatch(key):
            return None  # the search looks at these
        try:
            entries, groups, oldest, first, last = await self._look(key)
        except StreamError as error:
            if error.cause is StreamCause.REFUSED and "NoPermission" not in str(error):  # it is missing, or no stream
                return None
            raise
        if not entries or groups or not (first and last):
            return None
        return Stray(key, entries, oldest.decode(), "its name is not that of a partition", claimed=True)

    async def now_ms(self) -> int:
        """Redis' time in ms since 1970."""
        return await self._client.redis_ms()

    async def move(self, stray: Stray, *, dry_run: bool = False) -> AsyncIterator[Moved]:
        """Move all entries of ours to the streams of their partitions, in their order; yields one by one.

        Each entry is moved in one atomic step, or copied first if its partition is on another node of a cluster. So
        this may be killed and repeated at any time: workers recognise a second copy by the identity of its chunk.
        It ends at the first entry whose step gets no answer, and moves nothing more to a partition that has refused an
        entry: what stayed would come behind later audio of its conversation.
        """
        refused: dict[int | None, str] = {}
        pages = self._client.pages(lambda start: Call("stray_page", [stray.key], [start, PAGE]))
        async for (entries,) in pages:
            for entry, conversation, fields in entries:
                target = self._target(conversation, fields)
                moved = await self._moved(stray, entry.decode(), target, refused.get(target), dry_run=dry_run)
                if moved.outcome is MoveOutcome.REFUSED:
                    refused[target] = moved.error
                yield moved

    async def _moved(
        self, stray: Stray, entry: EntryId, target: int | None, refused: str | None, *, dry_run: bool
    ) -> Moved:
        if target is None:
            return Moved(entry, "", MoveOutcome.FOREIGN)
        stream = self._keys.stream(target)
        if refused is not None:
            return Moved(entry, stream, MoveOutcome.REFUSED, refused)
        try:
            outcome = await self._step(stray, entry, target, dry_run=dry_run)
        except StreamError as error:
            if error.cause is not StreamCause.REFUSED:
                raise
            why = await self._client.wrong_types([stream, self._keys.deleted(target)])
            return Moved(entry, stream, MoveOutcome.REFUSED, why or str(error))
        return Moved(entry, stream, MoveOutcome(outcome.decode()))

    async def _step(self, stray: Stray, entry: EntryId, target: int, *, dry_run: bool) -> bytes:
        """Move one entry, or look whether it can be moved."""
        move = Move(stray.key, entry, self._keys.stream(target), self._keys.deleted(target))
        if self._client.node_of(move.stray) is not self._client.node_of(move.stream):
            return await carry(self._client, move, dry_run=dry_run)
        args: list[str | int] = [move.entry, move.stream, move.deleted, int(dry_run)]
        reply: bytes = await self._client.run(Call("stray_move", [move.stray], args))
        return reply

    def _target(self, conversation: bytes | None, fields: int) -> int | None:
        if conversation is None or len(conversation) > MAX_ID_BYTES or fields > MAX_FIELDS:
            return None
        return partition_of_bytes(conversation, self._layouts().current)

    async def _search(self, node: Node, pause: float, known: dict[str, Stray | None]) -> None:
        """Look at the streams of a node whose names are like ours and not those of our partitions, each once."""
        async for name in _streams(node, pause):
            key = _decoded(name)
            if key is not None and key not in known and self._is_suspect(key):
                known[key] = await self._examined(key)

    def _is_suspect(self, key: str) -> bool:
        parts = STREAM_KEY.fullmatch(key)
        if parts is not None and parts["part"] in _PARTS_WITH_STREAMS:
            return False
        if parts is not None and parts["part"] is None and parts["prefix"] == self._keys.prefix:
            return int(parts["partition"]) >= self._layouts().total
        bare = key.strip(_QUOTES)
        return self._is_under_prefix(bare) or _NUMBERED.fullmatch(bare) is not None

    def _is_under_prefix(self, key: str) -> bool:
        return key == self._keys.prefix or key.startswith(f"{self._keys.prefix}:")

    async def _examined(self, key: str) -> Stray | None:
        try:
            entries, groups, oldest, first, last = await self._look(key)
        except StreamError as error:
            if error.cause is StreamCause.REFUSED:  # it was removed meanwhile, or this user may not read it
                return None
            raise
        if not entries:
            return None
        prefix = _prefix_of(key)
        if prefix == self._keys.prefix:
            return Stray(key, entries, oldest.decode(), self._reason(key))
        if prefix is None:
            why = f"no key of {self._keys.prefix} that workers read has this name"
            return Stray(key, entries, oldest.decode(), why) if first or last else None
        if not first or not last or groups:
            return None
        return await self._of_other_prefix(key, prefix, entries, oldest.decode())

    async def _of_other_prefix(self, key: str, prefix: str, entries: int, oldest: EntryId) -> Stray | None:
        other = Keys(prefix)
        try:
            declared = await self._client.command(lambda pipe: pipe.hexists(other.config, "partitions"), other.config)
            workers = await self._client.command(lambda pipe: pipe.hlen(other.workers), other.workers)
        except StreamError as error:
            if error.cause is StreamCause.REFUSED:
                return None
            raise
        if workers:
            return None
        if declared:
            why = f"no worker has STREAM_PREFIX {prefix or 'empty'}, though {other.config} declares it"
            return Stray(key, entries, oldest, why, claimed=True)
        return Stray(
            key, entries, oldest, f"the workers' STREAM_PREFIX is {self._keys.prefix}, not {prefix or 'empty'}"
        )

    def _reason(self, key: str) -> str:
        parts = STREAM_KEY.fullmatch(key)
        if parts is not None and parts["part"] is None:
            last = self._layouts().total - 1
            return f"PARTITIONS is {self._layouts()}, so the last stream is {self._keys.stream(last)}"
        return f"the streams of partitions are named as {self._keys.stream(0)}, braces included"

    async def _look(self, key: str) -> Any:
        """Look at a stream by EVAL_RO: it needs no right to write."""
        return await self._client.command(lambda pipe: pipe.eval_ro(script("stray"), 1, key), key)


async def _streams(node: Node, pause: float) -> AsyncIterator[bytes]:
    """The names of all streams of a server; some may come twice."""
    cursor = 0
    while True:
        cursor, found = await node.command(partial(_scan, cursor))
        for name in found:
            yield name
        if not cursor:
            return
        await asyncio.sleep(pause)


def _scan(cursor: int, pipe: Pipeline) -> None:
    pipe.scan(cursor, count=SCAN_STEP, _type="stream")


def _decoded(name: bytes) -> str | None:
    try:
        return name.decode()
    except UnicodeDecodeError:  # not one of ours: prefixes are ASCII
        return None


def _prefix_of(key: str) -> str | None:
    """The prefix of a name that ends in the number of a partition, in any spelling; None for other names."""
    parts = STREAM_KEY.fullmatch(key)
    found = _NUMBERED.fullmatch(key.strip(_QUOTES))
    if found is None or (parts is not None and parts["part"] is not None):
        return None
    return found["other"] if found["prefix"] is None else found["prefix"]
