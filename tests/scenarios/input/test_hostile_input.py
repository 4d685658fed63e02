"""Masses of bad entries and of tiny conversations: good audio is stored, every bad entry becomes a dead letter."""

from __future__ import annotations

from collections import Counter
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from codec.entry import parse
from codec.errors import BadEntry
from tests.support.harness import EXACT, Harness
from tests.support.hostile import Fields, hostile
from tests.support.oracle import Talk, assert_stored_once
from tests.tools.fuzz.targets import TARGETS

BAD = 5000
CONVERSATIONS = 200
LONGEST_REASON = 200


def refusal(fields: Fields) -> str | None:
    """The reason, if an entry is refused."""
    try:
        parse(fields)
    except BadEntry as error:
        return error.reason
    return None


@given(st.integers(min_value=0))
def test_every_hostile_entry_is_refused_with_a_reason_of_bounded_size(seed: int) -> None:
    reason = refusal(hostile(Random(seed)))
    assert reason is not None
    assert 0 < len(reason) <= LONGEST_REASON
    assert reason.isascii()
    assert reason.isprintable()


FIELD = st.sampled_from(
    [b"uid", b"conversation_id", b"timestamp", b"pcm", b"sample_rate", b"protection", b"seq", b"end"]
)


@given(
    st.dictionaries(FIELD | st.binary(max_size=300), st.binary(max_size=3000) | st.from_regex(rb"\d{0,40}\.?\d{0,40}"))
)
def test_any_fields_are_a_chunk_an_end_or_refused_with_a_short_reason(fields: dict[bytes, bytes]) -> None:
    reason = refusal(fields)
    assert reason is None or 0 < len(reason) <= LONGEST_REASON


@settings(max_examples=30, deadline=None)
@given(st.binary(max_size=4000))
def test_no_entries_bring_the_batch_logic_down_or_get_lost_in_it(data: bytes) -> None:
    TARGETS["batches"](data)


async def test_thousands_of_hostile_entries_among_good_ones(harness: Harness) -> None:
    random, talks = Random(1), [Talk(f"good-{number}") for number in range(5)]
    sent: Counter[frozenset[tuple[bytes, bytes]]] = Counter()
    async with harness.redis.pipeline(transaction=False) as pipe:
        for number in range(BAD):
            fields = hostile(random)
            sent[frozenset(fields.items())] += 1
            pipe.xadd(harness.keys.stream(number % harness.partitions), dict(fields))
            if number % 100 == 0:
                talk = random.choice(talks)
                pipe.xadd(harness.keys.stream(harness.partition(talk.conversation_id)), dict(talk.say(0.1).fields()))
        await pipe.execute()
    running = await harness.drain(**EXACT)
    letters = await harness.dead()
    assert all(letter.pop(b"reason") and letter.pop(b"entry") and letter.pop(b"at") for letter in letters)
    assert Counter(frozenset(letter.items()) for letter in letters) == sent
    assert running.count("dead_letters_total", kind="invalid") == BAD
    assert running.count("rewinds_total", cause="refused") == 0
    for talk in talks:
        assert_stored_once(talk, harness.blobs())


async def test_many_conversations_of_a_single_chunk(harness: Harness) -> None:
    talks = [Talk(f"short-{number}") for number in range(CONVERSATIONS)]
    await harness.push(*(talk.say(0.02) for talk in talks))
    running = await harness.drain(**EXACT)
    assert running.count("batches_total", trigger="shutdown") == len(harness.blobs()) == CONVERSATIONS
    assert running.count("memory_bytes") < 64_000_000
    stored = {blob.name.split("/")[2]: blob.pcm() for blob in harness.blobs()}
    assert stored == {talk.conversation_id: talk.pcm for talk in talks}
