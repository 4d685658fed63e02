"""The path of entries through Redis: read → accept → seal → done, or to the dead letters."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from codec.entry import Chunk
from worker.errors import StreamError
from worker.model.causes import DoneOutcome, OrphanFate, RewindCause
from worker.model.done_event import DoneEvent
from worker.model.ids import Conversation, EntryId, entry_order
from worker.model.layouts import Layouts
from worker.model.recent_chunks import MAX_BYTES
from worker.model.seal import Seal
from worker.model.stored_blob import Orphan
from worker.stream.client import Client
from worker.stream.keys import GROUP, Keys
from worker.stream.leases import Lease
from worker.stream.losses import LossRecords
from worker.stream.pages import PageReader
from worker.stream.replies import chunk_of, parse_seals, tombstone_position
from worker.stream.scripting import Call, texts
from worker.stream.servers.node import HIDDEN, Node
from worker.stream.takeovers import Takeover, Takeovers

SEEN_TTL = 3600.0
"""Seconds for which a conversation's stored chunks are remembered, to recognise late duplicates."""

DONE_LENGTH = 10_000
"""Events kept per partition for backends that read late."""

WITHDRAWN_TTL = 7 * 24 * 3600.0
"""Seconds for which no done step may count an object that was given up: longer than any owner may be paused."""

CHUNKS_PAGE = 10
"""Entries read per script call where whole chunks pass through Lua: 1.6 MB of 5-second chunks."""

SEALED = "sealed"
"""The reply of seal.lua when the seal is set."""


@dataclass(frozen=True, slots=True)
class Standing:
    """What Redis knows of a batch that has left it: whether its audio was deleted, or its upload given up.

    `stream` is the current random id of the stream, and `changed` is as in `StreamIdentity`. Another stream, or one
    that has changed since, knows less than the bucket.
    """

    deleted: bool
    withdrawn: bool
    stream: str
    changed: EntryId


@dataclass(frozen=True, slots=True)
class DoneStep:
    """What the last step of a batch removes, remembers and announces: see done.lua."""

    partition: int
    seal: Seal
    ids: Sequence[EntryId]
    upload: str
    identities: bytes
    event: DoneEvent
    server: str


class DoneReply(NamedTuple):
    """Redis' reply to a done step; `server` is the server that answers, if the step expects another one."""

    outcome: DoneOutcome
    server: str = ""


@dataclass(frozen=True, slots=True)
class Refused:
    """Why a seal was not set; `vanished` are the entries that are gone."""

    cause: RewindCause
    vanished: list[EntryId]


@dataclass(frozen=True, slots=True)
class Backlog:
    """Per partition: entries in the stream, dead letters, and the bytes of Redis' memory that each take, estimated."""

    entries: dict[int, int]
    bytes: dict[int, int]
    dead: dict[int, int]
    dead_bytes: dict[int, int]


