"""What can't be processed becomes a dead letter with its reason; its neighbours do not notice."""

from __future__ import annotations

import os

import pytest

from tests.support.harness import Harness, eventually
from tests.support.oracle import Talk, assert_stored_once, blobs_of

GOOD = {b"uid": b"bad", b"conversation_id": b"c", b"timestamp": b"1700000000", b"pcm": bytes(3200)}

OWN = "; own fields begin with x-"
CASES: list[tuple[str, dict[bytes, bytes], str]] = [
    ("no uid", {b"uid": b""}, "uid is missing"),
    ("no conversation", {b"conversation_id": b""}, "conversation_id is missing"),
    ("no timestamp", {b"timestamp": b""}, "timestamp is missing"),
    ("no pcm", {b"pcm": b""}, "pcm is missing"),
    ("unknown field", {b"codec": b"flac"}, "field 'codec' does not belong in this kind of entry" + OWN),
    ("text as time", {b"timestamp": b"noon"}, "timestamp 'noon' is not Unix seconds as decimal text"),
    ("infinite time", {b"timestamp": b"inf"}, "timestamp 'inf' is not Unix seconds as decimal text"),
    ("no number", {b"timestamp": b"nan"}, "timestamp 'nan' is not Unix seconds as decimal text"),
    ("negative time", {b"timestamp": b"-1"}, "timestamp '-1' is not Unix seconds as decimal text"),
    ("huge time", {b"timestamp": b"1e308"}, "timestamp '1e308' is not Unix seconds as decimal text"),
    ("uid that climbs", {b"uid": b".."}, "uid '..' can't be part of an object name"),
    ("uid with a path", {b"uid": b"../../etc"}, "uid '../../etc' can't be part of an object name"),
    ("conversation with a path", {b"conversation_id": b"a/b"}, "conversation_id 'a/b' can't be part of an object name"),
    ("control character", {b"uid": b"a\n"}, "uid 'a\\n' can't be part of an object name"),
    ("long uid", {b"uid": b"x" * 257}, "uid has 257 bytes, more than 256"),
    ("uid that is no text", {b"uid": b"\xff"}, "uid of 1 bytes is not UTF-8"),
    (
        "unsupported rate",
        {b"sample_rate": b"44100"},
        "sample_rate '44100' is not supported; give 8000, 12000, 16000, 24000 or 48000",
    ),
    ("rate zero", {b"sample_rate": b"0"}, "sample_rate '0' is not supported; give 8000, 12000, 16000, 24000 or 48000"),
    ("unknown protection", {b"protection": b"none"}, "protection 'none' is unknown; give standard, enhanced or e2ee"),
    ("negative number", {b"seq": b"-1"}, "seq '-1' is not a counter from 0 to 999999999999999"),
    ("half a sample", {b"pcm": b"\x01"}, "pcm of 1 bytes does not end at a whole sample"),
    ("audio with an end", {b"end": b"1"}, "field 'timestamp' does not belong in this kind of entry" + OWN),
]


async def test_bad_entries_are_buried_as_they_are_with_their_reasons(harness: Harness) -> None:
    harness.partitions = 1
    neighbour = Talk("c")
    pushed = {}
    for case, change, _ in CASES:
        await harness.push(neighbour.say(0.1))
        fields = {name: value for name, value in (GOOD | change).items() if value}
        pushed[await harness.redis.xadd(harness.keys.stream(0), dict(fields))] = case, fields
    running = await harness.drain(blob_codec="pcm")
    letters = {letter.pop(b"entry"): letter for letter in await harness.dead()}
    reasons = {pushed[entry][0]: letter.pop(b"reason").decode() for entry, letter in letters.items()}
    for entry, letter in letters.items():
        assert abs(float(letter.pop(b"at")) * 1000 - int(entry.split(b"-")[0])) < 60_000
    assert reasons == {case: reason for case, _, reason in CASES}
    assert letters == {entry: fields for entry, (_, fields) in pushed.items()}
    assert running.count("dead_letters_total", kind="invalid") == len(CASES)
    assert len(harness.blobs()) == 1
    assert_stored_once(neighbour, harness.blobs())


