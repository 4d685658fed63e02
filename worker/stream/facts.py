"""What entries say of their audio, read without the audio: for people who look, never for the worker."""

from __future__ import annotations

import re
from dataclasses import dataclass

from codec.entry import BYTES_PER_SAMPLE, DEFAULT_SAMPLE_RATE, SAMPLE_RATES
from worker.batch import Conversation, EntryId
from worker.stream.client import Call, Client
from worker.stream.keys import Keys

PAGE = 25
"""Entries per script call: 25 chunks of 160 kB cost Redis a few milliseconds."""

_SEQ = re.compile(rb"[0-9]{1,15}")
_SECONDS = re.compile(rb"[0-9]{1,12}(\.[0-9]{1,30})?")


@dataclass(frozen=True, slots=True)
class ChunkFacts:
    """An entry's own words, untrusted: None where it says nothing, or nothing readable.

    `start` in Unix seconds; `samples` at `sample_rate`, in Hz.
    """

    seq: int | None
    start: float | None
    samples: int | None
    sample_rate: int

    @classmethod
    def of(cls, seq: bytes | None, timestamp: bytes | None, rate: bytes | None, pcm_bytes: int | None) -> ChunkFacts:
        """Read the fields of an entry, of its PCM only the length."""
        known_rates = {str(known).encode(): known for known in SAMPLE_RATES}
        return cls(
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
    """A chunk that is still in its stream."""

    entry: EntryId
    facts: ChunkFacts


async def held_chunks(client: Client, keys: Keys, partition: int, conversation: Conversation) -> list[HeldChunk]:
    """All chunks of a conversation that its partition's stream still holds, in its order. Raises `StreamError`."""
    stream = [keys.stream(partition)]
    pages = client.pages(lambda start: Call("scan", stream, [*conversation, start, PAGE]))
    return [HeldChunk(entry.decode(), ChunkFacts.of(*facts)) async for (chunks,) in pages for entry, *facts in chunks]


async def deleted_ms(client: Client, keys: Keys, partition: int, conversation: Conversation) -> int | None:
    """Redis' time in ms at which the conversation or its user was last deleted; None if never. Raises `StreamError`."""
    times = await client.command(lambda redis: redis.hmget(keys.deleted(partition), list(conversation.tombstones)))
    return max((int(time) for time in times if time is not None), default=None)


@dataclass(frozen=True, slots=True)
class Announced:
    """What a done event says: the object, and the id of its first chunk."""

    object: str
    first_entry: str


async def announcements(
    client: Client, keys: Keys, partition: int, conversation: Conversation, *, since_ms: int
) -> list[Announced]:
    """A conversation's done events after `since_ms`, Redis' time. Raises `StreamError`."""
    events = await client.command(lambda redis: redis.xrange(keys.done(partition), f"({since_ms}-0"))
    wanted = tuple(name.encode() for name in conversation)
    said = [facts for _, facts in events if (facts.get(b"uid"), facts.get(b"conversation_id")) == wanted]
    texts = [[facts.get(name, b"").decode(errors="replace") for name in (b"object", b"first_entry")] for facts in said]
    return [Announced(*each) for each in texts]
