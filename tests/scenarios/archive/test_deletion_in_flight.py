"""Deleted audio does not come back: not from the streams, not from open batches, not by an upload under way."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress

import pytest
import redis
import redis.asyncio

from codec.entry import Chunk, End
from tests.support.harness import Harness, eventually
from tests.support.oracle import Talk
from tests.support.redis_server import RedisServer
from worker.archive import Archive, Deletion
from worker.model.causes import DoneOutcome
from worker.model.done_event import DoneEvent
from worker.model.layouts import Layouts
from worker.model.seal import Seal
from worker.stores import open_store
from worker.stream.client import Client
from worker.stream.entries import DoneStep, Entries
from worker.stream.keys import Keys
from worker.stream.servers.connecting import connect
from worker.stream.tombstones import RETENTION, Tombstones

pytestmark = pytest.mark.usefixtures("no_waiting_between_tries")

Delete = Callable[..., Awaitable[Deletion]]


@pytest.fixture
async def client(redis_url: str) -> AsyncIterator[Client]:
    async with Client(connect(redis_url)) as made:
        yield made


@pytest.fixture
def tombstones(harness: Harness, client: Client) -> Tombstones:
    return Tombstones(client, harness.keys, Layouts.single(harness.partitions))


@pytest.fixture
async def delete(harness: Harness, tombstones: Tombstones) -> AsyncIterator[Delete]:
    """Delete as a backend does."""
    store = open_store(f"gs://{harness.server.bucket}", emulator_host=harness.server.url)

    async def deleted(uid: str, conversation_id: str | None = None) -> Deletion:
        return await Archive(store).delete(uid, conversation_id, tombstones=tombstones)

    yield deleted
    await store.close()


async def drained(harness: Harness) -> bool:
    return not await harness.entries() and not await harness.seals()


def told(talk: Talk) -> list[Chunk | End]:
    """A short conversation, the same each time it is pushed."""
    if not talk.chunks:
        talk.say(0.5)
        talk.say(0.5)
    return [*talk.chunks, talk.end()]


def stored(harness: Harness) -> set[str]:
    """Conversations that have blobs."""
    return {blob.name.split("/")[2] for blob in harness.blobs()}


async def test_chunks_that_nobody_read_yet_are_not_stored(harness: Harness, delete: Delete) -> None:
    await harness.say(Talk("doomed"), 4)
    await harness.say(Talk("kept"), 4)

    await delete("user", "doomed")
    running = await harness.drain()

    assert stored(harness) == {"kept"}
    assert running.count("deleted_entries_total") == 8


async def test_an_open_batch_of_a_running_worker_is_not_stored(harness: Harness, delete: Delete) -> None:
    doomed, kept = Talk("doomed"), Talk("kept")
    async with harness.worker() as running:
        await harness.say(doomed, 1)
        await harness.say(kept, 1)
        await eventually(lambda: running.count("chunks_total") == 4)

        await delete("user", "doomed")
        await harness.push(doomed.end(), kept.end())
        await eventually(lambda: stored(harness) == {"kept"})
        await eventually(lambda: drained(harness))

    assert stored(harness) == {"kept"}


async def test_audio_that_is_pushed_after_the_deletion_is_new(harness: Harness, delete: Delete) -> None:
    doomed = Talk("doomed")
    again = Talk("doomed", start=doomed.start + 500, numbered=False)
    async with harness.worker() as running:
        await harness.say(doomed, 1)
        await eventually(lambda: running.count("chunks_total") == 2)
        await delete("user", "doomed")

        await harness.say(again, 1)
        await harness.push(again.end())
        await eventually(lambda: drained(harness))

    assert [blob.name.split("/")[3] for blob in harness.blobs()] == [f"{again.start:.3f}.opus.enc"]


@pytest.mark.parametrize("scope", ["conversation", "user"])
async def test_the_same_audio_pushed_again_after_the_deletion_is_no_twin(
    harness: Harness, delete: Delete, scope: str
) -> None:
    talk = Talk("doomed")
    async with harness.worker() as running:
        for _ in range(3):
            await harness.push(*told(talk))
            await eventually(lambda: drained(harness))
            assert stored(harness) == {"doomed"}
            await delete("user", "doomed" if scope == "conversation" else None)
        assert running.count("duplicates_total") == 0


async def test_another_owner_too_takes_it_for_new(harness: Harness, delete: Delete) -> None:
    talk = Talk("doomed")
    await harness.push(*told(talk))
    await harness.drain()
    await delete("user", "doomed")

    await harness.push(*told(talk))
    await harness.drain()
    assert stored(harness) == {"doomed"}


async def test_after_a_deletion_duplicates_are_still_known(harness: Harness, delete: Delete) -> None:
    talk = Talk("doomed")
    entries = told(talk)
    async with harness.worker() as running:
        await harness.push(*entries)
        await eventually(lambda: drained(harness))
        await delete("user", "doomed")
        await harness.push(*entries)
        await eventually(lambda: drained(harness))

        await harness.push(*entries)
        await eventually(lambda: drained(harness))
        assert running.count("duplicates_total") == len(entries) - 1
    assert len(harness.blobs()) == 1


@pytest.mark.parametrize("stage", ["commit", "reply"])
@pytest.mark.parametrize("scope", ["conversation", "user"])
async def test_a_batch_that_is_being_uploaded_does_not_stay(
    harness: Harness, delete: Delete, stage: str, scope: str
) -> None:
    doomed = Talk("doomed")
    gate = harness.server.hold("insert.*", stage, name="chunks/*")  # type: ignore[arg-type]
    async with harness.worker():
        await harness.say(doomed, 1)
        await harness.push(doomed.end())
        await gate.reached()

        await delete("user", "doomed" if scope == "conversation" else None)
        gate.open()
        await eventually(lambda: drained(harness))
        await eventually(lambda: stored(harness) == set())

    assert await harness.events() == []


async def test_a_sealed_batch_of_a_dead_worker_does_not_come_back(harness: Harness, delete: Delete) -> None:
    doomed = Talk("doomed")
    gate = harness.server.hold("insert.*", name="chunks/*")
    async with harness.worker(shutdown="handoff", shutdown_grace=0.1):
        await harness.say(doomed, 1)
        await harness.push(doomed.end())
        await gate.reached()
    assert await harness.seals() == 1

    await delete("user", "doomed")
    gate.open()
    await harness.drain()

    assert stored(harness) == set()


async def test_a_user_is_deleted_in_every_partition(harness: Harness, delete: Delete) -> None:
    conversations = [f"talk-{number}" for number in range(6)]
    assert {harness.partition(name) for name in conversations} == set(range(harness.partitions))
    for name in conversations:
        await harness.say(Talk(name), 1)
    await harness.say(Talk("kept", uid="user2"), 1)

    await delete("user")
    await harness.drain()

    assert stored(harness) == {"kept"}


async def test_an_upload_that_ends_after_all_others_is_told_to_remove_its_object(
    harness: Harness, client: Client, tombstones: Tombstones
) -> None:
    entry = (await harness.say(Talk("doomed"), 0.5))[0]
    await harness.redis.xtrim(harness.keys.stream(harness.partition("doomed")), maxlen=0)
    seal = seal_of(entry, "doomed")
    entries = Entries(client, harness.keys, "a worker that was paused")

    event = DoneEvent("user", "doomed", seal.object)
    step = DoneStep(harness.partition("doomed"), seal, [entry], "0123456789abcdef", b"", event, "a server")
    assert await entries.done(step) == (DoneOutcome.GONE, "")
    await tombstones.record_deletion("user", "doomed")
    assert await entries.done(step) == (DoneOutcome.DELETED, "")


async def test_dead_letters_of_the_deleted_go_and_others_stay(harness: Harness, delete: Delete) -> None:
    for conversation in ("doomed", "kept"):
        fields = dict(Talk(conversation).say(0.5).fields()) | {"sample_rate": "11025"}
        for _ in range(25):
            await harness.redis.xadd(harness.keys.stream(harness.partition(conversation)), fields)
    await harness.drain()
    assert len(await harness.dead()) == 50

    deletion = await delete("user", "doomed")

    assert deletion.dead_letters == 25
    assert {letter[b"conversation_id"] for letter in await harness.dead()} == {b"kept"}


async def test_a_full_redis_takes_tombstones(own_redis: Callable[..., RedisServer]) -> None:
    server = own_redis(maxmemory="3mb")
    client = Client(connect(server.url))
    with server.client() as plain:
        fill(plain)
    dead_lettered = await Tombstones(client, Keys("full"), Layouts.single(4)).record_deletion("user")
    await client.close()

    assert dead_lettered.partitions == 4


async def test_a_tombstone_stays_until_nothing_can_meet_it(harness: Harness, tombstones: Tombstones) -> None:
    partition = harness.partition("doomed")
    deleted, stream = harness.keys.deleted(partition), harness.keys.stream(partition)
    now = int((await harness.redis.time())[0]) * 1000
    old = now - int(RETENTION * 1000)
    await harness.redis.hset(deleted, mapping={"met/": old - 5_000, "still met/": old - 2_000, "young/": old + 60_000})
    await harness.redis.xadd(stream, {"entry": "older than one tombstone"}, id=f"{old - 3_000}-0")

    await tombstones.record_deletion("user", "doomed")

    assert set(await harness.redis.hkeys(deleted)) == {b"still met/", b"young/", b"user/doomed"}


async def test_a_deletion_costs_the_same_among_many_earlier_ones(harness: Harness, tombstones: Tombstones) -> None:
    deleted = harness.keys.deleted(harness.partition("doomed"))
    await harness.redis.hset(deleted, mapping={f"user{number}/": 1 for number in range(1000)})
    await tombstones.record_deletion("user", "doomed")
    first = await harness.redis.hlen(deleted)
    assert 960 < first < 1001
    for _ in range(100):
        await tombstones.record_deletion("user", "doomed")
    assert await harness.redis.hlen(deleted) < first / 2


def fill(server: redis.Redis) -> None:
    with suppress(redis.exceptions.OutOfMemoryError):
        while True:
            server.xadd("filler", {"pcm": bytes(100_000)})


def seal_of(entry: str, conversation: str) -> Seal:
    return Seal(
        object=f"chunks/user/{conversation}/1.000.opus.enc",
        uid="user",
        conversation_id=conversation,
        start=1.0,
        last_start=1.0,
        sample_rate=16000,
        samples=8000,
        protection="enhanced",
        codec="opus",
        trigger="end",
        entries=(entry,),
    )
