"""The account when all is quiet: every chunk stored once, in order, every object told once, nothing left in Redis."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import redis.asyncio

from codec.blob import decode
from codec.entry import Chunk, parse
from codec.metadata import BlobMetadata
from codec.names import parse_name
from codec.seqs import from_text
from tests.support.gcs.control import GcsClient
from tests.support.secret import TEST_SECRET
from tests.tools.chaos.talks import RATE, SAMPLES, Talk
from tests.tools.simulation.audio import numbers_in
from tests.tools.simulation.redis_model import as_bytes
from worker.model.ids import entry_order
from worker.stream.keys import GROUP, Keys


@dataclass(frozen=True, slots=True)
class Blob:
    name: str
    data: bytes
    metadata: Mapping[str, str]


def as_read(chunk: Chunk) -> Chunk:
    """A chunk as a worker reads it: the timestamp of an entry is a rounded text."""
    content = parse({name.encode(): as_bytes(value) for name, value in chunk.fields().items()})
    assert isinstance(content, Chunk)
    return content


async def left(client: redis.asyncio.Redis, keys: Keys, partitions: int) -> int:
    """Entries and seals that are still in Redis, and pending ones that are no entries any more.

    A pending entry counts once: a take-over that reads a backlog would make it look twice as long.
    """
    async with client.pipeline(transaction=False) as pipe:
        for partition in range(partitions):
            pipe.xlen(keys.stream(partition))
            pipe.hlen(keys.ready(partition))
            pipe.xpending(keys.stream(partition), GROUP)
        replies = await pipe.execute(raise_on_error=False)
    total = 0
    for entries, seals, pending in zip(replies[::3], replies[1::3], replies[2::3], strict=True):
        total += max(entries, pending["pending"] if isinstance(pending, dict) else 0) + seals  # there may be no group
    return total


async def findings(
    talks: Sequence[Talk], client: redis.asyncio.Redis, keys: Keys, partitions: int, bucket: GcsClient
) -> list[str]:
    """What is wrong, one sentence each."""
    objects = await bucket.objects()
    blobs = [Blob(name, await bucket.data(name), found.get("metadata", {})) for name, found in objects.items()]
    wrong = [sentence for talk in talks for sentence in _audio(talk, blobs)]
    told = await _values(client, keys.done, partitions, b"object")
    wrong += _events(Counter(told), set(objects))
    if reasons := Counter(await _values(client, keys.dead, partitions, b"reason")):
        wrong.append(f"dead letters: {dict(reasons)}")
    if remains := await left(client, keys, partitions):
        wrong.append(f"{remains} entries, pending entries and seals are left in Redis")
    return wrong


def _audio(talk: Talk, blobs: Sequence[Blob]) -> Iterator[str]:
    folder = f"chunks/{talk.uid}/{talk.conversation_id}/"
    own = sorted((blob for blob in blobs if blob.name.startswith(folder)), key=lambda blob: parse_name(blob.name).start)
    by_entry = sorted(own, key=lambda blob: entry_order(blob.metadata["first-entry"]))
    if own != by_entry:
        yield f"{talk.conversation_id}: the blobs' names are not in the order of their entries"
    try:
        stored = [number for blob in own for number in numbers_of(blob)]
    except ValueError as error:
        yield f"{talk.conversation_id}: {error}"
        return
    if stored != list(range(1, talk.pushed + 1)):
        counts = Counter(stored)
        missing = [number for number in range(1, talk.pushed + 1) if not counts[number]]
        doubled = [number for number, count in counts.items() if count > 1]
        yield f"{talk.conversation_id}: of {talk.pushed} chunks {missing} are missing, {doubled} doubled: {stored}"


def numbers_of(blob: Blob) -> list[int]:
    """The chunks in a blob: told by each of its samples, or for Opus, which changes them, by metadata and length."""
    metadata = BlobMetadata.from_mapping(blob.metadata)
    audio = decode(blob.data, blob.name, blob.metadata, secrets=[TEST_SECRET])
    if (len(audio.pcm) // 2, audio.sample_rate) != (metadata.samples, RATE):
        raise ValueError(f"{blob.name} holds {len(audio.pcm) // 2} samples, its metadata say {metadata.samples}")
    numbers = numbers_in(audio.pcm, SAMPLES) if metadata.codec == "pcm" else _told_numbers(blob, metadata)
    if len(numbers) != metadata.chunks:
        raise ValueError(f"{blob.name} holds chunks {numbers}, its metadata say {metadata.chunks}")
    return numbers


def _told_numbers(blob: Blob, metadata: BlobMetadata) -> list[int]:
    numbers = [seq + 1 for span in from_text(blob.metadata["seqs"]) or [] for seq in range(span.first, span.last + 1)]
    if metadata.samples != len(numbers) * SAMPLES:
        raise ValueError(f"{blob.name} holds {metadata.samples} samples for the chunks {numbers}")
    return numbers


def _events(told: Counter[str], stored: set[str]) -> Iterator[str]:
    for name in sorted(stored | told.keys()):
        expected = int(name in stored)
        if told[name] != expected:
            yield f"{told[name]} events instead of {expected} tell of {name}"


async def _values(client: redis.asyncio.Redis, key: Callable[[int], str], partitions: int, field: bytes) -> list[str]:
    streams: list[Any] = [await client.xrange(key(partition)) for partition in range(partitions)]
    return [fields[field].decode() for stream in streams for _, fields in stream]
