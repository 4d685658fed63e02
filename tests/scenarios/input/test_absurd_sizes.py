"""Entries of absurd size: few are ever in memory, every one becomes a dead letter, and audio beside them flows."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from codec.entry import MAX_CHUNK_BYTES
from tests.support.harness import EXACT, Harness, HarnessMaker
from tests.support.oracle import Talk, assert_stored_once
from tests.support.redis_server import RedisServer
from worker.stream import pages
from worker.stream.client import Client
from worker.stream.inspection.dead_letters import DeadLetters
from worker.stream.servers.connecting import connect

MIB = 1024 * 1024
ABSURD = 4 * MIB
PAGES = 8 * MIB
ENTRY = MIB
"""Small limits, and an entry that is as absurd beside them as 64 MiB are in earnest."""

OTHERS = 6 * MIB
"""What a worker takes in the first seconds besides."""

LARGEST = MAX_CHUNK_BYTES / 32_000
"""Seconds of the longest chunk that is one."""


@pytest.fixture
async def roomy(own_redis: Callable[..., RedisServer], harness_at: HarnessMaker) -> Harness:
    """On a Redis whose memory is free again after the test."""
    server = own_redis()
    return await harness_at(server, server)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "MAX_PAGES_BYTES", PAGES)
    monkeypatch.setattr(pages, "MAX_ENTRY_BYTES", ENTRY)


@contextmanager
def at_most_in_memory(size: int) -> Iterator[None]:
    """What Python's own objects take more at any moment of the block than at its beginning."""
    tracemalloc.start(1)
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < size
    finally:
        tracemalloc.stop()


async def push_absurd(harness: Harness, conversation_id: str, count: int) -> None:
    """By Redis itself, which is faster."""
    push = "redis.call('XADD', KEYS[1], '*', 'uid', 'u', 'conversation_id', 'c', 'pcm', string.rep('x', ARGV[1]))"
    for _ in range(count):
        await harness.redis.eval(push, 1, harness.keys.stream(harness.partition(conversation_id)), ABSURD)


async def reasons(harness: Harness) -> list[str]:
    """Of all dead letters."""
    async with Client(connect(harness.settings().redis_url)) as client:
        letters = DeadLetters(client, harness.keys)
        return [letter.reason for number in range(harness.partitions) async for letter in letters.list(number)]


@pytest.mark.usefixtures("small")
async def test_many_absurd_entries_are_never_in_memory_together(roomy: Harness) -> None:
    await push_absurd(roomy, "c", 30)
    with at_most_in_memory(PAGES + OTHERS):
        running = await roomy.drain(**EXACT)
    assert running.count("redis_errors_total", cause="large") == 1
    size = ABSURD + len("uiduconversation_idcpcm")
    assert await reasons(roomy) == 30 * [f"the entry has {size} bytes, more than any chunk"]


@pytest.mark.usefixtures("small")
async def test_absurd_entries_between_hundreds_of_tiny_ones_are_never_in_memory_together(
    roomy: Harness,
) -> None:
    """The worker reads many entries at once by then."""
    roomy.partitions = 1
    before, after = Talk("before"), Talk("after")
    await roomy.say(before, 6, chunk=0.02)
    await push_absurd(roomy, "c", 10)
    await roomy.say(after, 3, chunk=0.02)
    with at_most_in_memory(PAGES + OTHERS):
        running = await roomy.drain(**EXACT)
    assert running.count("redis_errors_total", cause="large") == 1
    assert len(await reasons(roomy)) == 10
    for talk in (before, after):
        assert_stored_once(talk, roomy.blobs())


async def test_largest_chunks_that_are_audio_are_stored_however_many_wait(roomy: Harness) -> None:
    talk = Talk("c")
    await roomy.say(talk, 5 * LARGEST, chunk=LARGEST)
    running = await roomy.drain(**EXACT)
    assert await roomy.dead() == []
    assert running.count("redis_errors_total", cause="large") == 1
    assert_stored_once(talk, roomy.blobs())
