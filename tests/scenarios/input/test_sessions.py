"""Every life of a pusher counts its chunks from 0: its audio is stored, and the audit proves it or names the loss."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from codec.entry import Chunk, End
from tests.support.command import command
from tests.support.harness import EXACT, Harness
from worker.archive import Archive

SILENCE = bytes(32000)
"""A second without a sound: the same bytes in every chunk."""

LIVES = [b"first", b"second"]


def life(session: bytes | None, seconds: int, *, at: float = 1000.0, conversation: str = "c") -> list[Chunk]:
    """Chunks of one second each, numbered from 0."""
    return [
        Chunk("u", conversation, at + seq, SILENCE, protection="standard", seq=seq, session=session)
        for seq in range(seconds)
    ]


async def audited(harness: Harness, *options: str, conversation: str = "c") -> tuple[int, dict[str, Any]]:
    """Exit code and answer of the command."""
    arguments = ["audit", "--uid", "u", "--conversation", conversation, "--json", *options]
    result = await asyncio.to_thread(command, harness.settings(), *arguments)
    return result.exit_code, json.loads(result.stdout)


def seconds_stored(harness: Harness) -> float:
    return sum(blob.samples for blob in harness.blobs()) / 16000


@pytest.mark.parametrize("pause", [0.0, 5.0, 300.0])
async def test_restarted_pusher_loses_no_sample_of_silence(harness: Harness, pause: float) -> None:
    first = life(LIVES[0], 5)
    second = life(LIVES[1], 5, at=1005.0 + pause)
    await harness.push(*first, *second, End("u", "c", seq=5, session=LIVES[1]))

    running = await harness.drain(**EXACT)

    code, answer = await audited(harness)
    assert seconds_stored(harness) == 10
    assert running.count("duplicates_total") == 0
    assert (code, answer["problems"], answer["authenticated"]) == (0, [], True)
    assert answer["last"] == {"first": 4, "second": 4}


async def test_restarted_pusher_with_the_clock_set_back_loses_no_sample(harness: Harness) -> None:
    await harness.push(*life(LIVES[0], 5), *life(LIVES[1], 5))

    running = await harness.drain(**EXACT)

    assert sum(map(len, (blob.pcm() for blob in harness.blobs()))) == 10 * len(SILENCE)
    assert running.count("duplicates_total") == 0
    assert (await audited(harness))[0] == 0


@pytest.mark.parametrize("lost", [0, 2])
async def test_lost_chunk_of_the_second_life_is_named_by_session_and_seq(harness: Harness, lost: int) -> None:
    second = life(LIVES[1], 5, at=1005.0)
    await harness.push(*life(LIVES[0], 5), *second[:lost], *second[lost + 1 :])
    await harness.drain(**EXACT)

    code, answer = await audited(harness)

    assert (code, answer["missing"]) == (1, {"second": str(lost)})
    assert answer["problems"] == [f"missing: session second: seq {lost} (1 chunk)"]


@pytest.mark.parametrize(("session", "named"), [(b"second", "session second: "), (None, "")])
async def test_end_with_a_larger_number_tells_of_the_lost_tail(
    harness: Harness, session: bytes | None, named: str
) -> None:
    await harness.push(*life(session, 4), End("u", "c", seq=7, session=session))
    await harness.drain(**EXACT)

    code, answer = await audited(harness)

    assert (code, answer["missing"]) == (1, {(session or b"").decode(): "4-6"})
    assert answer["problems"] == [f"missing: {named}seq 4-6 (3 chunks)"]


async def test_session_of_any_bytes_is_told_percent_encoded(harness: Harness) -> None:
    await harness.push(*life(b"\x1b[2J;:/", 3)[1:])
    await harness.drain(**EXACT)

    assert (await audited(harness))[1]["missing"] == {"%1B%5B2J%3B%3A%2F": "0"}


@pytest.mark.parametrize("session", [None, b"second"])
async def test_merged_conversations_that_both_count_from_0_are_provable(
    harness: Harness, session: bytes | None
) -> None:
    await harness.push(*life(session, 4), *life(session, 4, at=1100.0, conversation="other"))
    await harness.drain(**EXACT)

    await merge(harness, "other", into="c")

    code, answer = await audited(harness)
    name = (session or b"").decode()
    assert (code, answer["problems"], answer["last"]) == (0, [], {name: 3, f"other/{name}": 3})


async def test_loss_in_a_merged_conversation_is_named_with_its_source(harness: Harness) -> None:
    await harness.push(*life(None, 4), *life(LIVES[0], 4, at=1100.0, conversation="other")[1:])
    await harness.drain(**EXACT)

    await merge(harness, "other", into="c")

    code, answer = await audited(harness)
    assert (code, answer["missing"]) == (1, {"other/first": "0"})
    assert answer["problems"] == ["missing: copied from other: session first: seq 0 (1 chunk)"]


async def test_chunk_that_redis_still_holds_is_stored_once_a_blob_is_proven_to_hold_it(harness: Harness) -> None:
    chunks = life(LIVES[0], 3)
    await harness.push(*chunks)
    await harness.drain(**EXACT)
    await harness.push(*chunks, *life(LIVES[1], 1))

    code, answer = await audited(harness)

    assert (code, answer["problems"]) == (1, ["still in Redis: session second: seq 0 (1 chunk)"])


async def merge(harness: Harness, *sources: str, into: str) -> None:
    """Copy conversations into another one, inside the store."""
    async with harness.worker(drain=True) as running:
        report = await Archive(running.store, harness.settings().secrets).copy("u", sources, into)
    assert report.copies
    assert not report.problems
