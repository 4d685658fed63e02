"""Stray streams: audio that no worker reads is found, nothing else is, and its entries move exactly once."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Callable

import pytest

from codec.entry import Chunk, End, partition_of
from tests.support.partition_owner import Raw
from tests.support.proxy import Proxy
from tests.support.redis_cluster import RedisCluster
from tests.support.redis_server import RedisServer
from worker.errors import StreamError
from worker.model.causes import MoveOutcome
from worker.model.layouts import Layouts
from worker.stream.client import Client
from worker.stream.inspection.strays import PAGE, SCAN_STEP, Stray, Strays
from worker.stream.keys import GROUP, Keys
from worker.stream.servers.connecting import connect

KEYS = Keys("pcm")
PARTITIONS = 64
LAYOUTS = Layouts.single(PARTITIONS)
HOME = KEYS.stream(partition_of("c", PARTITIONS))
OTHERS = {"job": "7", "payload": "x"}


def chunk(conversation_id: str = "c", seq: int = 0) -> dict[str, bytes | str]:
    return Chunk("u", conversation_id, 1000.0 + seq, bytes([seq % 256, 1]) * 800, seq=seq, session=b"s").fields()


@pytest.fixture
def server(own_redis: Callable[..., RedisServer]) -> RedisServer:
    return own_redis()


@pytest.fixture
async def client(server: RedisServer) -> AsyncIterator[Client]:
    async with Client(connect(server.url)) as client:
        yield client


@pytest.fixture
def strays(client: Client) -> Strays:
    return Strays(client, KEYS, lambda: LAYOUTS)


@pytest.fixture
def raw(client: Client) -> Raw:
    return client.nodes[0].redis


async def moved(strays: Strays, stray: Stray, *, dry_run: bool = False) -> Counter[str]:
    return Counter([one.outcome async for one in strays.move(stray, dry_run=dry_run)])


async def everything(raw: Raw) -> dict[str, list[dict[bytes, bytes]]]:
    """The entries of all streams, by key."""
    keys = sorted([key async for key in raw.scan_iter(count=1000, _type="stream")])
    return {key.decode(): [fields for _, fields in await raw.xrange(key)] for key in keys}


@pytest.mark.parametrize(
    "key",
    [
        *("pcm:59", "pcm:{64}", "pcm:{99}", "pcm:{059}", "pcm{5}", "pcm:-1", "pcm:{3}:", "pcm:extra", "pcm"),
        *("pmc:{3}", "pmc:3", "PCM:{3}", "a:b:{3}", "pcm:eu:{3}", "pcm:{3}:lease", "pcm:{3}:seen:u/c}", "pcm:workers"),
        *("{3}", ":{3}", '"pcm:{3}"', "'pcm:3'", "pcm:{3}\n", " {3}"),
    ],
)
async def test_audio_that_no_worker_reads_is_found(strays: Strays, raw: Raw, key: str) -> None:
    oldest = (await raw.xadd(key, chunk())).decode()
    await raw.xadd(key, dict(End("u", "c").fields()))

    (stray,) = await strays.find()

    assert (stray.key, stray.entries, stray.oldest, stray.claimed) == (key, 2, oldest, False)
    assert stray.reason


@pytest.mark.parametrize(
    "key", ["pcm:{0}", "pcm:{63}", "pcm:{3}:done", "pcm:{3}:dead", "pcm:{99}:dead", "pcm2:{3}:dead"]
)
async def test_keys_that_workers_write_or_read_are_not_stray(strays: Strays, raw: Raw, key: str) -> None:
    await raw.xadd(key, chunk())

    assert await strays.find() == []


@pytest.mark.parametrize("key", ["jobs:{3}", "jobs:3", "pcm:levels", "levels"])
async def test_streams_of_other_programs_are_left_alone(strays: Strays, raw: Raw, key: str) -> None:
    await raw.xadd(key, OTHERS)

    assert await strays.find() == []


async def test_other_names_count_only_if_all_of_it_looks_like_ours(strays: Strays, raw: Raw) -> None:
    await raw.xadd("audio", chunk())
    await raw.xadd("mixed:3", chunk())
    await raw.xadd("mixed:3", OTHERS)
    await raw.xadd("read:3", chunk())
    await raw.xgroup_create("read:3", "others", "0")
    await raw.xadd("empty:3", chunk())
    await raw.xtrim("empty:3", 0, approximate=False)
    await raw.set("text:3", "x")

    assert await strays.find() == []


async def test_stream_without_a_number_counts_only_if_it_is_named(strays: Strays, raw: Raw) -> None:
    for key in ("voice", "audio:c1"):
        oldest = (await raw.xadd(key, chunk())).decode()
        stray = await strays.named(key)
        assert stray is not None
        assert (stray.key, stray.entries, stray.oldest, stray.claimed) == (key, 1, oldest, True)
    assert await strays.find() == []


@pytest.mark.parametrize(
    "key", ["jobs", "read", "missing", "text", "pcm:{3}", "pcm:{3}:dead", "oth:{3}:lease", "pcm:5"]
)
async def test_what_is_no_stray_stream_is_none_by_name_either(strays: Strays, raw: Raw, key: str) -> None:
    if key == "text":
        await raw.set(key, "x")
    elif key != "missing":
        await raw.xadd(key, OTHERS if key == "jobs" else chunk())
    if key == "read":
        await raw.xgroup_create(key, "others", "0")

    assert await strays.named(key) is None


async def test_another_installation_minds_its_own_streams(strays: Strays, raw: Raw) -> None:
    await raw.xadd("pcm2:{300}", chunk())
    await raw.hset("pcm2:config", "partitions", "256")
    (claimed,) = await strays.find()
    assert claimed.claimed
    assert "STREAM_PREFIX pcm2" in claimed.reason

    await raw.hset("pcm2:workers", "anna", "1 {}")
    assert await strays.find() == []


async def test_the_search_takes_small_steps_and_changes_nothing(strays: Strays, raw: Raw) -> None:
    async with raw.pipeline(transaction=False) as pipe:
        for number in range(3000):
            pipe.set(f"other:{number}", "x")
        for key in ("pcm:59", "pmc:{3}"):
            pipe.xadd(key, chunk())
        await pipe.execute()
    before = await everything(raw)

    assert {stray.key for stray in await strays.find()} == {"pcm:59", "pmc:{3}"}

    assert (await raw.info("commandstats"))["cmdstat_scan"]["calls"] >= 3002 // SCAN_STEP
    assert await everything(raw) == before


async def test_every_entry_moves_once_to_its_partition_as_it_was(strays: Strays, raw: Raw) -> None:
    pushed = [chunk(f"c{number % 5}", number) for number in range(3 * PAGE + 1)]
    for fields in pushed:
        await raw.xadd("pcm:59", fields | {"traceparent": "kept"})
    (stray,) = await strays.find()

    assert await moved(strays, stray, dry_run=True) == {MoveOutcome.MOVED: len(pushed)}
    assert set(await everything(raw)) == {"pcm:59"}
    assert await moved(strays, stray) == {MoveOutcome.MOVED: len(pushed)}

    found = await everything(raw)
    assert set(found) == {KEYS.stream(partition_of(f"c{number}", PARTITIONS)) for number in range(5)}
    for key, entries in found.items():
        assert [int(fields[b"seq"]) for fields in entries] == sorted(int(fields[b"seq"]) for fields in entries)
        assert {fields[b"traceparent"] for fields in entries} == {b"kept"}
        assert all(key == KEYS.stream(partition_of(fields[b"conversation_id"].decode(), 64)) for fields in entries)
    assert Counter(fields[b"pcm"] for entries in found.values() for fields in entries) == Counter(
        fields["pcm"] for fields in pushed
    )
    assert await strays.find() == []


async def test_a_move_that_was_cut_off_is_completed_by_the_next(server: RedisServer, raw: Raw) -> None:
    pushed = Counter[int]()
    for number in range(2 * PAGE):
        await raw.xadd("pcm:{99}", chunk(f"c{number % 3}", number))
        pushed[number] += 1
    async with Proxy(server.port) as proxy:
        for _ in range(4):
            async with Client(connect(proxy.url, timeout=2)) as cut_off:
                doomed = Strays(cut_off, KEYS, lambda: LAYOUTS)
                (stray,) = await doomed.find()
                pages = doomed.move(stray)
                lost = proxy.drop_reply(to=b"EVAL")
                with pytest.raises(StreamError):
                    async for _ in pages:
                        pass
                assert lost.is_set()
            found = await everything(raw)
            assert Counter(int(fields[b"seq"]) for entries in found.values() for fields in entries) == pushed
            if "pcm:{99}" not in found:
                break
    async with Client(connect(server.url)) as client:
        strays = Strays(client, KEYS, lambda: LAYOUTS)
        for stray in await strays.find():
            await moved(strays, stray)
    found = await everything(raw)
    assert "pcm:{99}" not in found
    assert Counter(int(fields[b"seq"]) for entries in found.values() for fields in entries) == pushed


async def test_a_connection_that_is_cut_in_between_does_not_change_the_order(server: RedisServer, raw: Raw) -> None:
    entries = [(await raw.xadd("pcm:{99}", chunk("c", number))).decode() for number in range(PAGE + 5)]
    async with Proxy(server.port) as proxy, Client(connect(proxy.url, timeout=2)) as client:
        strays = Strays(client, KEYS, lambda: LAYOUTS)
        (stray,) = await strays.find()
        for cut_at in (entries[3], entries[PAGE + 2]):
            lost = proxy.drop_request(cut_at.encode())
            with pytest.raises(StreamError):
                await moved(strays, stray)
            assert lost.is_set()
        await moved(strays, stray)

    assert [int(fields[b"seq"]) for fields in (await everything(raw))[HOME]] == list(range(PAGE + 5))


async def test_partition_that_refuses_one_entry_gets_no_later_one(strays: Strays, raw: Raw) -> None:
    for number in range(3):
        await raw.xadd("pcm:59", chunk("c", number))
    await raw.set(HOME, "no stream")
    (stray,) = await strays.find()

    moves = strays.move(stray)
    outcomes = [(await anext(moves)).outcome]
    await raw.delete(HOME)
    outcomes += [one.outcome async for one in moves]

    assert outcomes == 3 * [MoveOutcome.REFUSED]
    assert set(await everything(raw)) == {"pcm:59"}


async def test_what_is_not_ours_stays_and_is_named(strays: Strays, raw: Raw) -> None:
    odd: list[dict[str, bytes | str]] = [
        dict(OTHERS),
        {"uid": "u", "pcm": "x"},
        chunk() | {"conversation_id": "x" * 257},
        chunk() | {f"field {number}": "" for number in range(1001)},
    ]
    for fields in (chunk("a"), *odd, chunk("b")):
        await raw.xadd("pcm:59", fields)
    (stray,) = await strays.find()

    assert await moved(strays, stray) == {MoveOutcome.MOVED: 2, MoveOutcome.FOREIGN: 4}

    (left,) = await strays.find()
    assert (left.key, left.entries) == ("pcm:59", 4)


@pytest.mark.parametrize("tombstone", ["u/", "u/c"])
async def test_deleted_audio_does_not_come_back(strays: Strays, raw: Raw, tombstone: str) -> None:
    await raw.xadd("pcm:59", chunk("c"))
    await raw.hset(KEYS.deleted(partition_of("c", PARTITIONS)), tombstone, "0-0")
    (stray,) = await strays.find()

    for dry_run in (True, False):
        assert await moved(strays, stray, dry_run=dry_run) == {MoveOutcome.DELETED: 1}
    assert set(await everything(raw)) == {"pcm:59"}


@pytest.mark.parametrize("key", ["pcm:{99}:lease", "pcm:{99}:ready"])
async def test_a_stream_that_a_worker_works_on_is_not_touched(strays: Strays, raw: Raw, key: str) -> None:
    await raw.xadd("pcm:{99}", chunk())
    await raw.hset(key, "1-1", "seal") if key.endswith("ready") else await raw.set(key, "anna 1 x")
    (stray,) = await strays.find()

    assert await moved(strays, stray) == {MoveOutcome.OWNED: 1}
    assert set(await everything(raw)) == {"pcm:{99}"}


async def test_a_broken_partition_keeps_its_own_entries_only(strays: Strays, raw: Raw) -> None:
    for conversation in ("a", "b"):
        await raw.xadd("pcm:59", chunk(conversation))
    broken = KEYS.stream(partition_of("a", PARTITIONS))
    await raw.set(broken, "no stream")
    (stray,) = await strays.find()

    outcomes = [one async for one in strays.move(stray)]

    assert [one.outcome for one in outcomes] == [MoveOutcome.REFUSED, MoveOutcome.MOVED]
    assert f"{broken} is a string, where a stream belongs" in outcomes[0].error
    assert [fields[b"conversation_id"] for fields in (await everything(raw))["pcm:59"]] == [b"a"]


async def test_a_redis_that_stray_audio_has_filled_is_freed_by_the_move(strays: Strays, raw: Raw) -> None:
    for number in range(3):
        await raw.xadd("pcm:59", chunk("c", number))
    await raw.config_set("maxmemory", "1kb")
    (stray,) = await strays.find()

    assert await moved(strays, stray) == {MoveOutcome.MOVED: 3}


@pytest.mark.slow
async def test_entries_move_across_the_slots_of_one_node(own_cluster: Callable[..., RedisCluster]) -> None:
    async with Client(connect(own_cluster().url)) as client:
        raw: Raw = client.nodes[0].redis
        for number in range(5):
            await raw.xadd("pcm:59", chunk(f"c{number}", number))
        strays = Strays(client, KEYS, lambda: LAYOUTS)
        (stray,) = await strays.find()
        assert await moved(strays, stray) == {MoveOutcome.MOVED: 5}
        assert sum(map(len, (await everything(raw)).values())) == 5


async def test_the_stream_of_a_key_that_has_another_type_is_emptied_and_removed(strays: Strays, raw: Raw) -> None:
    await raw.xadd(KEYS.lease(3), chunk())
    (stray,) = await strays.find()
    assert await moved(strays, stray) == {MoveOutcome.MOVED: 1}
    assert await raw.exists(KEYS.lease(3)) == 0


async def test_a_former_group_does_not_keep_a_stream(strays: Strays, raw: Raw) -> None:
    await raw.xadd("pcm:{99}", chunk())
    await raw.xgroup_create("pcm:{99}", GROUP, "0")
    await raw.xreadgroup(GROUP, "dead worker", {"pcm:{99}": ">"})
    (stray,) = await strays.find()
    assert await moved(strays, stray) == {MoveOutcome.MOVED: 1}
    assert await raw.exists("pcm:{99}") == 0
