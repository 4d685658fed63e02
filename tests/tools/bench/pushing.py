"""Fills the streams as pushers do: plain XADDs, one conversation's chunk after the other's."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, cast

from redis import Redis

from codec.entry import Chunk, End, partition_of
from tests.tools.bench.audio import CHUNK_SECONDS
from worker.settings import Settings
from worker.stream.keys import Keys

AT_ONCE = 50
START = 1_700_000_000.0
PARTITIONS: int = Settings.model_fields["partitions"].default
KEYS = Keys(Settings.model_fields["stream_prefix"].default)


def ids(conversations: int, *, first: int = 0) -> list[str]:
    """Names of conversations."""
    return [f"conversation-{number}" for number in range(first, first + conversations)]


def balanced(each: int, *, first: int = 0) -> list[str]:
    """Names of conversations, so many of each partition: chance would give one worker more than the other."""
    found: dict[int, list[str]] = {partition: [] for partition in range(PARTITIONS)}
    number = first
    while any(len(names) < each for names in found.values()):
        name = f"conversation-{number}"
        number += 1
        names = found[partition_of(name, PARTITIONS)]
        if len(names) < each:
            names.append(name)
    return [name for names in found.values() for name in names]


def rounds(names: Sequence[str], chunks: Sequence[bytes], *, first: int = 0) -> Iterator[Chunk]:
    """Chunk `first` of every conversation, then the next of every conversation, and so on."""
    for number, pcm in enumerate(chunks, start=first):
        for name in names:
            yield Chunk(f"user of {name}", name, START + number * CHUNK_SECONDS, pcm, seq=number)


def push(redis: Redis, contents: Iterable[Chunk | End]) -> int:
    """Append all; returns how many."""
    pipe, pushed = redis.pipeline(transaction=False), 0
    for pushed, content in enumerate(contents, start=1):  # noqa: B007 -- it counts
        pipe.xadd(KEYS.stream(partition_of(content.conversation_id, PARTITIONS)), cast("Any", content.fields()))
        if len(pipe) >= AT_ONCE:
            pipe.execute()
    pipe.execute()
    return pushed
