"""A producer that lost a reply pushes a chunk again: the stored audio holds it once."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.support.harness import EXACT, Harness, eventually
from tests.support.oracle import T0, Talk, assert_stored_once, blobs_of


@pytest.fixture(params=[True, False], ids=["seq", "timestamp"])
def talk(request: pytest.FixtureRequest) -> Talk:
    return Talk("c", numbered=request.param)


async def test_duplicate_in_the_same_batch(harness: Harness, talk: Talk) -> None:
    await harness.say(talk, 1)
    await harness.push(*talk.chunks, talk.chunks[0])
    await harness.say(talk, 1)
    running = await harness.drain(**EXACT)
    assert len(harness.blobs()) == 1
    assert_stored_once(talk, harness.blobs())
    assert running.count("duplicates_total") == 3


async def test_duplicate_across_the_boundary_of_two_batches(harness: Harness, talk: Talk) -> None:
    await harness.say(talk, 3)
    await harness.push(talk.chunks[-1])
    await harness.say(talk, 1)
    await harness.drain(**EXACT)
    assert len(harness.blobs()) == 2
    assert_stored_once(talk, harness.blobs())


async def test_duplicate_while_its_batch_is_being_uploaded(harness: Harness, talk: Talk) -> None:
    gate = harness.server.hold()
    async with harness.worker(**EXACT) as running:
        await harness.say(talk, 3)
        await gate.reached()
        await harness.push(talk.chunks[-1], talk.chunks[0])
        await eventually(lambda: running.count("duplicates_total") == 2)
        gate.open()
    await harness.assert_empty()
    assert_stored_once(talk, harness.blobs())


async def test_duplicate_after_its_batch_was_stored(harness: Harness, talk: Talk) -> None:
    async with harness.worker(**EXACT) as running:
        await harness.say(talk, 3)
        await eventually(lambda: running.count("batches_total", trigger="audio") == 1)
        await harness.push(*talk.chunks)
        await eventually(lambda: running.count("duplicates_total") == 6)
    await harness.assert_empty()
    assert len(harness.blobs()) == 1


async def test_duplicate_at_another_worker(harness: Harness, talk: Talk) -> None:
    await harness.say(talk, 4)
    await harness.drain(**EXACT)
    await harness.push(*talk.chunks)
    await harness.say(talk, 1)
    running = await harness.drain(**EXACT)
    assert running.count("duplicates_total") == 8
    assert_stored_once(talk, harness.blobs())


async def test_duplicate_at_another_worker_of_a_chunk_that_is_sealed_and_not_stored(
    harness: Harness, talk: Talk
) -> None:
    gate = harness.server.hold(stage="request")
    async with harness.worker(shutdown_grace=2.1, **EXACT):
        await harness.say(talk, 3)
        await gate.reached()
    await harness.push(*talk.chunks)
    gate.open()
    await harness.drain(**EXACT)
    assert len(harness.blobs()) == 1
    assert_stored_once(talk, harness.blobs())


async def test_silence_that_repeats_is_no_twin(harness: Harness) -> None:
    talk = Talk("c", numbered=False)
    silent = replace(talk.say(1), pcm=bytes(32000))
    await harness.push(*(replace(silent, timestamp=T0 + second) for second in range(3)))
    await harness.drain(**EXACT)
    assert [blob.pcm() for blob in harness.blobs()] == [bytes(96000)]


async def test_same_chunk_of_another_conversation_is_no_twin(harness: Harness, talk: Talk) -> None:
    chunk = talk.say(1)
    await harness.push(chunk, replace(chunk, conversation_id="other"), replace(chunk, uid="other"))
    await harness.drain(**EXACT)
    assert [blob.pcm() for blob in harness.blobs()] == [chunk.pcm] * 3


async def test_missing_and_late_numbers_are_counted(harness: Harness) -> None:
    talk = Talk("c")
    chunks = [talk.say(0.25) for _ in range(6)]
    await harness.push(*(chunks[number] for number in (0, 1, 4, 3, 5)))
    running = await harness.drain(**EXACT)
    assert (running.count("seq_missing_total"), running.count("seq_reordered_total")) == (2, 1)
    assert sum(blob.samples for blob in blobs_of(talk, harness.blobs())) == 5 * 4000
