"""What closes a batch, seen from outside: at the blobs and the events."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.support.harness import EXACT, Harness, eventually
from tests.support.oracle import Talk, assert_stored_once, blobs_of


async def triggers(harness: Harness) -> list[str]:
    events = sorted(await harness.events(), key=lambda event: event["start"])
    return [event["trigger"] for event in events]


async def test_enough_audio_closes_without_waiting_for_more(harness: Harness) -> None:
    talk = Talk("c")
    async with harness.worker(**EXACT) as running:
        await harness.say(talk, 3)
        await eventually(lambda: running.count("batches_total", trigger="audio") == 1)
    assert_stored_once(talk, harness.blobs())


async def test_chunk_that_does_not_fit_opens_the_next_batch(harness: Harness) -> None:
    talk = Talk("c")
    await harness.say(talk, 4, chunk=2)
    await harness.drain(**EXACT)
    assert [blob.samples for blob in blobs_of(talk, harness.blobs())] == [32000, 32000]
    assert await triggers(harness) == ["audio", "shutdown"]


async def test_chunk_longer_than_a_batch_is_a_batch(harness: Harness) -> None:
    talk = Talk("c")
    await harness.push(talk.say(1), talk.say(5), talk.say(1))
    await harness.drain(**EXACT)
    assert [blob.samples for blob in blobs_of(talk, harness.blobs())] == [16000, 80000, 16000]
    assert_stored_once(talk, harness.blobs())


async def test_age_closes_though_nothing_more_arrives(harness: Harness) -> None:
    talk = Talk("c")
    async with harness.worker(batch_max_age=0.3, **EXACT) as running:
        await harness.say(talk, 1)
        await eventually(lambda: running.count("batches_total", trigger="age") >= 1)
    assert_stored_once(talk, harness.blobs())


async def test_bytes_close(harness: Harness) -> None:
    talk = Talk("c")
    await harness.say(talk, 2)
    await harness.drain(batch_max_bytes=32000, **EXACT)
    assert await triggers(harness) == ["bytes", "bytes"]
    assert_stored_once(talk, harness.blobs())


async def test_end_closes_and_leaves_the_stream_with_its_batch(harness: Harness) -> None:
    talk = Talk("c")
    async with harness.worker(**EXACT) as running:
        await harness.say(talk, 1)
        await harness.push(talk.end())
        await eventually(lambda: running.count("batches_total", trigger="end") == 1)
        await harness.assert_empty()
        await harness.say(talk, 1)
        await eventually(lambda: running.count("chunks_total") == 4)
    assert await triggers(harness) == ["end", "shutdown"]
    assert_stored_once(talk, harness.blobs())


async def test_end_without_audio_vanishes_quietly(harness: Harness) -> None:
    await harness.push(Talk("c").end(), Talk("c").end())
    await harness.drain()
    assert (harness.blobs(), await harness.events(), await harness.dead()) == ([], [], [])


async def test_end_of_another_user_with_the_same_conversation_id_closes_nothing(harness: Harness) -> None:
    talk = Talk("c", uid="one")
    await harness.push(talk.say(1), Talk("c", uid="two").end(), talk.say(1))
    await harness.drain(**EXACT)
    assert await triggers(harness) == ["shutdown"]
    assert_stored_once(talk, harness.blobs())


@pytest.mark.parametrize("change", [{"sample_rate": 8000}, {"protection": "standard"}])
async def test_another_format_closes(harness: Harness, change: dict[str, object]) -> None:
    talk = Talk("c")
    await harness.push(talk.say(1), replace(talk.say(1), **change), talk.say(1))  # type: ignore[arg-type]
    await harness.drain(**EXACT)
    assert await triggers(harness) == ["format", "format", "shutdown"]
    stored = b"".join(blob.pcm() for blob in blobs_of(talk, harness.blobs()))
    assert stored == talk.pcm


@pytest.mark.parametrize("late", [-1.9, -0.4, 0.7, 1.9])
async def test_jitter_of_timestamps_neither_cuts_nor_fills(harness: Harness, late: float) -> None:
    talk = Talk("c")
    await harness.push(talk.say(0.5), talk.say(0.5, late=late), talk.say(0.5))
    await harness.drain(**EXACT)
    assert len(harness.blobs()) == 1
    assert_stored_once(talk, harness.blobs())


async def test_gap_that_fits_becomes_silence(harness: Harness) -> None:
    talk = Talk("c")
    first, second = talk.say(0.5), talk.say(0.5, late=2.25)
    await harness.push(first, second)
    running = await harness.drain(batch_max_seconds=10, **EXACT)
    (blob,) = harness.blobs()
    assert blob.pcm() == first.pcm + bytes(2 * 36000) + second.pcm
    assert blob.metadata["samples"] == "52000"
    assert running.count("silence_seconds_total") == 2.25


@pytest.mark.parametrize("late", [60.0, -2.1, -500.0])
async def test_jump_that_does_not_fit_closes_and_loses_nothing(harness: Harness, late: float) -> None:
    talk = Talk("c")
    await harness.push(talk.say(0.5), talk.say(0.5, late=late))
    await harness.drain(**EXACT)
    first, second = blobs_of(talk, harness.blobs())
    assert (first.pcm(), second.pcm()) == tuple(chunk.pcm for chunk in talk.chunks)
    assert sorted(event["trigger"] for event in await harness.events()) == ["gap", "shutdown"]


async def test_batches_that_would_have_one_name_keep_their_order(harness: Harness) -> None:
    """A clock that is set back again and again: each batch begins at the same moment."""
    talk = Talk("c")
    for _ in range(4):
        await harness.push(talk.say(0.5, late=-len(talk.pcm) / 32000))
    harness.server.fail(
        "insert.*", status=503
    )  # the first one's upload is tried again when others could have gone ahead
    await harness.drain(**EXACT, gap_tolerance=0.05)
    blobs = sorted(blobs_of(talk, harness.blobs()), key=lambda blob: blob.name)
    assert [blob.metadata["seqs"] for blob in blobs] == ["0", "1", "2", "3"]
    assert_stored_once(talk, blobs)


async def test_shutdown_flushes_open_batches(harness: Harness) -> None:
    talk = Talk("c")
    async with harness.worker(**EXACT) as running:
        await harness.say(talk, 1)
        await eventually(lambda: running.count("chunks_total") == 2)
    await harness.assert_empty()
    assert await triggers(harness) == ["shutdown"]
    assert_stored_once(talk, harness.blobs())


async def test_backlog_is_cut_by_its_own_time(harness: Harness) -> None:
    """Chunks that waited in Redis are not one batch only because they are read at once."""
    talk = Talk("c")
    stream = harness.keys.stream(harness.partition("c"))
    for number, ms in enumerate((1000, 1500, 1999, 2000, 2400, 3001)):
        await harness.redis.xadd(stream, dict(talk.say(0.25).fields()), id=f"{ms}-{number}")
    await harness.drain(batch_max_age=1.0, **EXACT)
    assert [blob.samples for blob in blobs_of(talk, harness.blobs())] == [12000, 8000, 4000]
    assert await triggers(harness) == ["age", "age", "age"]
    assert_stored_once(talk, harness.blobs())
