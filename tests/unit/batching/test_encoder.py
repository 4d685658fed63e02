"""Encoding in threads: order, memory accounting, errors."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest

from codec.errors import EncodingFailed
from codec.opus import Encoder, decode
from tests.support.speech import speech
from worker.batching.encoder import ENCODER_STATE_BYTES, BatchEncoder, EncoderPool, PcmEncoder
from worker.batching.memory import READ_AHEAD, MemoryBudget


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(2) as pool:
        yield pool


@pytest.fixture
def budget() -> MemoryBudget:
    return MemoryBudget(10**9)


@pytest.fixture
def recorder(pool: ThreadPoolExecutor, budget: MemoryBudget) -> EncoderPool:
    return EncoderPool(partial(Encoder, complexity=0), pool, budget)


class Slow(PcmEncoder):
    """Encodes when it is allowed to, and fails on command."""

    def __init__(self) -> None:
        super().__init__()
        self.allowed = threading.Event()
        self.threads: set[int] = set()

    def encode(self, pcm: bytes) -> None:
        assert self.allowed.wait(10)
        self.threads.add(threading.get_ident())
        if pcm == b"bad!":
            raise EncodingFailed("no")
        super().encode(pcm)


async def test_pieces_are_encoded_in_order_whatever_their_number(recorder: EncoderPool) -> None:
    recording = recorder.start("pcm", 16000)
    pieces = [speech(0.01, offset=number) for number in range(300)]
    for piece in pieces:
        recording.append(piece)
    assert await recording.finish() == b"".join(pieces)
    assert recording.samples == 300 * 160


async def test_silence_comes_before_its_piece(recorder: EncoderPool) -> None:
    recording = recorder.start("pcm", 8000)
    recording.append(b"ab")
    recording.append(b"cd", silence=3)
    assert await recording.finish() == b"ab" + bytes(6) + b"cd"


async def test_opus_is_the_same_as_encoded_at_once(recorder: EncoderPool) -> None:
    source = speech(3)
    recording = recorder.start("opus", 16000)
    for start in range(0, len(source), 10_002):
        recording.append(source[start : start + 10_002])
    container = await recording.finish()
    direct = Encoder(16000, complexity=0)
    direct.encode(source)
    assert container == direct.finish()
    assert len(decode(container, pre_skip=recording.pre_skip, samples=recording.samples)) == len(source)


async def test_recordings_are_encoded_side_by_side(recorder: EncoderPool) -> None:
    recordings = [recorder.start("opus", 16000) for _ in range(8)]
    for second in range(3):
        for number, recording in enumerate(recordings):
            recording.append(speech(1, offset=number + second))
    contents = [await recording.finish() for recording in recordings]
    assert len(set(contents)) == 8


async def test_memory_is_accounted_while_held_and_returns_to_nothing(
    recorder: EncoderPool, budget: MemoryBudget
) -> None:
    recording = recorder.start("opus", 16000)
    assert budget.used == 0
    recording.append(speech(5))
    assert (budget.used, budget.queued) == (ENCODER_STATE_BYTES + 160_000, 160_000)
    await recording.idle()
    assert ENCODER_STATE_BYTES < budget.used < ENCODER_STATE_BYTES + 40_000
    assert budget.queued == 0
    content = await recording.finish()
    assert budget.used == len(content)
    recording.release()
    recording.release()
    assert (budget.used, budget.queued) == (0, 0)


async def test_memory_returns_to_nothing_when_released_in_the_middle(
    pool: ThreadPoolExecutor, budget: MemoryBudget
) -> None:
    encoder = Slow()
    recording = BatchEncoder(lambda: encoder, pool, budget)
    for _ in range(3):
        recording.append(bytes(1000))
    recording.release()
    assert budget.used == 0
    encoder.allowed.set()
    await recording.idle()
    assert (budget.used, budget.queued) == (0, 0)


async def test_what_waits_counts_as_behind(pool: ThreadPoolExecutor) -> None:
    budget = MemoryBudget(10**9)
    encoder = Slow()
    recording = BatchEncoder(lambda: encoder, pool, budget)
    recording.append(bytes(READ_AHEAD))
    assert budget.behind
    encoder.allowed.set()
    await recording.idle()
    assert not budget.behind


def test_budget_is_exhausted_at_its_limit() -> None:
    budget = MemoryBudget(100)
    budget.used = 99
    assert not budget.exhausted
    budget.used = 100
    assert budget.exhausted


async def test_error_surfaces_when_finished(pool: ThreadPoolExecutor, budget: MemoryBudget) -> None:
    encoder = Slow()
    encoder.allowed.set()
    recording = BatchEncoder(lambda: encoder, pool, budget)
    recording.append(b"good")
    recording.append(b"bad!")
    recording.append(b"more")
    with pytest.raises(EncodingFailed, match="no"):
        await recording.finish()
    recording.release()
    assert (budget.used, budget.queued) == (0, 0)


async def test_loop_does_no_encoding(pool: ThreadPoolExecutor, budget: MemoryBudget) -> None:
    encoder = Slow()
    encoder.allowed.set()
    recording = BatchEncoder(lambda: encoder, pool, budget)
    recording.append(b"ab")
    await recording.finish()
    assert threading.get_ident() not in encoder.threads