@pytest.mark.parametrize("name", [b"pcm", b"uid", b"conversation_id", b"timestamp", b"seq", b"x-mine", b"other"])
async def test_entry_with_a_field_twice_is_buried_with_both_values(harness: Harness, name: bytes) -> None:
    harness.partitions = 1
    neighbour = Talk("c")
    await harness.push(neighbour.say(0.1))
    fields = [part for field in GOOD.items() for part in field] + [name, b"1", name, b"2"]
    await harness.redis.execute_command("XADD", harness.keys.stream(0), "*", *fields)
    await harness.drain()
    raw = await harness.redis.eval("return redis.call('XRANGE', KEYS[1], '-', '+')", 1, harness.keys.dead(0))
    ((_, letter),) = raw
    assert letter[: len(fields)] == fields
    assert f"field '{name.decode()}' is there more than once".encode() in letter
    assert_stored_once(neighbour, harness.blobs())


async def test_empty_pcm_is_buried(harness: Harness) -> None:
    harness.partitions = 1
    await harness.redis.xadd(harness.keys.stream(0), dict(GOOD | {b"pcm": b""}))
    await harness.drain()
    assert [letter[b"reason"] for letter in await harness.dead()] == [b"pcm is empty"]


@pytest.mark.parametrize("fields", [{b"hello": b"world"}, {b"\xff\x00": b"\x00" * 1000}, {b"reason": b"mine"}])
async def test_entry_that_is_no_chunk_at_all_is_buried(harness: Harness, fields: dict[bytes, bytes]) -> None:
    harness.partitions = 1
    await harness.redis.xadd(harness.keys.stream(0), dict(fields))
    await harness.drain()
    assert len(await harness.dead()) == 1
    assert harness.blobs() == []


async def test_all_whole_samples_of_an_odd_byte_count_are_kept(harness: Harness) -> None:
    harness.partitions = 1
    pcm = os.urandom(3201)
    await harness.redis.xadd(harness.keys.stream(0), dict(GOOD | {b"pcm": pcm}))
    running = await harness.drain(blob_codec="pcm")
    (blob,) = harness.blobs()
    assert blob.pcm() == pcm[:-1]
    assert running.count("trimmed_chunks_total") == 1
    assert await harness.dead() == []


async def test_chunk_of_100_mb_is_buried_between_neighbours_that_are_stored(harness: Harness) -> None:
    harness.partitions = 1
    neighbour = Talk("c")
    await harness.say(neighbour, 1)
    await harness.redis.xadd(harness.keys.stream(0), dict(GOOD | {b"pcm": bytes(100_000_000)}))
    await harness.say(neighbour, 1)
    await harness.drain(blob_codec="pcm")
    (letter,) = await harness.dead()
    assert letter[b"reason"] == b"the entry has 100000044 bytes, more than any chunk"
    assert len(letter[b"pcm"]) == 100_000_000
    assert_stored_once(neighbour, harness.blobs())


async def test_thousand_bad_entries_among_good_ones(harness: Harness) -> None:
    harness.partitions = 1
    talk = Talk("c")
    async with harness.redis.pipeline(transaction=False) as pipe:
        for number in range(1000):
            pipe.xadd(harness.keys.stream(0), {"nonsense": str(number)})
            if number % 100 == 0:
                pipe.xadd(harness.keys.stream(0), dict(talk.say(0.1).fields()))
        await pipe.execute()
    await harness.drain(blob_codec="pcm")
    assert [letter[b"nonsense"] for letter in await harness.dead()] == [b"%d" % number for number in range(1000)]
    assert len(blobs_of(talk, harness.blobs())) == 1
    assert_stored_once(talk, harness.blobs())


async def test_memory_that_dead_letters_take_shows_until_they_are_gone(harness: Harness) -> None:
    harness.partitions = 1
    for _ in range(10):
        await harness.redis.xadd(harness.keys.stream(0), {"garbage": bytes(100_000)})
    async with harness.worker() as running:
        await eventually(lambda: running.count("dead_letters_total", kind="invalid") == 10)
        await running.worker._monitor.observe_redis()
        assert running.count("dead_letters_held") == 10
        assert 1_000_000 < running.count("dead_letters_bytes") < 3_000_000
        assert running.count("backlog_entries") == 0
        await harness.redis.delete(harness.keys.dead(0))
        await running.worker._monitor.observe_redis()
        assert running.count("dead_letters_held") == running.count("dead_letters_bytes") == 0
