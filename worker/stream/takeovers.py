"""Takes partitions over: claims what former owners had in hand, and collects what they left.

A worker that starts may take thousands of partitions over. So each step is one round trip for many of them.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from worker.errors import StreamError
from worker.model.ids import START, EntryId, StreamIdentity, entry_order
from worker.model.seal import Seal
from worker.stream.client import Client
from worker.stream.keys import GROUP, Keys
from worker.stream.leases import Lease
from worker.stream.replies import parse_seals, parse_tombstones
from worker.stream.scripting import Call, texts

CLAIM_PAGE = 500
"""Pending entries of a partition taken over per script call: about a millisecond of Redis' time."""

DISTRUSTED = "distrusted"
"""In the place of the id of a server: no server has it."""


@dataclass(frozen=True, slots=True)
class Takeover:
    """The state in which a new owner finds a partition.

    `seals` are to be finished, `vanished` entries disappeared while pending, and `survivors` were in hand when an owner
    died. `identity` tells which stream it is, and up to where Redis may have forgotten its past. `forgot` tells that it
    may have forgotten something since the last take-over.
    """

    seals: list[Seal]
    tombstones: dict[str, EntryId]
    vanished: list[EntryId]
    survivors: set[EntryId]
    identity: StreamIdentity
    forgot: bool


class _Known(NamedTuple):
    """What the owner knows of a stream and Redis may lose: its id, the last entry that was read, the server."""

    stream: str = ""
    read_to: EntryId = START
    server: str = ""


@dataclass(slots=True, eq=False)
class _UnderWay:
    """A take-over so far; `page` is where the next page of pending entries begins, "" after the last one."""

    lease: Lease
    page: str = "-"
    vanished: list[EntryId] = field(default_factory=list)
    survivors: set[EntryId] = field(default_factory=set)
    identity: StreamIdentity = field(default_factory=lambda: StreamIdentity(""))
    forgot: bool = False
    seals: list[Seal] = field(default_factory=list)
    tombstones: dict[str, EntryId] = field(default_factory=dict)
    failure: StreamError | None = None

    @property
    def partition(self) -> int:
        """The number of the partition."""
        return self.lease.partition

    def outcome(self) -> Takeover | StreamError:
        """What was found, or the failure that ended it."""
        found = Takeover(self.seals, self.tombstones, self.vanished, self.survivors, self.identity, self.forgot)
        return self.failure or found

    def claimed(self, page: Sequence[Any]) -> None:
        """Note one page of pending entries."""
        following, vanished, survivors = page
        self.page = following.decode()
        self.vanished += texts(vanished)
        self.survivors.update(texts(survivors))


class Takeovers:
    """Takes partitions over for a consumer, and remembers of each what Redis may lose."""

    def __init__(self, client: Client, keys: Keys, consumer: str) -> None:
        self._client = client
        self._keys = keys
        self._consumer = consumer
        self._known: dict[int, _Known] = {}

    async def run(self, leases: Sequence[Lease]) -> list[Takeover | StreamError]:
        """Take partitions over; the failure of one comes back in its place, and the others go on."""
        takeovers = [_UnderWay(lease) for lease in leases]
        while claiming := [one for one in takeovers if one.page and one.failure is None]:
            await self._call(claiming, self._claim, _UnderWay.claimed)
        await self._call(takeovers, self._sweep, lambda _, __: None)
        await self._call(takeovers, self._identify, self._identified)
        await self._read(takeovers, self._keys.ready, self._found_seals)
        await self._read(takeovers, self._keys.deleted, self._found_tombstones)
        return [one.outcome() for one in takeovers]

    def read_to(self, partition: int, entry: EntryId) -> None:
        """Remember that the owner has read a partition up to an entry."""
        known = self._known[partition]
        self._known[partition] = known._replace(read_to=max(known.read_to, entry, key=entry_order))

    def distrust(self, partition: int) -> None:
        """Let the next take-over count as one on another server: what was there last may be forgotten."""
        if partition in self._known:
            self._known[partition] = self._known[partition]._replace(server=DISTRUSTED)

    async def _call(
        self,
        takeovers: Sequence[_UnderWay],
        call: Callable[[_UnderWay], Call],
        note: Callable[[_UnderWay, Any], None],
    ) -> None:
        """Run one script for each that has not failed, in one round trip."""
        going = [one for one in takeovers if one.failure is None]
        _note(going, await self._client.gather([call(one) for one in going]), note)

    async def _read(
        self, takeovers: Sequence[_UnderWay], key: Callable[[int], str], note: Callable[[_UnderWay, Any], None]
    ) -> None:
        """Read one hash of each that has not failed, in one round trip."""
        going = [one for one in takeovers if one.failure is None]
        _note(going, await self._client.hashes([key(one.partition) for one in going]), note)

    def _claim(self, one: _UnderWay) -> Call:
        return self._fenced("claim", one.lease, int(not one.lease.clean), one.page, CLAIM_PAGE)

    def _sweep(self, one: _UnderWay) -> Call:
        return self._fenced("sweep", one.lease)

    def _identify(self, one: _UnderWay) -> Call:
        known = self._known.get(one.partition, _Known())
        keys = [*self._keys.fenced(one.partition), self._keys.epoch(one.partition)]
        presumed = self._client.node_of(keys[0]).presumed_id
        args = [one.lease.token, GROUP, secrets.token_hex(16), *known[:2], presumed, known.server]
        return Call("identify", keys, args)

    def _fenced(self, script: str, lease: Lease, *args: str | int) -> Call:
        return Call(script, self._keys.fenced(lease.partition), [lease.token, GROUP, self._consumer, *args])

    def _identified(self, one: _UnderWay, reply: Sequence[bytes]) -> None:
        *facts, forgot = texts(reply)
        found = StreamIdentity(*facts)
        one.identity, one.forgot = found, forgot == "1"
        self._known[one.partition] = _Known(found.stream, found.read_to, found.server)

    def _found_seals(self, one: _UnderWay, reply: dict[bytes, bytes]) -> None:
        one.seals = parse_seals(reply)

    def _found_tombstones(self, one: _UnderWay, reply: dict[bytes, bytes]) -> None:
        one.tombstones = parse_tombstones(self._keys.deleted(one.partition), reply)


def _note(going: Sequence[_UnderWay], replies: Sequence[Any], note: Callable[[_UnderWay, Any], None]) -> None:
    """Note each reply; a failure, or a reply that can't be read, ends the take-over of its partition."""
    for one, reply in zip(going, replies, strict=True):
        try:
            if isinstance(reply, StreamError):
                raise reply
            note(one, reply)
        except StreamError as error:
            one.failure = error
