"""Stored audio is recognised by what it is: not by ids, which others have too, nor by what anybody may write."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import google_crc32c
import pytest

from codec.entry import Chunk
from codec.manifest import Manifest
from codec.metadata import BlobMetadata
from tests.support.failover import Pair
from tests.support.harness import EXACT, Harness, HarnessMaker, Running, eventually
from tests.support.oracle import T0, Blob, Talk, assert_plays, assert_stored_once
from tests.support.redis_server import RedisServer
from tests.support.timing import SHORT_RESTS
from worker.archive import Archive
from worker.runtime.timing import Timing
from worker.settings import Settings
from worker.stores import open_store

SHORT: dict[str, Any] = {"lease_ttl": 1.0, **EXACT}
NEVER: dict[str, Any] = {"batch_max_seconds": 60.0}
OTHER_SECRET = "a secret of somebody else's own invention"
WIDE = {"first-entry": "0-1", "last-entry": "9999999999999-0"}


@pytest.fixture
def timing() -> Timing:
    return SHORT_RESTS


async def merge(harness: Harness, source: str, target: str) -> None:
    """`audio-batch-worker copy`, as a backend does it."""
    store = open_store(f"gs://{harness.server.bucket}", emulator_host=harness.server.url)
    report = await Archive(store).copy("user", [source], target)
    await store.close()
    assert report.problems == []
    assert len(report.copies) == 1


async def all_read(running: Running, *talks: Talk) -> None:
    """Wait until a worker holds every chunk; those that come again are counted again."""
    await eventually(lambda: running.count("chunks_total") >= sum(len(talk.chunks) for talk in talks))


def assert_nothing_lost(*workers: Running) -> None:
    for running in workers:
        assert running.count("lost_entries_total") == 0
        assert running.count("duplicates_total") == 0


@pytest.mark.parametrize(("late", "killed"), [(0.0, False), (0.0, True), (0.75, True)])
async def test_copy_into_a_conversation_that_is_being_recorded(
    durable: tuple[Harness, RedisServer], late: float, killed: bool
) -> None:
    """The copy's entry ids surround those of the conversation that it was copied into."""
    harness, server = durable
    x, y = Talk("x"), Talk("y", start=T0 + late)
    async with harness.worker(**SHORT) as running:
        for _ in range(5):
            await harness.push(x.say(0.5), y.say(0.5))
        await harness.push(x.say(0.5))
        await eventually(lambda: len(harness.blobs()) == 1)
        await merge(harness, "x", "y")
        if killed:
            server.kill()
            await harness.restarted(server)
        await harness.push(y.end())
        await eventually(lambda: running.count("batches_total", trigger="end") == 1)
    await harness.assert_empty()
    copy = f"chunks/user/y/{T0:.3f}.enc"
    assert_plays(x, harness.blobs())
    assert_plays(y, [blob for blob in harness.blobs() if blob.name != copy])
    assert copy in harness.server.objects()
    assert_nothing_lost(running)


def in_the_place_of(talk: Talk, other: Talk) -> Chunk:
    """The next chunk of a talk that has its audio, and otherwise looks like the other's."""
    return replace(talk.say(0.5), conversation_id=other.conversation_id)


async def test_conversation_in_the_right_stream_and_in_a_wrong_one(durable: tuple[Harness, RedisServer]) -> None:
    harness, server = durable
    right, wrong = Talk("c"), Talk("the same in a wrong stream")
    stray = harness.keys.stream(1 - harness.partition("c"))
    async with harness.worker(**SHORT) as running:
        for _ in range(5):
            await harness.push(right.say(0.5))
            await harness.redis.xadd(stray, dict(in_the_place_of(wrong, right).fields()))
        await harness.push(right.say(0.5))
        await eventually(lambda: len(harness.blobs()) == 1)
        await all_read(running, right, wrong)
        server.kill()
        await harness.restarted(server)
        await harness.redis.xadd(stray, dict(right.end().fields()))
        await eventually(lambda: running.count("batches_total", trigger="end") == 1)
    await harness.assert_empty()
    assert_both(right, wrong, harness.blobs())
    assert_nothing_lost(running)


def assert_both(talk: Talk, other: Talk, blobs: list[Blob]) -> None:
    """Two blobs of one conversation, each of which is all of one talk."""
    assert len(blobs) == 2
    assert {blob.pcm() for blob in blobs} == {talk.pcm, other.pcm}


