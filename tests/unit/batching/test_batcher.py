"""Entries become batches: duplicates, ends, gaps, age, sealed batches that are read again, deleted audio."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from structlog.testing import capture_logs

from codec.entry import Chunk, End
from codec.sessions import to_text
from tests.support.oracle import Talk
from worker.batching.batch import BatchLimits, BatchRules
from worker.batching.batcher import IDLE_SECONDS, Batcher
from worker.batching.closed_batch import ClosedBatch
from worker.batching.decisions import Decisions
from worker.batching.encoder import EncoderPool
from worker.batching.memory import MemoryBudget
from worker.batching.resumed_batch import ParsedEntry, grouped
from worker.model.ids import Conversation, StreamIdentity, entry_order
from worker.model.seal import Seal
from worker.model.states import Trigger
from worker.runtime.context import Context
from worker.runtime.digest import Digest
from worker.runtime.metrics import PREFIX, Metrics

LIMITS = BatchLimits(max_seconds=3.0, max_age=60.0, max_bytes=10**6, gap_tolerance=2.0)
RULES = BatchRules(LIMITS, "pcm", "start")


@dataclass
class BatcherHarness:
    """A batcher, and what a partition does with it in Redis."""

    batcher: Batcher
    metrics: Metrics
    budget: MemoryBudget
    digest: Digest
    now: float = 100.0
    _decided: Decisions = field(default_factory=Decisions)

    @property
    def decided(self) -> Decisions:
        """All that was decided so far."""
        self._decided.add(self.batcher.decisions())
        return self._decided

    def route(self, *entries: tuple[str, Chunk | End]) -> None:
        for entry, content in entries:
            item = ParsedEntry(entry, content)
            for conversation in self.batcher.unknown([item]):
                self.batcher.remember(conversation, b"")
            self.batcher.route(item)

    def count(self, name: str, **labels: str) -> float:
        return self.metrics.registry.get_sample_value(f"{PREFIX}_{name}", labels) or 0.0

    @property
    def closed(self) -> list[Seal]:
        return [closed.seal for closed in self.decided.closed]


@pytest.fixture
def make() -> Iterator[Callable[..., BatcherHarness]]:
    """`make(max_age=1.0)`: a batcher with other limits."""
    with ThreadPoolExecutor(1) as pool:

        def make(**changes: Any) -> BatcherHarness:  # noqa: ANN401 -- fields of Limits
            metrics, budget = Metrics(), MemoryBudget(10**9)
            rules = replace(RULES, limits=replace(LIMITS, **changes))
            recorder = EncoderPool(lambda _: pytest.fail("no Opus here"), pool, budget)
            context = Context(metrics, clock=lambda: made.now)
            batcher = Batcher(7, rules, recorder, lambda _: True, context)
            made = BatcherHarness(batcher, metrics, budget, context.digest)
            return made

        yield make


@pytest.fixture
def harness(make: Callable[..., BatcherHarness]) -> BatcherHarness:
    return make()


@pytest.fixture
def talk() -> Talk:
    return Talk("c", uid="u")


async def content(closed: ClosedBatch) -> bytes:
    return await closed.encoder.finish()


async def test_chunks_of_one_conversation_become_one_batch(harness: BatcherHarness, talk: Talk) -> None:
    harness.route(("1-0", talk.say(1)), ("1-1", talk.say(1)), ("2-0", talk.say(1)))
    (closed,) = harness.decided.closed
    assert (closed.partition, closed.closed_at) == (7, 100.0)
    assert (closed.seal.trigger, closed.seal.entries) == ("audio", ("1-0", "1-1", "2-0"))
    assert await content(closed) == talk.pcm
    assert closed.identities == b"".join(chunk.identity() for chunk in talk.chunks)
    assert harness.batcher.open == {}


async def test_conversations_are_kept_apart(harness: BatcherHarness) -> None:
    one, two, three = Talk("c", uid="u"), Talk("c", uid="v"), Talk("d", uid="u")
    harness.route(("1-0", one.say(1)), ("1-1", two.say(1)), ("1-2", three.say(1)), ("1-3", one.say(2)))
    assert [seal.entries for seal in harness.closed] == [("1-0", "1-3")]
    assert list(harness.batcher.open) == [("v", "c"), ("u", "d")]


async def test_duplicate_is_void(harness: BatcherHarness, talk: Talk) -> None:
    chunk = talk.say(1)
    harness.route(("1-0", chunk), ("1-1", chunk))
    assert list(harness.decided.duplicates) == ["1-1"]
    assert harness.decided.discarded == []
    assert harness.count("chunks_total") == 1


async def test_duplicate_of_what_is_stored_is_void(harness: BatcherHarness, talk: Talk) -> None:
    chunk = talk.say(1)
    harness.batcher.remember(Conversation("u", "c"), chunk.identity())
    harness.route(("1-0", chunk))
    assert harness.decided.duplicates == {"1-0": Conversation("u", "c")}
    assert harness.batcher.open == {}


async def test_duplicate_after_its_batch_was_closed_is_void(harness: BatcherHarness, talk: Talk) -> None:
    chunk = talk.say(3)
    harness.route(("1-0", chunk), ("1-1", chunk))
    assert len(harness.closed) == 1
    assert list(harness.decided.duplicates) == ["1-1"]


async def test_end_closes_and_goes_with_the_batch(harness: BatcherHarness, talk: Talk) -> None:
    harness.route(("1-0", talk.say(1)), ("1-1", talk.end()), ("1-2", talk.end()))
    (seal,) = harness.closed
    assert (seal.trigger, seal.entries, seal.markers) == ("end", ("1-0",), ("1-1",))
    assert harness.decided.discarded == ["1-2"]


async def test_numbers_that_are_missing_are_counted_by_session(harness: BatcherHarness) -> None:
    for number, (session, seq) in enumerate([(b"a", 0), (b"b", 0), (b"a", 1), (b"b", 2), (b"b", 1)]):
        harness.route((f"1-{number}", Chunk("u", "c", 1000.0 + number, b"12", seq=seq, session=session)))
    assert (harness.count("seq_missing_total"), harness.count("seq_reordered_total")) == (1, 1)


@pytest.mark.parametrize("session", [b"a", None])
async def test_end_tells_how_many_chunks_never_came(harness: BatcherHarness, session: bytes | None) -> None:
    end = End("u", "c", seq=5, session=session)
    harness.route(("1-0", Chunk("u", "c", 1000.0, b"12", seq=0, session=session)), ("1-1", end), ("1-2", end))
    assert harness.count("seq_missing_total") == 4


@pytest.mark.parametrize(("pushed", "told"), [(5, [4]), (1, [])])
async def test_end_that_no_blob_can_note_is_logged_if_chunks_are_missing(
    harness: BatcherHarness, pushed: int, told: list[int]
) -> None:
    harness.route(("1-0", Chunk("u", "c", 1000.0, b"12", seq=0, session=b"a b")))
    harness.batcher.close_all()
    with capture_logs() as logs:
        harness.route(*((f"2-{number}", End("u", "c", seq=pushed, session=b"a b")) for number in range(3)))
        harness.digest.flush()
    lines = [line for line in logs if line["event"] == "end.chunks_missing"]
    assert [line["missing"] for line in lines] == told
    assert all((line["conversation"], line["session"], line["pushed"]) == ("u/c", "a%20b", 5) for line in lines)
    assert harness.count("seq_missing_total") == sum(told)
    assert harness.decided.closed[0].ends == {}


async def test_filled_gap_is_in_the_audio_and_in_the_seal(make: Callable[..., BatcherHarness], talk: Talk) -> None:
    harness = make(max_seconds=10.0)
    first, second = talk.say(0.5), talk.say(0.5, late=3.0)
    harness.route(("1-0", first), ("1-1", second))
    harness.batcher.close_all()
    (closed,) = harness.decided.closed
    assert closed.seal.silences == {"1-1": 48000}
    assert await content(closed) == first.pcm + bytes(96000) + second.pcm
    assert harness.count("gaps_total", handling="silence") == 1
    assert harness.count("silence_seconds_total") == 3.0


async def test_gap_that_does_not_fit_closes_and_is_counted(harness: BatcherHarness, talk: Talk) -> None:
    harness.route(("1-0", talk.say(0.5)), ("1-1", talk.say(0.5, late=100)))
    assert [seal.trigger for seal in harness.closed] == ["gap"]
    assert harness.count("gaps_total", handling="closed") == 1
    assert harness.count("silence_seconds_total") == 0


async def test_late_audio_is_not_joined_by_silence_over_audio_that_came_before_it(
    make: Callable[..., BatcherHarness], talk: Talk
) -> None:
    """A chunk of 0.5 s to 1 s comes late. Silence from there to 9 s would lie over the audio from 4 s on."""
    harness = make(max_seconds=10.0)
    first, late, *middle = talk.say(0.5), talk.say(0.5), *(talk.say(0.5, late=3.0) for _ in range(10))
    last = talk.say(0.5, late=3.0)
    harness.route(("1-0", first), *((f"2-{place}", chunk) for place, chunk in enumerate(middle)))
    harness.route(("3-0", late), ("4-0", last))
    harness.batcher.close_all()
    assert [seal.entries for seal in harness.closed] == [
        ("1-0", *(f"2-{place}" for place in range(10))),
        ("3-0",),
        ("4-0",),
    ]
    assert harness.count("silence_seconds_total") == 3.5


async def test_late_audio_goes_on_in_one_batch(make: Callable[..., BatcherHarness], talk: Talk) -> None:
    harness = make(max_seconds=10.0)
    late, live = [talk.say(0.5) for _ in range(8)], talk.say(0.5, late=6.0)
    harness.route(("1-0", live), *((f"2-{place}", chunk) for place, chunk in enumerate(late)))
    harness.batcher.close_all()
    assert [seal.entries for seal in harness.closed] == [("1-0",), tuple(f"2-{place}" for place in range(8))]


async def test_age_is_told_by_the_time_of_the_stream(harness: BatcherHarness, talk: Talk) -> None:
    harness.route(("1000-0", talk.say(0.1)), ("60999-0", talk.say(0.1)), ("61000-0", talk.say(0.1)))
    assert [(seal.trigger, seal.entries) for seal in harness.closed] == [("age", ("1000-0", "60999-0"))]


async def test_aged_batches_are_closed_and_young_ones_are_not(harness: BatcherHarness) -> None:
    old, young = Talk("old"), Talk("young")
    harness.route(("1000-0", old.say(0.1)), ("2000-0", young.say(0.1)))
    harness.batcher.close_aged(61_500)
    assert [seal.conversation_id for seal in harness.closed] == ["old"]


async def test_closing_all_closes_all(harness: BatcherHarness) -> None:
    harness.route(*((f"1-{number}", Talk(f"c{number}").say(0.1)) for number in range(5)))
    harness.batcher.close_all()
    assert [seal.trigger for seal in harness.closed] == [Trigger.SHUTDOWN] * 5


async def sealed(make: Callable[..., BatcherHarness], talk: Talk) -> Seal:
    """What a former owner sealed: two chunks with a gap between, and an end."""
    former = make(max_seconds=10.0)
    former.route(("1-0", talk.say(0.5)), ("1-1", talk.say(0.5, late=3.0)), ("1-2", talk.end()))
    return former.closed[0]


async def test_sealed_batch_is_read_again_just_as_it_was(make: Callable[..., BatcherHarness], talk: Talk) -> None:
    """Under other limits too: the seal decides."""
    seal = await sealed(make, talk)
    harness = make(max_seconds=0.1)
    harness.batcher.reset([seal])
    harness.route(("1-0", talk.chunks[0]), ("1-1", talk.chunks[1]))
    assert harness.decided.completed == []
    harness.route(("1-2", talk.end()))
    (closed,) = harness.decided.completed
    assert closed.seal == seal
    assert await content(closed) == talk.chunks[0].pcm + bytes(96000) + talk.chunks[1].pcm
    assert harness.batcher.resuming() == []


async def test_audio_of_a_sealed_batch_is_audio_that_came_before(
    make: Callable[..., BatcherHarness], talk: Talk
) -> None:
    seal, harness = await sealed(make, talk), make(max_seconds=10.0)
    first, second = talk.chunks
    late, last = replace(first, timestamp=first.timestamp + 0.5, seq=7), replace(second, timestamp=second.timestamp + 2)
    harness.batcher.reset([seal])
    harness.route(("1-0", first), ("1-1", second), ("2-0", late), ("2-1", last))
    harness.batcher.close_all()
    assert [found.entries for found in harness.closed] == [("2-0",), ("2-1",)]


@pytest.mark.parametrize(("belongs", "misplaced"), [(False, 1), (True, 0)])
async def test_chunk_in_another_stream_than_that_of_its_conversation_is_taken_and_counted(
    make: Callable[..., BatcherHarness], talk: Talk, belongs: bool, misplaced: int
) -> None:
    harness = make()
    harness.batcher._counter._belongs = lambda _: belongs
    harness.route(("1-0", talk.say(1)))
    assert list(harness.batcher.held(Conversation("u", "c"))) == ["1-0"]
    assert harness.count("misplaced_chunks_total") == misplaced


async def test_duplicate_of_a_chunk_in_a_sealed_batch_is_void(make: Callable[..., BatcherHarness], talk: Talk) -> None:
    harness, seal = make(), await sealed(make, talk)
    harness.batcher.reset([seal])
    harness.route(("1-0", talk.chunks[0]), ("2-0", talk.chunks[0]))
    assert list(harness.decided.duplicates) == ["2-0"]


async def test_what_repeats_a_deleted_chunk_of_a_sealed_batch_is_new(
    make: Callable[..., BatcherHarness], talk: Talk
) -> None:
    harness, seal = make(), await sealed(make, talk)
    harness.batcher.reset([seal], {"u/c": "1000-0"})
    harness.route(("1-0", talk.chunks[0]), ("2000-0", talk.chunks[0]))
    assert harness.decided.duplicates == {}
    assert next(iter(harness.batcher.held(Conversation("u", "c")))) == "2000-0"


async def test_only_deletions_that_came_after_we_began_are_unknown(harness: BatcherHarness) -> None:
    harness.batcher.reset([], {"u/c": "1000-5"})
    assert harness.batcher.knows({"u/c": "1000-5"})
    assert not harness.batcher.knows({"u/c": "1000-10"})
    assert not harness.batcher.knows({"u/c": "1000-5", "u/": "7-0"})


async def test_sealed_batch_of_which_something_is_missing_can_be_given_up(
    make: Callable[..., BatcherHarness], talk: Talk
) -> None:
    harness, seal = make(), await sealed(make, talk)
    harness.batcher.reset([seal])
    harness.route(("1-1", talk.chunks[1]))
    (resumed,) = harness.batcher.resuming()
    assert list(resumed.missing) == ["1-0", "1-2"]
    harness.batcher.complete_resumed(resumed)
    (closed,) = harness.decided.completed
    assert await content(closed) == bytes(96000) + talk.chunks[1].pcm
    assert harness.batcher.resuming() == []


@pytest.mark.slow
async def test_looking_for_what_did_not_come_costs_in_proportion_to_what_did(
    make: Callable[..., BatcherHarness], talk: Talk, monkeypatch: pytest.MonkeyPatch
) -> None:
    harness, seal = make(), await sealed(make, talk)
    several, entries = 10, 1000
    names = [[f"{batch}-{number}" for number in range(entries)] for batch in range(1, several + 1)]
    harness.batcher.reset([replace(seal, entries=tuple(ids), markers=()) for ids in names])
    parsed: list[str] = []

    def counted(entry: str) -> tuple[int, int]:
        parsed.append(entry)
        return entry_order(entry)

    monkeypatch.setattr("worker.batching.resumed_batch.entry_order", counted)
    for page in names:
        assert harness.batcher.finished_elsewhere(page[-1], page) == []
        harness.route(*((entry, talk.chunks[0]) for entry in page))
    assert len(parsed) < 2 * several * entries


async def test_forsaken_batch_gives_its_memory_back(make: Callable[..., BatcherHarness], talk: Talk) -> None:
    harness, seal = make(), await sealed(make, talk)
    harness.batcher.reset([seal])
    (resumed,) = harness.batcher.resuming()
    harness.batcher.drop_resumed(resumed)
    assert (harness.batcher.resuming(), harness.budget.used) == ([], 0)


async def test_what_was_read_before_the_takeover_may_be_in_the_bucket_already(
    harness: BatcherHarness, talk: Talk
) -> None:
    harness.batcher.reset([], {}, StreamIdentity("5d" * 16, read_to="1000-0"))
    harness.route(("1000-0", talk.say(3)), ("1001-0", talk.say(3)))
    assert [closed.recovered for closed in harness.decided.closed] == [True, False]


@pytest.mark.parametrize("tombstone", ["u/", "u/c"])
async def test_audio_deleted_after_it_was_pushed_is_void(harness: BatcherHarness, talk: Talk, tombstone: str) -> None:
    harness.batcher.reset([], {tombstone: "1000-1"})
    harness.route(("1000-0", talk.say(1)), ("1000-1", talk.end()), ("1000-2", talk.say(1)))
    assert harness.decided.discarded == ["1000-0", "1000-1"]
    assert harness.count("deleted_entries_total") == 2
    assert list(harness.batcher.held(Conversation("u", "c"))) == ["1000-2"]


async def test_deletion_of_others_deletes_nothing(harness: BatcherHarness, talk: Talk) -> None:
    harness.batcher.reset([], {"v/": "9000-0", "u/d": "9000-0"})
    harness.route(("1-0", talk.say(1)))
    assert harness.decided.discarded == []


async def test_dropping_forgets_everything_and_gives_the_memory_back(
    make: Callable[..., BatcherHarness], talk: Talk
) -> None:
    seal = await sealed(make, Talk("sealed"))
    harness = make()
    harness.batcher.reset([seal])
    harness.route(("3-0", talk.say(3)), ("3-1", talk.say(1)), ("3-2", talk.chunks[0]))
    for recording in harness.batcher.encoders(Conversation("u", "c")):
        await recording.idle()
    harness.batcher.drop()
    assert not any((harness.batcher.open, harness.batcher.resuming()))
    assert harness.batcher.decisions() == Decisions()
    assert (harness.budget.used, harness.budget.queued) == (0, 0)
    assert harness.batcher.unknown([ParsedEntry("3-0", talk.chunks[0])]) == [Conversation("u", "c")]


async def test_held_entries_are_those_of_open_and_resumed_batches(
    make: Callable[..., BatcherHarness], talk: Talk
) -> None:
    harness, seal = make(), await sealed(make, talk)
    harness.batcher.reset([seal])
    harness.route(("1-0", talk.chunks[0]), ("1-1", talk.chunks[1]))
    harness.route(("2-0", talk.say(3)), ("2-1", talk.say(1)), ("2-2", Talk("other").say(1)))
    held = harness.batcher.held(Conversation("u", "c")) | harness.decided.identities(Conversation("u", "c"))
    assert sorted(held) == ["1-0", "1-1", "2-0", "2-1"]


async def test_history_of_a_silent_conversation_is_left_to_redis_once_its_batch_is_on_its_way(
    harness: BatcherHarness, talk: Talk
) -> None:
    item = ParsedEntry("1000-0", talk.say(3))
    harness.route((item.id, item.content))
    harness.now += IDLE_SECONDS + 1
    harness.batcher.close_aged(1000)
    assert harness.batcher.unknown([item]) == [item.conversation]


async def test_batch_whose_id_is_of_the_future_gets_old_by_the_time_it_is_here(
    harness: BatcherHarness, talk: Talk
) -> None:
    harness.route(("9999999999999-0", talk.say(1)))
    harness.batcher.close_aged(1_700_000_000_000)
    assert harness.closed == []
    harness.now += LIMITS.max_age
    harness.batcher.close_aged(1_700_000_000_000)
    assert [seal.trigger for seal in harness.closed] == ["age"]


@dataclass(frozen=True)
class Holding:
    """A blob that was found, and up to where entries may be its chunks."""

    last: str = "9-0"

    def may_hold(self, entry: str) -> bool:
        return entry_order(entry) <= entry_order(self.last)


async def test_chunk_that_the_store_was_found_to_hold_is_in_no_batch(harness: BatcherHarness, talk: Talk) -> None:
    conversation, chunk, other = Conversation("u", "c"), talk.say(1), talk.say(1)
    harness.batcher.reset([], found={conversation: {chunk.identity(): Holding()}})
    harness.route(("1-0", chunk), ("1-1", other), ("1-2", chunk))
    assert harness.decided.stored == {conversation: {"1-0": chunk.identity()}}
    assert list(harness.batcher.held(conversation)) == ["1-1"]
    assert list(harness.decided.duplicates) == ["1-2"]


async def test_chunk_of_another_stream_is_not_the_one_that_was_found(harness: BatcherHarness, talk: Talk) -> None:
    conversation, chunk = Conversation("u", "c"), talk.say(1)
    harness.batcher.reset([], found={conversation: {chunk.identity(): Holding(last="0-9")}})
    harness.route(("1-0", chunk))
    assert list(harness.batcher.held(conversation)) == ["1-0"]


async def test_batch_never_reaches_across_what_is_on_its_way(harness: BatcherHarness, talk: Talk) -> None:
    harness.route(("1-0", talk.say(1)))
    harness.batcher.interrupt(Conversation("u", "c"))
    harness.batcher.interrupt(Conversation("u", "c"))
    harness.route(("3-0", talk.say(1)))
    assert [seal.entries for seal in harness.closed] == [("1-0",)]
    assert list(harness.batcher.open[Conversation("u", "c")].batch.entries) == ["3-0"]


async def test_what_an_end_says_of_its_session_goes_with_the_batch(harness: BatcherHarness) -> None:
    chunk = Chunk("u", "c", 1.0, bytes(32000), seq=0, session=b"life")
    harness.route(("1-0", chunk), ("1-1", End("u", "c", seq=2, session=b"life")))
    (closed,) = harness.decided.closed
    assert (to_text(closed.seqs), to_text(closed.ends)) == ("life:0", "life:2")


async def test_items_are_grouped_in_their_order(talk: Talk) -> None:
    other = Talk("d", uid="u")
    items = [ParsedEntry("1-0", talk.say(1)), ParsedEntry("1-1", other.say(1)), ParsedEntry("1-2", talk.say(1))]
    assert grouped(items) == {Conversation("u", "c"): [items[0], items[2]], Conversation("u", "d"): [items[1]]}
