"""What a pusher calls becomes the entries of the contract, numbered per conversation."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from codec.entry import Chunk, End
from codec.errors import BadEntry
from tests.support.producing import PCM, SESSION, producing, push, stored, stored_seqs
from worker.producer import Producer, SettingsError

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
        Chunk("u1", "c1", 1000.5, PCM, 8000, "standard", seq=0, session=SESSION),
        Chunk("u1", "c1", 1001.5, PCM, 16000, "enhanced", seq=1, session=SESSION),
        End("u1", "c1", seq=2, session=SESSION),
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


async def test_a_new_process_counts_from_0_in_a_session_of_its_own(
    redis_client: Redis, redis_url: str, prefix: str
) -> None:
    for _ in range(2):
        async with producing(redis_url, prefix, session=None) as producer:
            await push(producer, "c1")
            await producer.end("u1", "c1")
    entries = await stored(redis_client, prefix, "c1")
    assert [entry.seq for entry in entries] == [0, 1, 0, 1]
    first, first_end, second, second_end = [entry.session for entry in entries]
    assert first is not None
    assert (first, second) == (first_end, second_end)
    assert first != second


async def test_an_end_of_a_conversation_that_was_not_numbered_here_tells_no_number(
    redis_client: Redis, redis_url: str, prefix: str
) -> None:
    async with producing(redis_url, prefix) as producer:
        await producer.put(Chunk("u1", "c1", 1000.0, PCM, seq=7))
        await producer.end("u1", "c1")
    assert await stored(redis_client, prefix, "c1") == [Chunk("u1", "c1", 1000.0, PCM, seq=7), End("u1", "c1")]


@pytest.mark.parametrize(
    "entry",
    [
        Chunk("u1", "c1", 1000.0, PCM, seq=7, session=b"another life"),
        Chunk("u1", "c1", 1000.0, PCM, seq=7),
        Chunk("u1", "c1", 1000.0, PCM, session=b"another life"),
        End("u1", "c1", seq=8, session=b"another life"),
        End("u1", "c1", seq=8),
    ],
    ids=str,
)
async def test_an_entry_with_a_number_or_session_is_taken_as_it_is_and_uses_no_number(
    redis_client: Redis, redis_url: str, prefix: str, entry: Chunk | End
) -> None:
    async with producing(redis_url, prefix) as producer:
        await push(producer, "c1", 0)
        await producer.put(entry)
        await push(producer, "c1", 1)
    _, taken, following = await stored(redis_client, prefix, "c1")
    assert taken == entry
    assert (following.seq, following.session) == (1, SESSION)


@pytest.mark.parametrize("session", [SESSION, None])
async def test_a_new_process_counts_on_where_the_old_one_stopped_if_told(
    redis_client: Redis, redis_url: str, prefix: str, session: bytes | None
) -> None:
    async with producing(redis_url, prefix) as old:
        await push(old, "c1", 0)
        following, of = old.next_seq("c1"), old.session_of("c1")
    async with producing(redis_url, prefix, session=session) as new:
        new.resume("c1", following, None if session else of)
        await push(new, "c1", 1)
        await new.end("u1", "c1")
    numbers = [(entry.seq, entry.session) for entry in await stored(redis_client, prefix, "c1")]
    assert numbers == [(0, SESSION), (1, SESSION), (2, SESSION)]


@pytest.mark.parametrize("session", [b"", b"x" * 56, "\N{EURO SIGN}" * 19])
async def test_a_session_that_no_chunk_can_have_is_refused_at_once(redis_url: str, session: bytes | str) -> None:
    with pytest.raises(SettingsError, match="give 1 to 55"):
        Producer(redis_url, session=session)


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
