"""A deletion is a position in a stream: whatever clocks and ids are up to, it covers exactly what was pushed before."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable
from importlib.resources import files

import pytest

from codec.entry import partition_of
from tests.support.partition_owner import PARTITIONS, Raw
from tests.support.redis_server import RedisServer
from worker.model.layouts import Layouts
from worker.stream.client import Client
from worker.stream.keys import GROUP, Keys
from worker.stream.scripting import BEGINNINGS
from worker.stream.servers.connecting import connect
from worker.stream.tombstones import Tombstones

FUTURE = "9999999999999-0"


@pytest.fixture
def tombstones(client: Client, keys: Keys) -> Tombstones:
    return Tombstones(client, keys, Layouts.single(PARTITIONS))


@pytest.fixture
def stream(keys: Keys) -> str:
    """That of the conversation "talk"."""
    return keys.stream(partition_of("talk", PARTITIONS))


async def recorded(raw: Raw, stream: str) -> dict[str, str]:
    found = await raw.hgetall(f"{stream}:deleted")
    return {field.decode(): value.decode() for field, value in found.items()}


async def stream_ids(raw: Raw, stream: str) -> list[str]:
    consumers = [consumer["name"].decode() for consumer in await raw.xinfo_consumers(stream, GROUP)]
    return [name.removeprefix("stream:") for name in consumers if name.startswith("stream:")]


async def test_a_deletion_is_recorded_as_the_last_id_of_the_stream(
    raw: Raw, stream: str, tombstones: Tombstones
) -> None:
    last = [await raw.xadd(stream, {"a": "b"}) for _ in range(3)][-1].decode()

    dead_lettered = await tombstones.record_deletion("user", "talk")

    assert await recorded(raw, stream) == {"user/talk": last}
    assert list(dead_lettered.streams.values()) == [last]


async def test_an_entry_that_is_gone_still_counts(raw: Raw, stream: str, tombstones: Tombstones) -> None:
    last = await raw.xadd(stream, {"a": "b"})
    await raw.xdel(stream, last)

    await tombstones.record_deletion("user", "talk")

    assert await recorded(raw, stream) == {"user/talk": last.decode()}


async def test_an_id_of_the_future_is_covered_and_what_follows_it_is_not(
    raw: Raw, stream: str, tombstones: Tombstones
) -> None:
    await raw.xadd(stream, {"a": "b"}, id=FUTURE)

    await tombstones.record_deletion("user", "talk")

    assert await recorded(raw, stream) == {"user/talk": FUTURE}
    assert await raw.xadd(stream, {"a": "b"}) == b"9999999999999-1"


async def test_a_stream_has_one_random_id_from_its_first_deletion_on(
    raw: Raw, stream: str, tombstones: Tombstones
) -> None:
    await raw.xadd(stream, {"a": "b"})
    ids = {stream for _ in range(3) for stream in (await tombstones.record_deletion("user", "talk")).streams}

    assert list(ids) == await stream_ids(raw, stream)
    assert re.fullmatch("[0-9a-f]{32}", ids.pop())


async def test_the_id_that_a_worker_gave_it_stays(raw: Raw, stream: str, tombstones: Tombstones) -> None:
    await raw.xgroup_create(stream, GROUP, "0", mkstream=True)
    await raw.execute_command("XGROUP", "CREATECONSUMER", stream, GROUP, f"stream:{'ab' * 16}")
    await raw.execute_command("XGROUP", "CREATECONSUMER", stream, GROUP, "a worker")

    assert list((await tombstones.record_deletion("user", "talk")).streams) == ["ab" * 16]


async def test_a_stream_whose_data_are_lost_is_another_one(raw: Raw, stream: str, tombstones: Tombstones) -> None:
    await raw.xadd(stream, {"a": "b"})
    before = (await tombstones.record_deletion("user", "talk")).streams
    await raw.delete(stream)
    await raw.xadd(stream, {"a": "b"})

    assert before.keys().isdisjoint((await tombstones.record_deletion("user", "talk")).streams)


async def test_nothing_pushed_before_the_first_worker_is_missed(raw: Raw, stream: str, tombstones: Tombstones) -> None:
    """The group that a deletion makes begins at the first entry."""
    first = await raw.xadd(stream, {"a": "b"})
    await tombstones.record_deletion("user", "talk")

    ((_, entries),) = await raw.xreadgroup(GROUP, "worker", {stream: ">"})
    assert [entry for entry, _ in entries] == [first]


async def test_where_nothing_was_pushed_nothing_is_made_and_an_earlier_deletion_stays(
    raw: Raw, stream: str, tombstones: Tombstones
) -> None:
    await raw.hset(f"{stream}:deleted", "user/talk", FUTURE)

    dead_lettered = await tombstones.record_deletion("user", "talk")

    assert dead_lettered.streams == {}
    assert not await raw.exists(stream)
    assert await recorded(raw, stream) == {"user/talk": FUTURE}


async def test_a_user_is_deleted_up_to_the_last_entry_of_each_stream(
    raw: Raw, keys: Keys, tombstones: Tombstones
) -> None:
    used = [keys.stream(partition) for partition in (1, 3)]
    last = {stream: (await raw.xadd(stream, {"a": "b"})).decode() for stream in used}

    dead_lettered = await tombstones.record_deletion("user")

    assert sorted(dead_lettered.streams.values()) == sorted(last.values())
    for stream in used:
        assert await recorded(raw, stream) == {"user/": last[stream]}


async def test_tombstones_of_the_future_stay_and_old_ones_go(raw: Raw, stream: str, tombstones: Tombstones) -> None:
    await raw.hset(f"{stream}:deleted", mapping={"a/": FUTURE, "b/": "1000-7", "c/": "1000"})

    await tombstones.record_deletion("user", "talk")

    assert await recorded(raw, stream) == {"a/": FUTURE}


@pytest.mark.parametrize(
    ("entry", "tombstone", "covered"),
    [
        ("5-1", "5-1", True),
        ("5-2", "5-1", False),
        ("5-10", "5-9", False),
        ("9-0", "10-0", True),
        ("10-0", "9-99", False),
        ("5-99", "5", True),
        ("6-0", "5", False),
        ("5-1", False, False),
    ],
)
async def test_scripts_compare_positions_as_numbers(raw: Raw, entry: str, tombstone: str | bool, covered: bool) -> None:
    parts = (files("worker.stream") / "scripts" / f"{part}.lua" for part in BEGINNINGS["tombstone"])
    source = "\n".join(part.read_text() for part in parts)
    given = "false" if tombstone is False else f"'{tombstone}'"

    assert await raw.eval(f"{source}\nreturn is_up_to('{entry}', {given})", 0) == (1 if covered else None)


@pytest.fixture
async def replicated(own_redis: Callable[..., RedisServer]) -> AsyncIterator[tuple[Client, RedisServer]]:
    """A primary with some audio, and its replica."""
    primary, replica = own_redis(repl_diskless_sync_delay="0"), own_redis()
    with replica.client() as follower:
        follower.replicaof("127.0.0.1", primary.port)
    async with Client(connect(primary.url)) as client:
        await client.nodes[0].redis.xadd(Keys("pcm").stream(0), {"a": "b"})
        while not await client.nodes[0].redis.wait(1, 1000):
            await client.nodes[0].redis.xadd(Keys("pcm").stream(0), {"a": "b"})
        yield client, replica


@pytest.mark.slow
async def test_a_deletion_that_the_replica_has_is_confirmed(replicated: tuple[Client, RedisServer]) -> None:
    client, replica = replicated

    dead_lettered = await Tombstones(client, Keys("pcm"), Layouts.single(PARTITIONS)).record_deletion("user")

    assert (dead_lettered.replicas, dead_lettered.unconfirmed) == (1, 0)
    with replica.client() as follower:
        assert follower.hexists(Keys("pcm").deleted(0), "user/")


@pytest.mark.slow
async def test_a_replica_that_does_not_confirm_is_told(replicated: tuple[Client, RedisServer]) -> None:
    client, replica = replicated
    replica.pause()

    dead_lettered = await Tombstones(client, Keys("pcm"), Layouts.single(PARTITIONS)).record_deletion("user")

    assert (dead_lettered.replicas, dead_lettered.unconfirmed) == (1, 1)


async def test_without_replicas_nothing_is_unconfirmed(raw: Raw, stream: str, tombstones: Tombstones) -> None:
    await raw.xadd(stream, {"a": "b"})

    dead_lettered = await tombstones.record_deletion("user", "talk")

    assert (dead_lettered.replicas, dead_lettered.unconfirmed) == (0, 0)
