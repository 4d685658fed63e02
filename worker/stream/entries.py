"""The path of entries through Redis: read → accept → seal → done, or to the dead letters."""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

from redis.asyncio.client import Pipeline

from codec.entry import MAX_CHUNK_BYTES, Chunk
from worker.errors import StreamError
from worker.model.causes import ONE_PARTITION, DoneOutcome, OrphanFate, RewindCause
from worker.model.done_event import DoneEvent
from worker.model.ids import START, Conversation, EntryId, StreamIdentity, entry_order
from worker.model.layouts import Layouts
from worker.model.recent_chunks import MAX_BYTES
from worker.model.seal import Seal
from worker.model.stored_blob import Orphan
from worker.stream.client import Client
from worker.stream.keys import GROUP, Keys
from worker.stream.leases import Lease
from worker.stream.replies import Entry, chunk_of, entries_by_stream, entry_of, parse_seal, tombstone_position
from worker.stream.scripting import Call, texts
from worker.stream.servers.node import HIDDEN, Node
from worker.stream.servers.reply_limit import at_most

CLAIM_PAGE = 500
"""Pending entries taken over per script call: about a millisecond of Redis' time."""

SEEN_TTL = 3600.0
"""Seconds for which a conversation's stored chunks are remembered, to recognise late duplicates."""

DONE_LENGTH = 10_000
"""Events kept per partition for backends that read late."""

LOST_TTL = 24 * 3600.0
"""Seconds for which lost entries are remembered after the last one, so that `status` tells of them the next morning."""

MAX_LOST = 10_000
"""Lost entries that a partition remembers: some 600 kB of Redis' memory."""

LETTERS_LOOKED_AT = 100
"""The newest dead letters, among which a chunk that was in hand just now may be."""

WITHDRAWN_TTL = 7 * 24 * 3600.0
"""Seconds for which no done step may count an object that was given up: longer than any owner may be paused."""

CHUNKS_PAGE = 10
"""Entries read per script call where whole chunks pass through Lua: 1.6 MB of 5-second chunks."""

MAX_ENTRY_BYTES = MAX_CHUNK_BYTES + 64 * 1024
"""Bytes of field names and values up to which an entry is read; a chunk never has more."""

MAX_PAGES_BYTES = 64 * 1024 * 1024
"""Bytes that one round trip may return: over twice the number that its pages aim at."""

PAGES_TOGETHER = 8
"""Pages that one command reads at most, each from another stream. A worker polls all its streams all the time, and
commands are its largest cost. But the reply to one command must arrive within the connection's timeout."""


SEALED = "sealed"
"""The reply of seal.lua when the seal is set."""


_Page: TypeAlias = list[Entry] | StreamError
"""The entries of a read, or its error."""


@dataclass(frozen=True, slots=True, eq=False)
class ReadRequest:
    """At most `count` entries after the id `cursor`: about so many pages, see `worker.consuming.read_size`."""

    partition: int
    cursor: EntryId
    count: int
    pages: float = 1.0


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
class LossQuestion:
    """What became of some chunks of one conversation, which a worker had in hand: entry → identity.

    `server` and `stream` are as in `Holding`. `token` tells this inquiry from all others: only the first one that finds
    an entry lost gets it in its answers.
    """

    token: str
    partition: int
    server: str
    stream: str
    conversation: Conversation
    chunks: Mapping[EntryId, bytes]


@dataclass(frozen=True, slots=True)
class Backlog:
    """Per partition: entries in the stream, dead letters, and the bytes of Redis' memory that each take, estimated."""

    entries: dict[int, int]
    bytes: dict[int, int]
    dead: dict[int, int]
    dead_bytes: dict[int, int]


DISTRUSTED = "distrusted"
"""In the place of the id of a server: no server has it."""


class _Known(NamedTuple):
    """What the owner knows of a stream and Redis may lose: its id, the last entry that was read, the server."""

    stream: str = ""
    read_to: EntryId = START
    server: str = ""


