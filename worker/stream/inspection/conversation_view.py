"""Facts that entries state about their audio, for people who inspect a conversation; the worker never uses them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from codec.entry import BYTES_PER_SAMPLE, DEFAULT_SAMPLE_RATE, SAMPLE_RATES, Chunk, parse
from codec.errors import BadEntry
from codec.sessions import session_name
from worker.model.done_event import DoneEvent
from worker.model.ids import Conversation, EntryId, entry_ms, entry_order
from worker.stream.client import Client
from worker.stream.keys import Keys
from worker.stream.pages import MAX_ENTRY_BYTES
from worker.stream.replies import tombstone_position
from worker.stream.scripting import Call

PAGE = 25
"""Entries per script call: 25 chunks of 160 kB cost Redis a few milliseconds."""

PAGE_BYTES = MAX_ENTRY_BYTES
"""Bytes of entries per script call: always enough for one entry, so every call makes progress."""

_SEQ = re.compile(rb"[0-9]{1,15}")
_SECONDS = re.compile(rb"[0-9]{1,12}(\.[0-9]{1,30})?")


@dataclass(frozen=True, slots=True)
class ChunkFacts:
    """An entry's own claims, untrusted; None where a claim is missing or unreadable.

    `session` is in its text form, "" without one. `start` is in Unix seconds, `samples` are at `sample_rate`, in Hz.
    """

    session: str
    seq: int | None
    start: float | None
    samples: int | None
    sample_rate: int

    @classmethod
    def of(
        cls,
        session: bytes | None,
        seq: bytes | None,
        timestamp: bytes | None,
        rate: bytes | None,
        pcm_bytes: int | None,
    ) -> ChunkFacts:
        """Read the fields of an entry; of its PCM only the length is needed."""
        known_rates = {str(known).encode(): known for known in SAMPLE_RATES}
        return cls(
            session=session_name(session),
            seq=int(seq) if seq is not None and _SEQ.fullmatch(seq) else None,
            start=float(timestamp) if timestamp is not None and _SECONDS.fullmatch(timestamp) else None,
            samples=None if pcm_bytes is None else pcm_bytes // BYTES_PER_SAMPLE,
            sample_rate=known_rates.get(rate or b"", DEFAULT_SAMPLE_RATE),
        )

    @property
    def end(self) -> float | None:
        """Where the audio ends, in Unix seconds."""
        return None if self.start is None or self.samples is None else self.start + self.samples / self.sample_rate


@dataclass(frozen=True, slots=True)
class HeldChunk:
    """A chunk that is still in its stream; `identity` is None if workers will not take it."""

    entry: EntryId
    facts: ChunkFacts
    identity: bytes | None = None


@dataclass(frozen=True, slots=True)
class ConversationView:
    """What Redis holds of one conversation; `partition` is that of its stream. Every method raises `StreamError`."""

    client: Client
    keys: Keys
    partition: int
    conversation: Conversation

    async def held_chunks(self) -> list[HeldChunk]:
        """All chunks that the partition's stream still holds, in its order.

        At any time, memory holds no more of their audio than the largest chunk has.
        """
        stream = [self.keys.stream(self.partition)]
        pages = self.client.pages(
            lambda start: Call("between", stream, [*self.conversation, "+", start, PAGE, PAGE_BYTES])
        )
        return [
            _held(entry.decode(), dict(zip(flat[::2], flat[1::2], strict=True)))
            async for (page,) in pages
            for entry, flat in page
        ]

    async def deletion(self) -> EntryId | None:
        """The last entry that deletions of the conversation or of its user cover; None if there was none."""
        key, names = self.keys.deleted(self.partition), list(self.conversation.tombstones)
        found = await self.client.command(lambda pipe: pipe.hmget(key, names), key)
        positions = [tombstone_position(key, position) for position in found if position is not None]
        return max(positions, key=entry_order, default=None)

    async def announcements(self, after: EntryId) -> list[DoneEvent]:
        """The done events about audio after the entry `after`."""
        key = self.keys.done(self.partition)
        found = await self.client.command(lambda pipe: pipe.xrange(key), key)
        events = [(entry.decode(), DoneEvent.from_fields(told)) for entry, told in found]
        return [
            event
            for entry, event in events
            if (event.uid, event.conversation_id) == self.conversation
            and _is_after(entry, event.first_entry or "", after)
        ]


def _held(entry: EntryId, fields: Mapping[bytes, bytes]) -> HeldChunk:
    session, seq, timestamp, rate = map(fields.get, (b"session", b"seq", b"timestamp", b"sample_rate"))
    pcm = fields.get(b"pcm")  # missing if the entry is larger than workers take
    facts = ChunkFacts.of(session, seq, timestamp, rate, None if pcm is None else len(pcm))
    try:
        content = parse(fields)
    except BadEntry:
        return HeldChunk(entry, facts)
    return HeldChunk(entry, facts, content.identity() if isinstance(content, Chunk) else None)


def _is_after(event: EntryId, first_entry: str, position: EntryId) -> bool:
    try:
        return entry_order(first_entry) > entry_order(position)
    except ValueError:  # an event without an entry: only its own time can be compared
        return entry_ms(event) >= entry_ms(position)
