"""The way of entries through Redis: read → accept → seal → done, or to the dead letters."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

from redis.asyncio.client import Pipeline

from codec.entry import MAX_CHUNK_BYTES
from worker.batch import Conversation, EntryId, entry_order
from worker.errors import StreamError
from worker.history import MAX_BYTES
from worker.seal import Seal
from worker.stream.bounded import at_most
from worker.stream.client import Call, Client, stream_error, texts
from worker.stream.keys import GROUP, Keys
from worker.stream.leases import Lease

CLAIM_PAGE = 500
"""Pending entries taken over per script call: about a millisecond of Redis' time."""

SEEN_TTL = 3600.0
"""Seconds for which a conversation's stored chunks are remembered, to recognise late twins."""

DONE_LENGTH = 10_000
"""Events kept per partition for backends that come late."""

START = "0-0"
"""Before the first entry."""

MAX_ENTRY_BYTES = MAX_CHUNK_BYTES + 64 * 1024
"""Field names and values of an entry that is read; no chunk has more."""

MAX_PAGES_BYTES = 64 * 1024 * 1024
"""What one round trip may bring, over twice of what its pages aim at."""

STREAMS_TOGETHER = 8
"""Streams that one command reads at most. A worker asks all of its streams all the time, and commands are what costs it
most; but what one command brings must come within the connection's timeout."""


class Entry(NamedTuple):
    """A stream entry as it was pushed; of one that is too large to be read only its bytes are known, as `oversize`."""

    id: EntryId
    fields: dict[bytes, bytes]
    oversize: int = 0


_Page: TypeAlias = list[Entry] | StreamError
"""What a read gives, or what went wrong there."""


@dataclass(frozen=True, slots=True)
class ReadRequest:
    """At most `count` entries after the id `cursor`."""

    partition: int
    cursor: EntryId
    count: int


@dataclass(frozen=True, slots=True)
class Takeover:
    """What a new owner finds.

    Seals to finish, tombstones, entries that vanished while pending, and those that an owner which died had in hand;
    `changed_ms` is the Redis time before which Redis may have forgotten what became of an entry, 0 for never.
    """

    seals: list[Seal]
    tombstones: dict[str, int]
    vanished: list[EntryId]
    survivors: set[EntryId]
    changed_ms: int = 0


@dataclass(frozen=True, slots=True)
class Refused:
    """Why a seal was not set; `vanished` are the entries that are gone."""

    cause: str
    vanished: list[EntryId]


@dataclass(frozen=True, slots=True)
class Backlog:
    """Per partition: entries in the stream, and dead letters, and the bytes of Redis' memory they take, estimated."""

    entries: dict[int, int]
    bytes: dict[int, int]
    dead: dict[int, int]
    dead_bytes: dict[int, int]


