"""Heartbeats of workers and leases of partitions.

redis-py's own Lock is not enough here. It takes a lock with a plain SET, which a full Redis refuses just when it must
be drained, and it has no generation.
"""

from __future__ import annotations

import asyncio
import json
import secrets
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field

from worker.errors import LeaseLost, StreamError
from worker.model.causes import StreamCause
from worker.model.layouts import Layouts
from worker.stream.client import Client
from worker.stream.config import difference_in, layouts_in, record_settings
from worker.stream.keys import DEFAULT_PARTITIONS, Keys
from worker.stream.scripting import Call
from worker.stream.servers.failures import stream_error
from worker.stream.servers.node import Node

USABLE_SHARE = 2 / 3
"""Share of the TTL after which an owner stops on its own, counted from before its last successful renewal was sent."""

LOOKS_PER_TTL = 15
"""How often dead workers are looked for: whatever the number of workers is, they do so together only so often."""

LIST = " list"
"""Field of the workers' hash that has the version of their list; no name of a worker begins with a space."""


@dataclass(frozen=True, slots=True)
class Member:
    """A live worker, as its heartbeat describes it; `started` is Redis' time in ms.

    `trouble` is why it is not ready, `notice` what may soon be a trouble. `growth` is by how many bytes a second Redis'
    memory has grown lately, measured over `measured` seconds; 0 seconds if it was not measured yet.
    """

    worker: str
    revision: str = ""
    started: int = 0
    trouble: str = ""
    notice: str = ""
    growth: int = 0
    measured: int = 0


@dataclass(slots=True)
class Lease:
    """The right to work on one partition, as far as this worker knows.

    `renewed` is the monotonic time in seconds from before the last successful request was sent. `clean` tells whether
    the owner before us released the partition.
    """

    partition: int
    token: str
    ttl: float
    renewed: float
    clean: bool = True
    lost: bool = field(default=False, compare=False)

    def usable(self, now: float) -> bool:
        """Whether work may go on at monotonic time `now`, even if Redis is unreachable."""
        return not self.lost and now < self.renewed + self.ttl * USABLE_SHARE

    @property
    def generation(self) -> int:
        """How often the partition was taken, this time included; starts again if Redis loses its data."""
        return int(self.token.split()[-2])