class Entries:
    """Entries of all partitions under one prefix. Every method raises `StreamError`, the fenced ones `LeaseLost`.

    `pages` reads them, and `losses` records the lost ones.
    While the number of partitions is being changed, `layouts` tells where else a conversation may have been.
    """

    def __init__(self, client: Client, keys: Keys, consumer: str, layouts: Callable[[], Layouts] | None = None) -> None:
        self.pages = PageReader(client, keys)
        self.losses = LossRecords(client, keys)
        self._client = client
        self._keys = keys
        self._consumer = consumer
        self._layouts = layouts
        self._takeovers = Takeovers(client, keys, consumer)

    @property
    def client(self) -> Client:
        """The connection to Redis, with its clocks."""
        return self._client

    def node_of(self, partition: int) -> Node:
        """The server that has a partition, as far as it is known."""
        return self._client.node_of(self._keys.stream(partition))

    def distrust(self, partition: int) -> None:
        """Let the next take-over count as one on another server: what was there last may be forgotten."""
        self._takeovers.distrust(partition)

    def moves_of(self, partition: int) -> int:
        """How often a partition has changed its server, as far as it is known."""
        return self._client.moves_of(self._keys.stream(partition))

    async def take_over_all(self, leases: Sequence[Lease]) -> list[Takeover | StreamError]:
        """Claim the pending entries of all consumers in id order, and collect what former owners left.

        The failure of a partition, also `LeaseLost`, comes back in its place.
        """
        return await self._takeovers.run(leases)

    async def take_over(self, lease: Lease) -> Takeover:
        """The same for one partition."""
        (found,) = await self.take_over_all([lease])
        if isinstance(found, StreamError):
            raise found
        return found

    async def seals(self, partition: int) -> list[Seal]:
        """Batches that are sealed and not done, the oldest first."""
        key = self._keys.ready(partition)
        return parse_seals(await self._client.command(lambda pipe: pipe.hgetall(key), key))

    async def deletions(self, partition: int, conversations: Iterable[Conversation]) -> dict[str, EntryId]:
        """The tombstones of some conversations and their users."""
        names = sorted({name for conversation in conversations for name in conversation.tombstones})
        key = self._keys.deleted(partition)
        found = await self._client.command(lambda pipe: pipe.hmget(key, *names), key)
        return {
            name: tombstone_position(key, last) for name, last in zip(names, found, strict=True) if last is not None
        }

    async def restore_tombstone(self, partition: int, name: str, last: EntryId) -> None:
        """Record again a deletion that Redis has forgotten; a deletion that Redis knows is never shortened."""
        keys = [self._keys.stream(partition), self._keys.deleted(partition)]
        await self._client.run(Call("restore", keys, [name, last]))

    async def standing(self, partition: int, seal: Seal, upload: str) -> Standing:
        """What has happened, since its done step, to a batch that this upload stored."""
        keys = [
            *(self._keys.stream(partition), self._keys.epoch(partition)),
            *(self._keys.deleted(partition), self._keys.withdrawn(partition, upload)),
        ]
        call = Call("standing", keys, [GROUP, seal.id, *seal.conversation.tombstones])
        deleted, withdrawn, stream, changed = await self._client.run(call)
        return Standing(bool(deleted), bool(withdrawn), stream.decode(), changed.decode())

    async def chunks(self, partition: int, conversation: Conversation, first: EntryId, last: EntryId) -> list[Chunk]:
        """Chunks of a conversation that the stream still holds between two entries, both included."""
        found: list[Chunk] = []
        keys = [self._keys.stream(partition)]
        pages = self._client.pages(
            lambda start: Call("between", keys, [*conversation, last, start, CHUNKS_PAGE]), first
        )
        async for (entries,) in pages:
            found += [chunk for _, flat in entries if (chunk := chunk_of(flat)) is not None]
        return found

    async def accept(self, pages: Sequence[tuple[Lease, Sequence[EntryId]]]) -> list[set[EntryId] | StreamError]:
        """Make entries pending with this consumer; returns per page the ids that still exist, or the error."""
        calls = [
            Call(
                "accept",
                [*self._keys.fenced(lease.partition), self._keys.epoch(lease.partition)],
                [lease.token, GROUP, self._consumer, ids[-1], *ids],
            )
            for lease, ids in pages
        ]
        replies = await self._client.gather(calls)
        for (lease, ids), reply in zip(pages, replies, strict=True):
            if not isinstance(reply, StreamError):
                self._takeovers.read_to(lease.partition, ids[-1])
        return [reply if isinstance(reply, StreamError) else set(texts(reply)) for reply in replies]

    async def seen(self, partition: int, conversations: Sequence[Conversation]) -> list[bytes]:
        """Identities of the chunks stored last and not deleted since, per conversation."""
        places = [(c, number) for c in conversations for number in self._places(partition, c)]
        calls = [
            Call("seen", [self._keys.seen(number, str(c)), self._keys.deleted(number)], c.tombstones)
            for c, number in places
        ]
        found = dict.fromkeys(conversations, b"")
        for (conversation, _), identities in zip(places, await self._client.run_all(calls), strict=True):
            found[conversation] += identities
        return [found[conversation] for conversation in conversations]

    def _places(self, partition: int, conversation: Conversation) -> list[int]:
        """The partition, and those in which the conversation may have been before a change of their number."""
        layouts = self._layouts() if self._layouts else None
        others = layouts.partitions_of(conversation.conversation_id) if layouts and layouts.is_changing else []
        return list(dict.fromkeys([*others, partition]))

    async def discard(self, lease: Lease, ids: Sequence[EntryId]) -> bool:
        """Remove entries that hold no audio to store; False if the partition must be taken over again first."""
        keys = [*self._keys.fenced(lease.partition), self._keys.epoch(lease.partition)]
        return bool(await self._client.run(Call("discard", keys, [lease.token, GROUP, *ids])))

    async def dead_letter(self, lease: Lease, reasons: Mapping[EntryId, str]) -> int:
        """Move entries to the dead letters; returns how many were still there to be moved."""
        dead = self._keys.dead(lease.partition)
        calls = [
            Call("dead_letter", [*self._keys.fenced(lease.partition), dead], [lease.token, GROUP, entry, reason])
            for entry, reason in reasons.items()
        ]
        return sum(await self._client.run_all(calls))

    async def seal(self, lease: Lease, seals: Sequence[Seal]) -> list[Refused | None]:
        """Fix the composition of batches; None for each that is now sealed, or was already sealed in the same way."""
        number = lease.partition
        keys = [
            *self._keys.fenced(lease.partition),
            *(self._keys.ready(number), self._keys.deleted(number), self._keys.epoch(number)),
        ]
        calls = [
            Call(
                "seal",
                keys,
                [
                    *(lease.token, GROUP, self._consumer, seal.id, seal.to_json()),
                    *seal.conversation.tombstones,
                    *seal.all_ids,
                ],
            )
            for seal in seals
        ]
        replies = map(texts, await self._client.run_all(calls))
        return [None if reply[0] == SEALED else Refused(RewindCause(reply[0]), reply[1:]) for reply in replies]

    async def unseal(self, lease: Lease, seal: Seal) -> None:
        """Remove a seal before its batch goes to the dead letters."""
        keys = [self._keys.lease(lease.partition), self._keys.ready(lease.partition)]
        await self._client.run(Call("unseal", keys, [lease.token, seal.id]))

    async def done(self, step: DoneStep) -> DoneReply:
        """Remove a batch's entries and its seal, and append the event, in one step."""
        partition, seal = step.partition, step.seal
        keys = [
            self._keys.stream(partition),
            self._keys.ready(partition),
            self._keys.done(partition),
            self._keys.seen(partition, str(seal.conversation)),
            self._keys.deleted(partition),
            self._keys.withdrawn(partition, step.upload),
        ]
        flat_event = [part for field in step.event.to_fields().items() for part in field]
        args: list[str | bytes | int] = [GROUP, seal.id, seal.to_json(), *seal.conversation.tombstones]
        presumed = self.node_of(partition).presumed_id  # before the request: if that fails, it is another one
        args += [step.identities, max(step.ids, key=entry_order), HIDDEN if step.server == presumed else step.server]
        args += [MAX_BYTES, int(SEEN_TTL * 1000), DONE_LENGTH]
        args += [len(flat_event), *flat_event, *step.ids]
        reply: bytes = await self._client.run(Call("done", keys, args))
        outcome, _, server = reply.decode().partition(" ")
        return DoneReply(DoneOutcome(outcome), presumed if server == HIDDEN else server)

    async def abandon(self, orphan: Orphan, others: Sequence[str] = ()) -> tuple[OrphanFate, str]:
        """Give up an object whose seal is gone; after the fate "uncounted" no done step can count it.

        If it is counted, also returns the object that the event names: it has the same chunks. Objects in `others` are
        known to be of other uploads.
        """
        number, seal, stored = orphan.partition, orphan.seal, orphan.stored
        keys = [self._keys.stream(number), self._keys.done(number), self._keys.withdrawn(number, stored.upload)]
        chunks = [seal.conversation_id, stored.metadata.chunks_digest or ""]
        ttl = int(WITHDRAWN_TTL * 1000)
        args: list[str | int] = [stored.name, ttl, *chunks, len(others), *others, *seal.entries]
        fate, told = texts(await self._client.run(Call("abandon", keys, args)))
        return OrphanFate(fate), told

    async def mark_suspect(self, lease: Lease, conversation: Conversation) -> int:
        """Mark a conversation as suspect; returns how many owners in a row have tried it, this one included."""
        return int(await self._client.run(self._suspect(lease, conversation, 1)))

    async def clear_suspect(self, lease: Lease, conversation: Conversation) -> None:
        """Remove the mark: the conversation did not kill this worker."""
        await self._client.run(self._suspect(lease, conversation, 0))

    async def backlog(self, partitions: Iterable[int]) -> Backlog:
        """Entries and bytes of the streams, which hold exactly the audio not stored yet, and of the dead letters."""
        numbers = list(partitions)
        calls = [
            Call("sizes", [key for number in some for key in (self._keys.stream(number), self._keys.dead(number))], [])
            for some in self._client.together(numbers, len(numbers) or 1)
        ]
        sizes = [size for reply in await self._client.run_all(calls) for size in reply]
        return Backlog(*(dict(zip(numbers, sizes[fact::4], strict=True)) for fact in range(4)))

    def _suspect(self, lease: Lease, conversation: Conversation, begin: int) -> Call:
        keys = [self._keys.lease(lease.partition), self._keys.trials(lease.partition)]
        return Call("suspect", keys, [lease.token, str(conversation), begin])
