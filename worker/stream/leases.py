"""Heartbeats of workers and leases of partitions.

redis-py's own Lock is not enough here. It takes a lock with a plain SET, which a full Redis refuses just when it must
be drained, and it has no generation.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from itertools import chain

from redis.asyncio.client import Pipeline

from worker.errors import LeaseLost, StreamError
from worker.stream.client import Call, Client, stream_error
from worker.stream.config import difference_in, record_settings
from worker.stream.keys import Keys

USABLE_SHARE = 2 / 3
"""Share of the TTL after which an owner stops on its own, counted from before its last successful renewal was sent."""


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

    `difference` says how the settings that Redis recorded at the last heartbeat differ from ours; empty if they agree.
    `broken` says why the list of workers can't be read; empty if it can.
    """

    def __init__(self, client: Client, keys: Keys, partitions: int, ttl: float) -> None:
        self._client = client
        self._keys = keys
        self.partitions = partitions
        self.ttl = ttl
        self.difference = ""
        self.broken = ""

    @property
    def _ttl_ms(self) -> int:
        return int(self.ttl * 1000)

    async def heartbeat(self, member: Member) -> list[Member]:
        """Send a heartbeat; returns all live workers, also this one, and sets the client's clock to Redis' time.

        The same round trip records the shared settings again, in case Redis has lost them since our start. If the list
        of workers is broken, this worker counts as the only one: leases still divide the partitions, first come first
        served.
        """
        call = Call("heartbeat", [self._keys.workers], [member.worker, self._ttl_ms, _description(member)])
        beat, recorded = await self._client.gather([call, record_settings(self._keys, self.partitions)])
        if isinstance(beat, Exception):
            raise beat
        now_ms, live, run_id, *broken = beat
        if isinstance(recorded, Exception):
            self.difference = str(recorded)
        else:
            self.difference = difference_in(recorded, self._keys, self.partitions)
        self._client.sync_clock(now_ms)
        self._client.note_run_id(run_id.decode())
        self.broken = await self._client.wrong_types([self._keys.workers]) or str(broken[0]) if broken else ""
        if broken:
            return [member]
        return [member_of(worker, facts) for worker, facts in zip(live[::2], live[1::2], strict=True)]

    async def leave(self, worker: str) -> None:
        """Remove this worker from the list, so that others divide its share at once."""
        await self._client.command(lambda redis: redis.hdel(self._keys.workers, worker))

    async def owners(self) -> list[str | None]:
        """Worker id per partition; None where no worker holds the lease."""
        keys = [self._keys.lease(partition) for partition in range(self.partitions)]

        def queue(pipe: Pipeline) -> None:
            for some in self._client.together(keys, len(keys)):
                pipe.mget(some)

        owners: list[str | None] = []
        for tokens in await self._client.pipeline(queue):
            if isinstance(tokens, Exception):
                raise stream_error(tokens)
            owners += map(owner_of, tokens)
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

    async def renew(self, leases: Sequence[Lease]) -> list[Lease]:
        """Renew our leases; returns the lost ones, which are marked as lost."""
        sent = self._client.clock()
        calls = [
            Call(
                "renew",
                [self._keys.lease(lease.partition) for lease in some],
                [self._ttl_ms, *(lease.token for lease in some)],
            )
            for some in self._client.together(leases, len(leases) or 1)
        ]
        for lease, kept in zip(leases, chain.from_iterable(await self._client.run_all(calls)), strict=True):
            if kept:
                lease.renewed = sent
            else:
                lease.lost = True
        return [lease for lease in leases if lease.lost]

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
