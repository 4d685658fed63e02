"""Accumulation: what belongs into one batch, and what closes it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codec.entry import Chunk
from worker.batching.batch import MAX_ENTRIES, Batch, BatchLimits
from worker.model.ids import Conversation, entry_ms, entry_order
from worker.model.jitter import JOINED_STARTS
from worker.model.states import Trigger

LIMITS = BatchLimits(max_seconds=60.0, max_age=60.0, max_bytes=8 * 1024 * 1024, gap_tolerance=2.0)


def chunk(timestamp: float, seconds: float = 5.0, *, rate: int = 16000, protection: str = "enhanced") -> Chunk:
    pcm = bytes(2 * round(seconds * rate))
    return Chunk("u", "c", timestamp, pcm, rate, protection)  # type: ignore[arg-type]


def batch_of(*chunks: Chunk, first_ms: int = 1000) -> Batch:
    batch = Batch.of(chunks[0])
    for number, one in enumerate(chunks):
        silence = batch.silence_before(one, LIMITS)
        assert isinstance(silence, int)
        batch.add(f"{first_ms}-{number}", one, one.identity(), silence)
    return batch


def test_batch_counts_what_it_holds() -> None:
    batch = batch_of(chunk(100), chunk(105.3), chunk(110))
    assert batch.conversation == Conversation("u", "c")
    assert (batch.samples, batch.seconds, batch.pcm_bytes) == (240_000, 15.0, 480_000)
    assert (batch.start, batch.last_start, batch.opened_ms) == (100, 110, 1000)
    assert batch.entries == ["1000-0", "1000-1", "1000-2"]
    assert batch.silences == {}


@pytest.mark.parametrize("jitter", [-2.0, -0.001, 0.0, 0.4, 2.0])
def test_chunk_within_the_tolerance_follows_without_silence(jitter: float) -> None:
    assert batch_of(chunk(100)).silence_before(chunk(105 + jitter), LIMITS) == 0


def test_jitter_does_not_add_up() -> None:
    """Each timestamp is compared with the sample count, not with the timestamp before."""
    batch = batch_of(chunk(100), chunk(106.9), chunk(108.1))
    assert batch.silence_before(chunk(116.9), LIMITS) == 0
    assert batch.silence_before(chunk(117.1), LIMITS) == round(2.1 * 16000)


@given(st.sampled_from([60.0, 85.0, 88.0]), st.lists(st.floats(-1, 1), min_size=30, max_size=60))
def test_blobs_of_audio_without_a_gap_start_so_close_that_readers_join_them(
    seconds: float, jitters: list[float]
) -> None:
    limits = replace(LIMITS, max_seconds=seconds)
    said = [chunk(1000 + 5 * number + jitter) for number, jitter in enumerate(jitters)]
    batch = Batch.of(said[0])
    for number, one in enumerate(said):
        silence = batch.silence_before(one, limits)
        if silence is Trigger.AUDIO:
            assert one.timestamp - batch.start <= JOINED_STARTS
            batch, silence = Batch.of(one), 0
        assert silence == 0
        batch.add(f"1000-{number}", one, one.identity(), 0)


@pytest.mark.parametrize("rate", [8000, 16000, 48000])
def test_gap_that_fits_is_filled_to_the_sample(rate: int) -> None:
    batch = batch_of(chunk(100, rate=rate), chunk(115.25, rate=rate))
    assert batch.silences == {"1000-1": round(10.25 * rate)}
    assert batch.seconds == 20.25
    assert batch.pcm_bytes == 2 * 10 * rate


def test_gap_closes_when_gap_and_chunk_do_not_fit_together() -> None:
    batch = batch_of(chunk(100))
    assert batch.silence_before(chunk(155), LIMITS) == 50 * 16000
    assert batch.silence_before(chunk(155.001), LIMITS) is Trigger.GAP


@pytest.mark.parametrize("timestamp", [102.999, 100.0, 0.0])
def test_jump_backwards_closes(timestamp: float) -> None:
    assert batch_of(chunk(100)).silence_before(chunk(timestamp), LIMITS) is Trigger.GAP


@pytest.mark.parametrize("other", [chunk(105, rate=8000), chunk(105, protection="standard")])
def test_another_format_closes(other: Chunk) -> None:
    assert batch_of(chunk(100)).silence_before(other, LIMITS) is Trigger.FORMAT


def test_chunk_that_does_not_fit_closes_as_full_audio() -> None:
    batch = batch_of(*(chunk(100 + 5 * number) for number in range(11)))
    assert batch.silence_before(chunk(155, 5.0), LIMITS) == 0
    assert batch.silence_before(chunk(155, 5.001), LIMITS) is Trigger.AUDIO


def test_batch_is_full_at_exactly_its_seconds() -> None:
    chunks = [chunk(100 + 5 * number) for number in range(12)]
    assert batch_of(*chunks[:11]).full(LIMITS) is None
    assert batch_of(*chunks).full(LIMITS) is Trigger.AUDIO


def test_silence_counts_as_audio_and_not_as_bytes() -> None:
    batch = batch_of(chunk(100), chunk(155))
    assert batch.full(LIMITS) is Trigger.AUDIO
    assert batch.full(BatchLimits(61, 60, 320_000, 2)) is Trigger.BYTES
    assert batch.full(BatchLimits(61, 60, 320_001, 2)) is None


def test_batch_of_countless_tiny_chunks_is_full() -> None:
    batch = batch_of(chunk(100))
    batch.entries *= MAX_ENTRIES - 1
    assert batch.full(LIMITS) is None
    batch.entries *= 2
    assert batch.full(LIMITS) is Trigger.BYTES


def test_age_counts_from_the_first_entry_on_the_clock_of_redis() -> None:
    batch = batch_of(chunk(100), first_ms=5_000)
    assert not batch.aged(64_999, LIMITS)
    assert batch.aged(65_000, LIMITS)


@given(st.lists(st.integers(1, 20_000), min_size=1, max_size=50), st.sampled_from([8000, 12000, 16000, 24000, 48000]))
def test_samples_add_up_whatever_the_sizes_of_the_chunks(sizes: list[int], rate: int) -> None:
    batch = Batch.of(chunk(1000, sizes[0] / rate, rate=rate))
    for number, size in enumerate(sizes):
        following = Chunk("u", "c", 1000 + sum(sizes[:number]) / rate, bytes(2 * size), rate)
        verdict = batch.silence_before(following, BatchLimits(10_000, 60, 10**9, 2.0))
        assert verdict == 0
        batch.add(f"1-{number}", following, following.identity(), verdict)
    assert batch.samples == sum(sizes)
    assert batch.seconds == pytest.approx(sum(sizes) / rate)


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=60))
def test_no_batch_grows_beyond_its_limit_whatever_the_timestamps(timestamps: list[float]) -> None:
    batch = Batch.of(chunk(timestamps[0]))
    for number, timestamp in enumerate(timestamps):
        following = chunk(timestamp)
        verdict = batch.silence_before(following, LIMITS)
        if isinstance(verdict, Trigger):
            batch = Batch.of(following)
            verdict = 0
        batch.add(f"1-{number}", following, following.identity(), verdict)
        assert 5 <= batch.seconds <= 60


def test_ids_order_as_numbers() -> None:
    assert sorted(["10-2", "9-11", "10-11", "9-2"], key=entry_order) == ["9-2", "9-11", "10-2", "10-11"]
    assert entry_ms("1700000000123-4") == 1_700_000_000_123


def test_tombstones_of_user_and_conversation_can_not_be_confused() -> None:
    assert Conversation("u", "c").tombstones == ("u/", "u/c")


def test_age_is_told_by_redis_unless_its_ids_are_of_the_future() -> None:
    batch = Batch.of(chunk(100), now=7.0)
    batch.add("5000-0", chunk(100), bytes(8), 0)
    assert batch.age(6500, now=1000.0) == 1.5
    assert batch.age(4000, now=17.0) == 10.0
