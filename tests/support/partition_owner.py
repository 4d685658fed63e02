"""One owner of one partition, with everything it needs to speak the protocol."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Self, TypeAlias

from codec.entry import Chunk
from tests.support.seals import SEAL
from worker.model.causes import DoneOutcome
from worker.model.done_event import DoneEvent
from worker.model.ids import EntryId, StreamIdentity
from worker.model.seal import Seal
from worker.stream.client import Client
from worker.stream.entries import DoneStep, Entries
from worker.stream.keys import GROUP, Keys
from worker.stream.leases import Lease, Leases

Raw: TypeAlias = Any
"""A plain Redis client: its own annotations allow every form of reply at once."""

PARTITIONS = 4
TTL = 60.0
"""Seconds of a lease: longer than any test takes on a busy machine."""


UPLOAD = "0123456789abcdef"

EVENT = DoneEvent("u", "c", "chunks/u/c/1000.000.opus.enc", bytes=7)
"""What a done step tells backends."""


def sealed(entries: Sequence[str], *markers: str, uid: str = "u", conversation_id: str = "c") -> Seal:
    """A seal over these entries."""
    return replace(SEAL, entries=tuple(entries), markers=markers, uid=uid, conversation_id=conversation_id, silences={})


@dataclass
class PartitionOwner:
    client: Client
    keys: Keys
    worker: str
    entries: Entries
    leases: Leases
    lease: Lease
    identity: StreamIdentity
    server: str = ""
    """The one that answered the last done step, if it was not the expected one."""

    @classmethod
    async def open(cls, client: Client, keys: Keys, worker: str) -> Self:
        """Take partition 0, whoever had it."""
        leases = Leases(client, keys, PARTITIONS, TTL)
        await client.nodes[0].redis.delete(keys.lease(0))
        (lease,), _ = await leases.acquire([0], worker)
        entries = Entries(client, keys, worker)
        found = await entries.take_over(lease)
        return cls(client, keys, worker, entries, leases, lease, found.identity)

    async def done(
        self,
        seal: Seal,
        identities: bytes = b"",
        *,
        ids: Sequence[EntryId] = (),
        upload: str = UPLOAD,
        server: str | None = None,
        told: str = EVENT.object,
        digest: str | None = None,
    ) -> DoneOutcome:
        """The done step of a batch; its event tells of the object `told`, whose chunks have this digest."""
        expected = self.identity.server if server is None else server
        event = replace(EVENT, object=told, chunks_digest=digest)
        step = DoneStep(0, seal, ids or seal.all_ids, upload, identities, event, expected)
        outcome, self.server = await self.entries.done(step)
        return outcome

    async def push(self, count: int, *, pcm: bytes = b"\0\0") -> list[str]:
        """Append so many chunks."""
        async with self.client.nodes[0].redis.pipeline(transaction=False) as pipe:
            for number in range(count):
                chunk = Chunk("u", "c", 1000.0 + number, pcm, seq=number)
                pipe.xadd(self.keys.stream(0), dict(chunk.fields()))  # type: ignore[arg-type]
            return [entry.decode() for entry in await pipe.execute()]

    async def accept(self, ids: Sequence[str]) -> set[str]:
        (accepted,) = await self.entries.accept([(self.lease, ids)])
        assert isinstance(accepted, set)
        return accepted

    async def accepted(self, count: int) -> list[str]:
        """Append so many chunks and make them pending with this owner."""
        ids = await self.push(count)
        assert await self.accept(ids) == set(ids)
        return ids


async def pending(raw: Raw, owner: PartitionOwner) -> dict[str, tuple[str, int]]:
    """Pending entries → consumer and delivery count."""
    found = await raw.xpending_range(owner.keys.stream(0), GROUP, "-", "+", 100_000)
    return {entry["message_id"].decode(): (entry["consumer"].decode(), entry["times_delivered"]) for entry in found}