class Leases:
    """Membership and leases under one prefix.

    The list of live workers comes only when it has changed: a worker has started, left or died.

    `difference` says how the settings that Redis recorded at the last heartbeat differ from ours; empty if they agree.
    `broken` says why the list of workers can't be read; empty if it can. `layouts` are the numbers of partitions that
    Redis recorded then.
    """

    def __init__(self, client: Client, keys: Keys, partitions: int | None, ttl: float) -> None:
        self._client = client
        self._keys = keys
        self._configured = partitions
        self.layouts = Layouts.single(partitions or DEFAULT_PARTITIONS)
        self.ttl = ttl
        self.difference = ""
        self.broken = ""
        self._version = ""
        self._members: list[Member] = []
        self._owners: dict[int, str | None] = {}

    @property
    def partitions(self) -> int:
        """How many partitions workers own."""
        return self.layouts.total

    @property
    def _ttl_ms(self) -> int:
        return int(self.ttl * 1000)

    async def heartbeat(self, member: Member) -> Sequence[Member]:
        """Send a heartbeat; returns all live workers, also this one: the same object until the list changes.

        Their facts are as old as the list. The same round trip records the shared settings again, in case Redis has
        lost them since our start. If the list of workers is broken, this worker counts as the only one: leases still
        divide the partitions, first come first served.
        """
        call = Call("heartbeat", [self._keys.workers], [*self._introduction(member), *self._versions()])
        beat, recorded = await self._client.gather([call, record_settings(self._keys, self._configured)])
        self._follow(recorded)
        if isinstance(beat, Exception):
            raise beat
        version, *changed = beat
        await self._learn(version.decode(), member, *changed)
        return self._members

    def _introduction(self, member: Member) -> list[str | int]:
        return [member.worker, self._ttl_ms, _description(member)]

    def _versions(self) -> list[str | int]:
        return [self._version, secrets.token_hex(8), self._ttl_ms // LOOKS_PER_TTL]

    async def _learn(self, version: str, member: Member, live: Sequence[bytes] = (), error: bytes = b"") -> None:
        """Keep the list if it comes; while it is broken, its version is not known."""
        self._version = version
        self.broken = await self._client.wrong_types([self._keys.workers]) or error.decode() if error else ""
        if live:
            self._members = [member_of(*facts) for facts in zip(live[::2], live[1::2], strict=True)]
        elif error and self._members != [member]:
            self._members = [member]

    def _follow(self, recorded: Sequence[bytes | None] | StreamError) -> None:
        """Compare the recorded settings with ours, and follow a change of the number of partitions to its end.

        Another record, for example that of others after a flush of Redis, is only told.
        """
        try:
            if isinstance(recorded, StreamError):
                raise recorded
            self.difference = difference_in(recorded, self._keys, self._configured)
            layouts = layouts_in(recorded, self._keys)
            if not self.difference or layouts.numbers <= self.layouts.numbers:
                self.layouts = layouts
        except StreamError as error:
            if error.cause is StreamCause.REFUSED:
                self.difference = str(error)

    async def leave(self, worker: str) -> None:
        """Remove this worker from the list, and its version too, so that others divide its share at once."""
        await self._client.command(lambda pipe: pipe.hdel(self._keys.workers, worker, LIST), self._keys.workers)

    async def owners(self) -> list[str | None]:
        """Worker id per partition; None where no worker holds the lease.

        Partitions of a server that does not answer have the owner that they had last.
        """
        keys = [self._keys.lease(partition) for partition in range(self.partitions)]
        groups = self._client.together(keys, len(keys))
        replies = await self._client.pipeline(lambda pipe: [pipe.mget(some) for some in groups])
        owners: list[str | None] = []
        for some, tokens in zip(groups, replies, strict=True):
            known = [self._owners.get(number) for number in range(len(owners), len(owners) + len(some))]
            owners += known if isinstance(tokens, Exception) else map(owner_of, tokens)
        if all(isinstance(tokens, Exception) for tokens in replies):
            raise stream_error(replies[0])
        self._owners = dict(enumerate(owners))
        return owners

    async def acquire(self, partitions: Sequence[int], worker: str) -> tuple[list[Lease], list[StreamError]]:
        """Take the free leases; also returns Redis' refusals, because one broken key must not stop other partitions."""
        sent = self._client.clock()
        calls = [
            Call(
                "acquire",
                [self._keys.lease(partition), self._keys.epoch(partition)],
                [worker, secrets.token_hex(8), self._ttl_ms],
            )
            for partition in partitions
        ]
        taken: list[Lease] = []
        refused: list[StreamError] = []
        for partition, reply in zip(partitions, await self._client.gather(calls), strict=True):
            if isinstance(reply, StreamError):
                refused.append(reply)
            elif reply:
                taken.append(Lease(partition, reply[0].decode(), self.ttl, sent, clean=reply[1] == b"1"))
        return taken, refused

    async def renew(self, leases: Sequence[Lease]) -> list[StreamError]:
        """Renew our leases, and mark the lost ones; returns the failures of servers, whose leases stay as they are.

        A lease counts as renewed as soon as its own server has answered.

        Raises:
            StreamError: no server answers.
        """
        by_node: dict[Node, list[Lease]] = defaultdict(list)
        for lease in leases:
            by_node[self._client.node_of(self._keys.lease(lease.partition))].append(lease)
        outcomes = await asyncio.gather(*map(self._renew_together, by_node.values()))
        failures = [error for refusals, _ in outcomes for error in refusals]
        if failures and not any(answered for _, answered in outcomes):
            raise failures[0]
        return failures

    async def _renew_together(self, leases: Sequence[Lease]) -> tuple[list[StreamError], bool]:
        """Renew the leases of one server; returns its failures, and whether it has answered to any request."""
        sent = self._client.clock()
        groups = self._client.together(leases, len(leases))
        calls = [
            Call(
                "renew",
                [self._keys.lease(lease.partition) for lease in some],
                [self._ttl_ms, *(lease.token for lease in some)],
            )
            for some in groups
        ]
        failures: list[StreamError] = []
        for some, reply in zip(groups, await self._client.gather(calls), strict=True):
            if isinstance(reply, StreamError):
                failures.append(reply)
                continue
            for lease, kept in zip(some, reply, strict=True):
                lease.renewed, lease.lost = (sent, False) if kept else (lease.renewed, True)
        return failures, len(failures) < len(groups)

    async def release(self, lease: Lease) -> None:
        """Give a partition back cleanly; nothing happens if it is lost already."""
        keys = [self._keys.lease(lease.partition), self._keys.epoch(lease.partition)]
        lease.lost = True
        reply = (await self._client.gather([Call("release", keys, [lease.token])]))[0]
        if isinstance(reply, Exception) and not isinstance(reply, LeaseLost):
            raise reply


def member_of(worker: bytes, description: str | bytes) -> Member:
    """A worker's description of itself; only its name if that is of a later version or broken."""
    name = worker.decode(errors="replace")
    try:
        facts = json.loads(description)
        revision, trouble, notice = (str(facts.get(fact, "")) for fact in ("revision", "trouble", "notice"))
        started, growth, measured = (int(facts.get(fact, 0)) for fact in ("started", "growth", "measured"))
    except (ValueError, TypeError, AttributeError, OverflowError):
        return Member(name, revision="unreadable")
    return Member(name, revision, started, trouble, notice, growth, measured)


def _description(member: Member) -> str:
    """The same as JSON; what is empty is left out, but for the facts that the first version had."""
    facts = asdict(member)
    del facts["worker"]
    return json.dumps({name: fact for name, fact in facts.items() if fact or name in ("revision", "started")})


def owner_of(token: bytes | None) -> str | None:
    """The worker that holds a lease, by its token."""
    return token.decode(errors="replace").rsplit(" ", 2)[0] if token else None