async def under_another_prefix(
    _: Callable[..., RedisServer], make: Callable[..., Settings], __: HarnessMaker, harness: Harness
) -> tuple[Harness, RedisServer | None]:
    return Harness(
        partial(make, stream_prefix=f"{harness.keys.prefix}-new"), harness.redis, harness.server, harness.timing
    ), None


async def on_another_redis(
    own_redis: Callable[..., RedisServer], _: Callable[..., Settings], harness_at: HarnessMaker, __: Harness
) -> tuple[Harness, RedisServer | None]:
    server = own_redis(appendonly="yes", appendfsync="always")
    return await harness_at(server, server), server


Elsewhere = Callable[..., Awaitable[tuple[Harness, RedisServer | None]]]


@pytest.mark.parametrize("elsewhere", [under_another_prefix, on_another_redis])
async def test_conversation_in_two_streams_of_the_same_number(
    elsewhere: Elsewhere,
    own_redis: Callable[..., RedisServer],
    settings: Callable[..., Settings],
    harness_at: HarnessMaker,
) -> None:
    """Under two prefixes, as when PARTITIONS is changed, or in two Redis of which both store into one bucket."""
    server = own_redis(appendonly="yes", appendfsync="always")
    one = await harness_at(server, server)
    two, second = await elsewhere(own_redis, partial(settings, redis_url=server.url), harness_at, one)
    talk, other = Talk("c"), Talk("the same elsewhere")
    async with one.worker(**SHORT, **NEVER) as here, two.worker(**SHORT, **NEVER) as there:
        for _ in range(5):
            await one.push(talk.say(0.5))
            await two.push(in_the_place_of(other, talk))
        await all_read(here, talk)
        await all_read(there, other)
        for killed in (server, second):
            if killed is not None:
                killed.kill()
                killed.start()
        for harness in (one, two):
            await harness.redis.connection_pool.disconnect()
            await harness.push(talk.say(0.5) if harness is one else in_the_place_of(other, talk), talk.end())
        await eventually(lambda: len(one.blobs()) == 2)
    await one.assert_empty()
    await two.assert_empty()
    await two.redis.aclose()
    assert_both(talk, other, one.blobs())
    assert_nothing_lost(here, there)


async def push_at(harness: Harness, chunks: list[Chunk], ids: list[str]) -> None:
    """Push with ids as a clock would give them that is behind."""
    for chunk, entry in zip(chunks, ids, strict=True):
        await harness.redis.xadd(
            harness.keys.stream(harness.partition(chunk.conversation_id)), dict(chunk.fields()), id=entry
        )


async def next_ids(harness: Harness, talk: Talk, count: int) -> list[str]:
    """The smallest ids that a stream takes."""
    facts = await harness.redis.xinfo_stream(harness.keys.stream(harness.partition(talk.conversation_id)))
    milliseconds, _, sequence = facts["last-generated-id"].decode().partition("-")
    return [f"{milliseconds}-{int(sequence) + 1 + number}" for number in range(count)]


@pytest.mark.parametrize("known", [0, 2, 5])
async def test_failover_to_a_replica_whose_clock_is_behind(paired: Harness, pair: Pair, known: int) -> None:
    """New chunks get ids within the range of a stored blob; if the replica had nothing, the very same ids."""
    talk = Talk("c")
    async with paired.worker(**SHORT) as running:
        await paired.say(talk, known / 2)
        await all_read(running, talk)
        await pair.lag()
        ids = await paired.say(talk, 3 - known / 2)
        await eventually(lambda: running.count("batches_total", trigger="audio") == 1)
        await pair.fail_over(paired)
        behind = await next_ids(paired, talk, 4) if known else ids[:4]
        await push_at(paired, [talk.say(0.5) for _ in range(4)], behind)
        await all_read(running, talk)
        await paired.push(talk.end())
        await eventually(lambda: running.count("batches_total", trigger="end") == 1)
    await paired.drain(**SHORT)
    assert len(paired.blobs()) == 2
    assert_plays(talk, paired.blobs())
    assert_nothing_lost(running)


async def stream_id(harness: Harness, talk: Talk) -> str:
    """As whoever may read Redis knows it."""
    consumers = await harness.redis.xinfo_consumers(
        harness.keys.stream(harness.partition(talk.conversation_id)), "workers"
    )
    names: list[str] = [consumer["name"].decode() for consumer in consumers]
    return next(name.removeprefix("stream:") for name in names if name.startswith("stream:"))


