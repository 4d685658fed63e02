"""What a pusher calls becomes the entries of the contract, numbered per conversation."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from codec.entry import Chunk, End
from codec.errors import BadEntry
from tests.producer.pushing import PCM, producing, push, stored, stored_seqs

if TYPE_CHECKING:
    from redis.asyncio import Redis


async def test_pushes_and_end_become_the_entries_of_the_contract(
    redis_client: Redis, redis_url: str, prefix: str
) -> None:
    async with producing(redis_url, prefix) as producer:
        await producer.push("u1", "c1", 1000.5, bytearray(PCM), sample_rate=8000, protection="standard")
        await producer.push("u1", "c1", 1001.5, memoryview(PCM))
        await producer.end("u1", "c1")
    assert await stored(redis_client, prefix, "c1") == [
        Chunk("u1", "c1", 1000.5, PCM, 8000, "standard", seq=0),
        Chunk("u1", "c1", 1001.5, PCM, 16000, "enhanced", seq=1),
        End("u1", "c1"),
    ]


async def test_every_conversation_has_its_own_counter(redis_client: Redis, redis_url: str, prefix: str) -> None:
    async with producing(redis_url, prefix) as producer:
        for number in range(3):
            await push(producer, "c1", number)
            await push(producer, "c2", number)
    assert await stored_seqs(redis_client, prefix, "c1") == [0, 1, 2]
    assert await stored_seqs(redis_client, prefix, "c2") == [0, 1, 2]


async def test_a_conversation_that_goes_on_after_its_end_counts_on(
    redis_client: Redis, redis_url: str, prefix: str
) -> None:
    async with producing(redis_url, prefix) as producer:
        await push(producer, "c1", 0)
        await producer.end("u1", "c1")
        await push(producer, "c1", 1)
    assert await stored_seqs(redis_client, prefix, "c1") == [0, 1]


async def test_a_new_process_counts_on_where_the_old_one_stopped_if_told(
    redis_client: Redis, redis_url: str, prefix: str
) -> None:
    async with producing(redis_url, prefix) as old:
        await push(old, "c1", 0)
        following = old.next_seq("c1")
    async with producing(redis_url, prefix) as new:
        new.resume("c1", following)
        await push(new, "c1", 1)
    assert await stored_seqs(redis_client, prefix, "c1") == [0, 1]


@pytest.mark.parametrize("number", [-1, 10**15])
async def test_counting_goes_on_only_from_a_number_that_a_chunk_can_have(
    redis_url: str, prefix: str, number: int
) -> None:
    async with producing(redis_url, prefix) as producer:
        with pytest.raises(BadEntry, match="is not a counter"):
            producer.resume("c1", number)


@pytest.mark.parametrize(
    "bad",
    [
        {"uid": ""},
        {"conversation_id": "a/b"},
        {"timestamp": float("nan")},
        {"pcm": b""},
        {"pcm": b"odd"},
        {"sample_rate": 44100},
        {"protection": "none"},
    ],
    ids=lambda bad: next(iter(bad)),
)
async def test_what_a_worker_would_refuse_is_refused_at_once_and_uses_no_number(
    redis_client: Redis, redis_url: str, prefix: str, bad: dict[str, object]
) -> None:
    good: dict[str, object] = {"uid": "u1", "conversation_id": "c1", "timestamp": 1000.0, "pcm": PCM}
    async with producing(redis_url, prefix) as producer:
        with pytest.raises(BadEntry):
            await producer.push(**good | bad)  # type: ignore[arg-type]
        await push(producer, "c1")
    assert await stored_seqs(redis_client, prefix, "c1") == [0]
