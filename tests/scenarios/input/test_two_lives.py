"""A pusher that begins anew counts from 0 again: its chunks are repetitions only if all of them says so."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from codec.entry import Chunk
from codec.sessions import from_text
from tests.support.harness import EXACT, Harness, eventually
from tests.support.oracle import T0, Talk, assert_plays, played

SILENCE = bytes(16_000)


def silence(life: int, seq: int, session: bytes | None) -> Chunk:
    """Half a second of digital silence; the second life begins where the first one has ended."""
    return Chunk("user", "c", T0 + 2 * life + seq / 2, SILENCE, seq=seq, session=session)


@pytest.mark.parametrize("sessions", [(None, None), (b"one", b"two"), (None, b"two")], ids=str)
@pytest.mark.parametrize("stored", [True, False])
async def test_silence_of_a_second_life_is_no_repetition(
    harness: Harness, sessions: tuple[bytes | None, bytes | None], stored: bool
) -> None:
    lives = [[silence(life, seq, sessions[life]) for seq in range(4)] for life in range(2)]
    limits: dict[str, Any] = {"batch_max_seconds": 4.0, "batch_max_bytes": (4 if stored else 9) * 16_000}
    async with harness.worker(**EXACT, **limits) as running:
        for number, life in enumerate(lives, 1):
            await harness.push(*life)
            if stored:
                await eventually(lambda number=number: running.count("batches_total", trigger="bytes") == number)  # type: ignore[misc]
        await eventually(lambda: running.count("stored_seconds_total") == 4)
    await harness.assert_empty()
    assert b"".join(blob.pcm() for blob in sorted(harness.blobs(), key=lambda blob: blob.name)) == 8 * SILENCE
    assert running.count("duplicates_total") == running.count("seq_missing_total") == 0


async def test_equal_chunks_of_two_sessions_are_both_stored_in_their_order(harness: Harness) -> None:
    """Same number, same audio, even the same timestamp, as of a clock that was set back: only the session differs."""
    talk = Talk("c")
    first = [replace(talk.say(0.5), session=b"one") for _ in range(3)]
    second = [replace(chunk, session=b"two") for chunk in first]
    async with harness.worker(**EXACT) as running:
        await harness.push(*first, *second, talk.end())
        await eventually(lambda: running.count("stored_seconds_total") == 3)
    (blob,) = harness.blobs()
    assert played(talk, [blob]) == [0, 1, 2, 0, 1, 2]
    assert from_text(blob.metadata["seqs"]) == {"one": [(0, 2)], "two": [(0, 2)]}
    assert running.count("duplicates_total") == 0


async def test_repetition_is_known_by_its_session_in_either_life(harness: Harness) -> None:
    talk = Talk("c")
    chunks = [replace(talk.say(0.5), seq=number % 3, session=b"one" if number < 3 else b"two") for number in range(6)]
    async with harness.worker(**EXACT) as running:
        await harness.push(*chunks[:4], chunks[0], chunks[3], *chunks[4:])
        await eventually(lambda: running.count("batches_total", trigger="audio") == 1)
        await harness.push(chunks[2], chunks[5])
        await eventually(lambda: running.count("duplicates_total") == 4)
    await harness.assert_empty()
    assert_plays(talk, harness.blobs())
    assert running.count("seq_missing_total") == running.count("seq_reordered_total") == 0