def forged(talk: Talk, stream: str, data: bytes) -> dict[str, str]:
    """Metadata that claim a conversation's chunks, and everything around them, under a secret of their own."""
    identities = b"".join(chunk.identity() for chunk in talk.chunks)
    manifest = Manifest.of(stream, identities, len(data), google_crc32c.value(data))
    facts = BlobMetadata(codec="pcm", sample_rate=16000, samples=48000, pre_skip=0, start=T0)
    return {**facts.to_mapping(), **manifest.to_mapping("user", talk.conversation_id, OTHER_SECRET), **WIDE}


async def put(harness: Harness, name: str, data: bytes, metadata: Mapping[str, str]) -> None:
    """Create an object as anybody may who has the right to."""
    store = open_store(f"gs://{harness.server.bucket}", emulator_host=harness.server.url)
    await store.create(name, data, metadata)
    await store.close()


@pytest.mark.parametrize("range_alone", [True, False], ids=["range", "manifest"])
async def test_object_of_somebody_without_the_secret_claims_nothing(harness: Harness, range_alone: bool) -> None:
    talk, name = Talk("c"), f"chunks/user/c/{T0:.3f}.enc"
    async with harness.worker(**EXACT) as running:
        await harness.say(talk, 2.5)
        await all_read(running, talk)
        metadata = WIDE if range_alone else forged(talk, await stream_id(harness, talk), b"nothing")
        await put(harness, name, b"nothing", metadata)
        await harness.say(talk, 0.5)
        await eventually(lambda: running.count("batches_total", trigger="audio") == 1)
    assert harness.server.objects()[name].data == b"nothing"
    ours = [blob for blob in harness.blobs() if blob.name != name]
    assert_stored_once(talk, ours)
    assert running.count("store_conflicts_total", outcome="foreign") == 1
    assert_nothing_lost(running)


async def test_manifest_of_another_conversation_with_the_same_chunks_claims_nothing(harness: Harness) -> None:
    harness.partitions = 1
    genuine, victim = Talk("c"), Talk("d")
    async with harness.worker(**EXACT) as running:
        await harness.say(genuine, 3)
        await eventually(lambda: len(harness.blobs()) == 1)
        (blob,) = harness.blobs()
        name = blob.name.replace("/c/", "/d/")
        await put(harness, name, blob.data, blob.metadata)
        await harness.push(*(replace(chunk, conversation_id="d") for chunk in genuine.chunks))
        victim.chunks, victim.pcm = genuine.chunks, genuine.pcm
        await eventually(lambda: running.count("batches_total", trigger="audio") == 2)
    assert_plays(victim, [found for found in harness.blobs() if found.name != name])
    assert running.count("store_conflicts_total", outcome="foreign") == 1


@pytest.mark.parametrize("verbatim", [True, False], ids=["older blob", "other bytes"])
async def test_genuine_manifest_that_is_replayed_claims_nothing_more(harness: Harness, verbatim: bool) -> None:
    """An older blob under the coming name, and this batch's own metadata over other bytes before its retry."""
    talk = Talk("c")
    async with harness.worker(**EXACT) as running:
        await harness.say(talk, 3)
        await eventually(lambda: len(harness.blobs()) == 1)
        (blob,) = harness.blobs()
        name = f"chunks/user/c/{T0 + 3:.3f}.enc"
        if verbatim:
            await put(harness, name, blob.data, blob.metadata)
        else:
            harness.server.fail("insert.*", "drop_reply")
            gate = harness.server.hold(stage="reply")
        await harness.say(talk, 3)
        if not verbatim:
            await gate.reached()
            resource = {"metadata": harness.server.objects()[name].metadata}
            harness.server.api.buckets.put(harness.server.bucket, name, blob.data, resource)
            gate.open()
        await eventually(lambda: running.count("batches_total", trigger="audio") == 2)
    assert harness.server.objects()[name].data == blob.data
    assert_plays(talk, [found for found in harness.blobs() if found.name != name])
    assert running.count("store_conflicts_total", outcome="foreign" if verbatim else "damaged") == 1
    assert (await harness.events())[-1]["object"] == name.replace(".000.", ".001.")
