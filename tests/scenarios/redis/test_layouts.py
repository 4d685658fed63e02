"""The number of partitions grows and shrinks while audio flows, with pushers of either number."""

from __future__ import annotations

import asyncio
from typing import Any

from codec.entry import Chunk, partition_of
from tests.support.command import command
from tests.support.harness import EXACT, Harness, eventually, remove
from tests.support.oracle import Talk, assert_stored_once

FEW, MANY = 2, 16
TALKS = 12


def talks() -> list[Talk]:
    return [Talk(f"c{number}") for number in range(TALKS)]


async def say(harness: Harness, partitions: int, spoken: list[Talk], seconds: float) -> list[Chunk]:
    """As a pusher with this number of partitions does it."""
    harness.partitions = partitions
    chunks = [talk.say(0.5) for talk in spoken for _ in range(round(seconds / 0.5))]
    await harness.push(*chunks)
    return chunks


async def partitions(harness: Harness, *words: str) -> Any:  # noqa: ANN401 -- the library's result
    harness.partitions = FEW
    return await asyncio.to_thread(command, harness.settings(), "partitions", *words)


async def recorded(harness: Harness) -> tuple[bytes | None, ...]:
    return tuple(await harness.redis.hmget(harness.keys.config, "partitions", "layouts"))


async def test_audio_flows_while_the_number_grows_and_shrinks(harness: Harness) -> None:
    spoken = talks()
    async with harness.worker(**EXACT) as running:
        await say(harness, FEW, spoken, 2)
        result = await partitions(harness, str(MANY))
        assert result.exit_code == 0, result.output
        assert f"set PARTITIONS={MANY}" in result.output
        assert await recorded(harness) == (b"2", b"2,16")
        await eventually(lambda: len(running.worker._ownership.leases) == MANY)
        await say(harness, MANY, spoken[::2], 2)  # one pusher is new
        await say(harness, FEW, spoken[1::2], 2)  # the other one is not
        await say(harness, MANY, spoken, 2)
        await eventually(lambda: running.count("chunks_total") >= 12 * TALKS)
        assert running.count("misplaced_chunks_total") == 0
    harness.partitions = MANY
    await harness.drain(**EXACT)
    assert (await partitions(harness, str(MANY))).exit_code == 0
    assert await recorded(harness) == (b"16", b"16")

    harness.partitions = MANY
    async with harness.worker(**EXACT) as running:
        assert (await partitions(harness, str(FEW))).exit_code == 0
        await say(harness, MANY, spoken[::2], 2)
        await say(harness, FEW, spoken[1::2], 2)
        await say(harness, FEW, spoken, 2)
        await eventually(lambda: running.count("chunks_total") >= 8 * TALKS)
    harness.partitions = MANY
    await harness.drain(**EXACT)
    assert (await partitions(harness, str(FEW))).exit_code == 0
    assert await recorded(harness) == (b"2", b"2")
    for talk in spoken:
        assert_stored_once(talk, harness.blobs())


async def test_a_change_is_not_finished_while_audio_of_the_former_number_waits(harness: Harness) -> None:
    moved = next(talk for talk in talks() if partition_of(talk.conversation_id, MANY) >= FEW)
    assert (await partitions(harness, str(MANY))).exit_code == 0
    await say(harness, FEW, [moved], 1)
    result = await partitions(harness, str(MANY))
    assert result.exit_code == 3
    assert f"holds audio of the conversation {moved.conversation_id}, pushed with another number" in result.output
    await say(harness, MANY, [moved], 1)
    result = await partitions(harness, str(FEW))
    assert result.exit_code == 3
    assert f"{harness.keys.stream(partition_of(moved.conversation_id, MANY))} holds entries 2" in result.output
    assert (await partitions(harness, "5")).exit_code != 0
    assert await recorded(harness) == (b"2", b"2,16")


async def test_a_chunk_that_is_pushed_again_into_its_new_stream_is_stored_once(harness: Harness) -> None:
    moved = next(talk for talk in talks() if partition_of(talk.conversation_id, MANY) >= FEW)
    assert (await partitions(harness, str(MANY))).exit_code == 0
    chunks = await say(harness, FEW, [moved], 2)
    await harness.drain(**EXACT)
    harness.partitions = MANY
    await harness.push(*chunks)
    running = await harness.drain(**EXACT)
    assert running.count("duplicates_total") == len(chunks)
    assert_stored_once(moved, harness.blobs())


async def test_a_deletion_and_an_audit_look_into_both_streams(harness: Harness) -> None:
    moved = next(talk for talk in talks() if partition_of(talk.conversation_id, MANY) >= FEW)
    assert (await partitions(harness, str(MANY))).exit_code == 0
    await say(harness, FEW, [moved], 1)
    await say(harness, MANY, [moved], 1)
    harness.partitions = FEW
    words = ("audit", "--uid", moved.uid, "--conversation", moved.conversation_id)
    result = await asyncio.to_thread(command, harness.settings(), *words)
    assert "still in Redis" in result.output
    assert "4 chunks" in result.output
    deletion = await remove(harness, moved.conversation_id)
    assert deletion.partitions == 2
    await harness.drain(**EXACT)
    assert harness.blobs() == []