class Entries:
    """Entries of all partitions under one prefix. Every method raises `StreamError`, the fenced ones `LeaseLost`."""

    def __init__(self, client: Client, keys: Keys, consumer: str) -> None:
        self._client = client
        self._keys = keys
        self._consumer = consumer

    async def take_over(self, lease: Lease) -> Takeover:
        """Claim everything pending in id order, whatever consumer had it, and collect what former owners left."""
        vanished: list[EntryId] = []
        survivors: set[EntryId] = set()
        deaths = 0 if lease.clean else 1
        async for gone, survived in self._client.pages(
            lambda start: self._fenced("claim", lease, self._consumer, deaths, start, CLAIM_PAGE)
        ):
            vanished += texts(gone)
            survivors.update(texts(survived))
        await self._client.run(self._fenced("sweep", lease, self._consumer))
        changed_ms = int(await self._client.run(self._changed(lease)))
        seals, tombstones = await self.seals(lease.partition), await self.tombstones(lease.partition)
        return Takeover(seals, tombstones, vanished, survivors, changed_ms)

    async def seals(self, partition: int) -> list[Seal]:
        """Batches that are sealed and not done, the oldest first."""
        sealed = await self._client.command(lambda redis: redis.hgetall(self._keys.ready(partition)))
        seals = [_seal(field, value) for field, value in sealed.items()]
        return sorted(seals, key=lambda seal: entry_order(seal.id))

    async def tombstones(self, partition: int) -> dict[str, int]:
        """Deleted users and conversations → Redis time in ms of the deletion."""
        found = await self._client.command(lambda redis: redis.hgetall(self._keys.deleted(partition)))
        return {field.decode(): int(at) for field, at in found.items()}

    async def deletions(self, partition: int, conversations: Iterable[Conversation]) -> dict[str, int]:
        """The same for some conversations and their users."""
        names = sorted({name for conversation in conversations for name in conversation.tombstones})
        found = await self._client.command(lambda redis: redis.hmget(self._keys.deleted(partition), *names))
        return {name: int(at) for name, at in zip(names, found, strict=True) if at is not None}

    async def is_deleted(self, partition: int, conversation: Conversation, pushed_ms: int) -> bool:
        """Whether audio that was pushed at `pushed_ms`, Redis' time, has been deleted on demand since."""
        found = await self._client.command(
            lambda redis: redis.hmget(self._keys.deleted(partition), *conversation.tombstones)
        )
        return any(at is not None and pushed_ms <= int(at) for at in found)

    async def read(self, requests: Sequence[ReadRequest]) -> list[_Page]:
        """Entries after each request's cursor, or what went wrong there; changes nothing.

        Raises a `StreamError` of cause "large" if together they have over MAX_PAGES_BYTES.
        """
        with at_most(MAX_PAGES_BYTES):
            alike = [some for same in _alike(requests) for some in self._client.together(same, STREAMS_TOGETHER)]
            pages = await self._read_together(alike)
            # One stream that can't be read has spoiled all that were asked with it.
            spoiled = [[request] for request in requests if isinstance(pages[request], StreamError)]
            if spoiled:
                pages |= await self._read_together(spoiled)
        return [pages[request] for request in requests]

    async def _read_together(self, groups: Sequence[Sequence[ReadRequest]]) -> dict[ReadRequest, _Page]:
        """One command for each group, all in one round trip."""

        def queue(pipe: Pipeline) -> None:
            for group in groups:
                pipe.xread({self._keys.stream(r.partition): r.cursor for r in group}, count=group[0].count)

        pages: dict[ReadRequest, _Page] = {}
        for group, reply in zip(groups, await self._client.pipeline(queue), strict=True):
            found = _by_stream(reply)
            for request in group:
                key = self._keys.stream(request.partition)
                pages[request] = found if isinstance(found, StreamError) else found.get(key, [])
        return pages

    async def read_next(self, request: ReadRequest) -> _Page:
        """The one entry after the request's cursor, if any: costs Redis more than `read`, and is safe for any size."""
        call = Call("next", [self._keys.stream(request.partition)], [request.cursor, MAX_ENTRY_BYTES])
        (found,) = await self._client.gather([call])
        if isinstance(found, StreamError) or not found:
            return found
        entry, size, flat = found
        fields = dict(zip(flat[::2], flat[1::2], strict=True))
        return [Entry(entry.decode(), fields, 0 if fields else size)]

    async def accept(self, pages: Sequence[tuple[Lease, Sequence[EntryId]]]) -> list[set[EntryId] | StreamError]:
        """Make entries pending with us; per page the ids that still exist, or what went wrong there."""
        calls = [self._fenced("accept", lease, self._consumer, ids[-1], *ids) for lease, ids in pages]
        replies = await self._client.gather(calls)
        return [reply if isinstance(reply, StreamError) else set(texts(reply)) for reply in replies]

    async def seen(self, partition: int, conversations: Sequence[Conversation]) -> list[bytes]:
        """Identities of the chunks stored last and not deleted since, per conversation."""
        deleted = self._keys.deleted(partition)
        calls = [
            Call(
                "seen",
                [self._keys.seen(partition, str(conversation)), deleted],
                [*conversation.tombstones, int(SEEN_TTL * 1000)],
            )
            for conversation in conversations
        ]
        found: list[bytes] = await self._client.run_all(calls)
        return found

    async def discard(self, lease: Lease, ids: Sequence[EntryId]) -> None:
        """Remove entries that hold no audio to store."""
        await self._client.run(self._fenced("discard", lease, *ids))

    async def bury(self, lease: Lease, reasons: Mapping[EntryId, str]) -> int:
        """Move entries to the dead letters; returns how many were still there to be moved."""
        dead = self._keys.dead(lease.partition)
        calls = [
            Call("bury", [*self._fenced_keys(lease), dead], [lease.token, GROUP, entry, reason])
            for entry, reason in reasons.items()
        ]
        return sum(await self._client.run_all(calls))

    async def seal(self, lease: Lease, seals: Sequence[Seal]) -> list[Refused | None]:
        """Fix the composition of batches; None for each that is sealed, also when it was already, just so."""
        keys = [*self._fenced_keys(lease), self._keys.ready(lease.partition), self._keys.deleted(lease.partition)]
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
        return [None if reply[0] == "sealed" else Refused(reply[0], reply[1:]) for reply in replies]

    async def unseal(self, lease: Lease, seal: Seal) -> None:
        """Take a seal back before its batch goes to the dead letters."""
        keys = [self._keys.lease(lease.partition), self._keys.ready(lease.partition)]
        await self._client.run(Call("unseal", keys, [lease.token, seal.id]))

    async def done(
        self, partition: int, seal: Seal, ids: Sequence[EntryId], identities: bytes, event: Mapping[str, str]
    ) -> str:
        """Remove `ids` and the seal, and append the event, in one step.

        Returns "done", "gone" if somebody else finished this seal, or "deleted" if the stored object must go.
        """
        keys = [
            self._keys.stream(partition),
            self._keys.ready(partition),
            self._keys.done(partition),
            self._keys.seen(partition, str(seal.conversation)),
            self._keys.deleted(partition),
        ]
        flat_event = [part for field in event.items() for part in field]
        args: list[str | bytes | int] = [GROUP, seal.id, seal.to_json(), *seal.conversation.tombstones, identities]
        args += [MAX_BYTES, int(SEEN_TTL * 1000), DONE_LENGTH, len(flat_event), *flat_event, *ids]
        outcome: bytes = await self._client.run(Call("done", keys, args))
        return outcome.decode()

    async def begin_trial(self, lease: Lease, conversation: Conversation) -> int:
        """Mark a conversation as under trial; returns how often it was tried, this time included."""
        return int(await self._client.run(self._trial(lease, conversation, 1)))

    async def end_trial(self, lease: Lease, conversation: Conversation) -> None:
        """The conversation did not kill us."""
        await self._client.run(self._trial(lease, conversation, 0))

    async def backlog(self, partitions: Iterable[int]) -> Backlog:
        """Entries and bytes per stream: exactly what is not stored yet, and what never will be."""
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

    def _changed(self, lease: Lease) -> Call:
        keys = [self._keys.lease(lease.partition), self._keys.epoch(lease.partition)]
        return Call("changed", keys, [lease.token])

    def _trial(self, lease: Lease, conversation: Conversation, begin: int) -> Call:
        keys = [self._keys.lease(lease.partition), self._keys.trials(lease.partition)]
        return Call("trial", keys, [lease.token, str(conversation), begin])


def _seal(field: bytes, value: bytes) -> Seal:
    try:
        seal = Seal.from_json(value)
        for entry in (seal.id, *seal.all_ids):  # there are some, and all of them are ids
            entry_order(entry)
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        # Perhaps a newer version wrote it: leave the partition to that, and do not stop the others.
        raise StreamError(f"the seal {field!r} can't be read: {error}", cause="refused") from error
    return seal


def _alike(requests: Sequence[ReadRequest]) -> list[list[ReadRequest]]:
    """Groups of what one command can ask for: one count for all of its streams, and each of them once."""
    alike: dict[tuple[int, int], list[ReadRequest]] = {}
    times: Counter[int] = Counter()
    for request in requests:
        alike.setdefault((request.count, times[request.partition]), []).append(request)
        times[request.partition] += 1
    return list(alike.values())


def _by_stream(reply: Any) -> dict[str, list[Entry]] | StreamError:
    """Streams without new entries are not in it."""
    if isinstance(reply, Exception):
        return stream_error(reply)
    return {key.decode(): [Entry(entry.decode(), fields) for entry, fields in entries] for key, entries in reply or []}