class Entries:
    """Entries of all partitions under one prefix. Every method raises `StreamError`, the fenced ones `LeaseLost`.

    While the number of partitions is being changed, `layouts` tells where else a conversation may have been.
    """

    def __init__(self, client: Client, keys: Keys, consumer: str, layouts: Callable[[], Layouts] | None = None) -> None:
        self._client = client
        self._keys = keys
        self._consumer = consumer
        self._layouts = layouts
        self._known: dict[int, _Known] = {}

    @property
    def client(self) -> Client:
        """The connection to Redis, with its clocks."""
        return self._client

    def node_of(self, partition: int) -> Node:
        """The server that has a partition, as far as it is known."""
        return self._client.node_of(self._keys.stream(partition))

    def distrust(self, partition: int) -> None:
        """Let the next take-over count as one on another server: what was there last may be forgotten."""
        if partition in self._known:
            self._known[partition] = self._known[partition]._replace(server=DISTRUSTED)

    def moves_of(self, partition: int) -> int:
        """How often a partition has changed its server, as far as it is known."""
        return self._client.moves_of(self._keys.stream(partition))

    async def take_over(self, lease: Lease) -> Takeover:
        """Claim the pending entries of all consumers in id order, and collect what former owners left."""
        vanished: list[EntryId] = []
        survivors: set[EntryId] = set()
        deaths = 0 if lease.clean else 1
        async for gone, survived in self._client.pages(
            lambda start: self._fenced("claim", lease, self._consumer, deaths, start, CLAIM_PAGE)
        ):
            vanished += texts(gone)
            survivors.update(texts(survived))
        await self._client.run(self._fenced("sweep", lease, self._consumer))
        *facts, forgot = texts(await self._client.run(self._identify(lease)))
        identity = StreamIdentity(*facts)
        self._known[lease.partition] = _Known(identity.stream, identity.read_to, identity.server)
        seals, tombstones = await self.seals(lease.partition), await self.tombstones(lease.partition)
        return Takeover(seals, tombstones, vanished, survivors, identity, forgot=forgot == "1")

    async def seals(self, partition: int) -> list[Seal]:
        """Batches that are sealed and not done, the oldest first."""
        key = self._keys.ready(partition)
        sealed = await self._client.command(lambda pipe: pipe.hgetall(key), key)
        seals = [parse_seal(field, value) for field, value in sealed.items()]
        return sorted(seals, key=lambda seal: entry_order(seal.id))

    async def tombstones(self, partition: int) -> dict[str, EntryId]:
        """Deleted users and conversations → the last entry of the stream at the deletion."""
        key = self._keys.deleted(partition)
        found = await self._client.command(lambda pipe: pipe.hgetall(key), key)
        return {field.decode(errors="replace"): tombstone_position(key, last) for field, last in found.items()}

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

    async def read(self, requests: Sequence[ReadRequest]) -> list[_Page]:
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

    async def _read_together(self, groups: Sequence[Sequence[ReadRequest]]) -> dict[ReadRequest, _Page]:
        """One command for each group, all in one round trip."""

        def queue(pipe: Pipeline) -> None:
            pipe.response_callbacks = {}  # the library's would hide repeated fields
            for group in groups:
                pipe.xread({self._keys.stream(r.partition): r.cursor for r in group}, count=group[0].count)

        pages: dict[ReadRequest, _Page] = {}
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

    async def read_next(self, request: ReadRequest) -> _Page:
        """The next entry after the request's cursor, if any; costs Redis more than `read`, but is safe for any size."""
        call = Call("next", [self._keys.stream(request.partition)], [request.cursor, MAX_ENTRY_BYTES])
        (found,) = await self._client.gather([call])
        if isinstance(found, StreamError) or not found:
            return found
        entry, size, flat = found
        return [entry_of(entry, flat) if flat else Entry(entry.decode(), {}, size)]

    async def accept(self, pages: Sequence[tuple[Lease, Sequence[EntryId]]]) -> list[set[EntryId] | StreamError]:
        """Make entries pending with this consumer; returns per page the ids that still exist, or the error."""
        calls = [
            Call(
                "accept",
                [*self._fenced_keys(lease), self._keys.epoch(lease.partition)],
                [lease.token, GROUP, self._consumer, ids[-1], *ids],
            )
            for lease, ids in pages
        ]
        replies = await self._client.gather(calls)
        for (lease, ids), reply in zip(pages, replies, strict=True):
            if not isinstance(reply, StreamError):
                known = self._known[lease.partition]
                self._known[lease.partition] = known._replace(read_to=max(known.read_to, ids[-1], key=entry_order))
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
        keys = [*self._fenced_keys(lease), self._keys.epoch(lease.partition)]
        return bool(await self._client.run(Call("discard", keys, [lease.token, GROUP, *ids])))

    async def dead_letter(self, lease: Lease, reasons: Mapping[EntryId, str]) -> int:
        """Move entries to the dead letters; returns how many were still there to be moved."""
        dead = self._keys.dead(lease.partition)
        calls = [
            Call("dead_letter", [*self._fenced_keys(lease), dead], [lease.token, GROUP, entry, reason])
            for entry, reason in reasons.items()
        ]
        return sum(await self._client.run_all(calls))

    async def seal(self, lease: Lease, seals: Sequence[Seal]) -> list[Refused | None]:
        """Fix the composition of batches; None for each that is now sealed, or was already sealed in the same way."""
        number = lease.partition
        keys = [
            *self._fenced_keys(lease),
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

    async def count_unread_losses(self, leases: Sequence[Lease]) -> list[int | StreamError]:
        """How many more entries have left each stream since the last call, before an owner had read them.

        What Redis refuses, and a lost lease, are values.
        """
        calls = [
            Call(
                "account",
                [*self._fenced_keys(lease), self._keys.epoch(lease.partition), self._keys.lost(lease.partition)],
                [lease.token, int(LOST_TTL * 1000)],
            )
            for lease in leases
        ]
        return await self._client.gather(calls)

    async def lost(self, questions: Sequence[LossQuestion]) -> list[list[EntryId] | StreamError | None]:
        """Ask for the entries that are lost, in one round trip; the entries of an answer are this worker's to count.

        Each entry is in the answers to one token only, and in all of them if the question is asked again. An answer is
        None if neither the server nor the stream is another one.
        """
        replies = await self._client.gather([self._lost(question) for question in questions])
        return [
            reply if isinstance(reply, StreamError) else None if reply == [b"same"] else texts(reply)[1:]
            for reply in replies
        ]

    async def record_lost(self, partition: int, entries: Sequence[EntryId]) -> None:
        """Record entries that are counted as lost, so that no inquiry counts them, too."""
        args: list[str | int] = ["counted", int(LOST_TTL * 1000), MAX_LOST, *entries]
        await self._client.run(Call("record_lost", [self._keys.lost(partition)], args))

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

    def _fenced_keys(self, lease: Lease) -> list[str]:
        return [self._keys.lease(lease.partition), self._keys.stream(lease.partition)]

    def _fenced(self, script: str, lease: Lease, *args: str | int) -> Call:
        return Call(script, self._fenced_keys(lease), [lease.token, GROUP, *args])

    def _identify(self, lease: Lease) -> Call:
        keys = [*self._fenced_keys(lease), self._keys.epoch(lease.partition)]
        known = self._known.get(lease.partition, _Known())
        presumed = self.node_of(lease.partition).presumed_id
        args = [lease.token, GROUP, secrets.token_hex(16), *known[:2], presumed, known.server]
        return Call("identify", keys, args)

    def _lost(self, question: LossQuestion) -> Call:
        number, keys = question.partition, self._keys
        parts = [keys.stream(number), keys.seen(number, str(question.conversation))]
        args: list[str | bytes | int] = [GROUP, question.server, question.stream, question.token, int(LOST_TTL * 1000)]
        args += [MAX_LOST, LETTERS_LOOKED_AT, *question.conversation.tombstones]
        for entry, identity in question.chunks.items():
            args += [entry, identity]
        return Call("lost", [*parts, keys.deleted(number), keys.dead(number), keys.lost(number)], args)

    def _suspect(self, lease: Lease, conversation: Conversation, begin: int) -> Call:
        keys = [self._keys.lease(lease.partition), self._keys.trials(lease.partition)]
        return Call("suspect", keys, [lease.token, str(conversation), begin])


def _alike(requests: Sequence[ReadRequest]) -> list[list[ReadRequest]]:
    """Groups of requests that one command can make: one count for all its streams, and each stream once."""
    alike: dict[tuple[int, float, int], list[ReadRequest]] = {}
    times: Counter[int] = Counter()
    for request in requests:
        alike.setdefault((request.count, request.pages, times[request.partition]), []).append(request)
        times[request.partition] += 1
    return list(alike.values())
