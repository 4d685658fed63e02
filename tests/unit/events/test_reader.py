"""Done events of all partitions reach a backend in order, from where it left off, whatever Redis does meanwhile."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
import redis.asyncio

from worker.errors import SettingsError
from worker.events import DoneEvent, EventReader, Polling, ReceivedEvent

if TYPE_CHECKING:
    from collections.abc import Callable

    from redis.asyncio import Redis

    from tests.support.proxy import Proxy
    from tests.support.redis_cluster import RedisCluster

PARTITIONS = 8
SOON = Polling(every=0.005, check=0)
SELDOM = Polling(every=0.005, check=3600)
PATIENCE = 20


async def announce(
    client: Any,  # noqa: ANN401 -- of a server or a cluster
    prefix: str,
    partition: int,
    name: str,
    *,
    entry: str = "*",
) -> str:
    """Append an event as a worker's done step does; returns its id."""
    fields = DoneEvent("alice", "lunch", name, start=1.0, samples=80000).to_fields()
    added: bytes = await client.xadd(f"{prefix}:{{{partition}}}:done", fields, id=entry)
    return added.decode()


@pytest.fixture
async def recorded(redis_client: Redis, prefix: str) -> Redis:
    """A Redis that knows the number of partitions."""
    await redis_client.hset(f"{prefix}:config", mapping={"partitions": PARTITIONS, "contract": 1})
    return redis_client


async def names(reader: EventReader, number: int) -> list[str]:
    """The next objects, once so many have come."""
    found: list[ReceivedEvent] = []
    async with asyncio.timeout(PATIENCE):
        while len(found) < number:
            found += await reader.read()
    return [received.event.object for received in found]


async def test_events_of_all_partitions_come_in_order_and_with_their_positions(
    recorded: Redis, redis_url: str, prefix: str
) -> None:
    ids = {(n, i): await announce(recorded, prefix, n, f"{n}-{i}") for i in range(3) for n in range(PARTITIONS)}
    async with EventReader(redis_url, prefix=prefix) as reader:
        found = await reader.read()
        assert {(each.partition, int(each.event.object[-1])): each.id for each in found} == ids
        for number in range(PARTITIONS):
            assert [each.event.object for each in found if each.partition == number] == [
                f"{number}-{i}" for i in range(3)
            ]
        assert found[0].event == DoneEvent("alice", "lunch", found[0].event.object, start=1.0, samples=80000)
        assert reader.positions == {n: ids[n, 2] for n in range(PARTITIONS)}
        assert await reader.read(within=0) == []


async def test_a_restarted_backend_goes_on_behind_what_it_has_saved(
    recorded: Redis, redis_url: str, prefix: str
) -> None:
    for number in (0, 3, 3, 5):
        await announce(recorded, prefix, number, f"old {number}")
    async with EventReader(redis_url, prefix=prefix) as reader:
        await reader.read()
        saved = reader.positions
    await announce(recorded, prefix, 3, "new 3")
    await announce(recorded, prefix, 7, "new 7")
    async with EventReader(redis_url, prefix=prefix, positions=saved) as reader:
        assert sorted(await names(reader, 2)) == ["new 3", "new 7"]


async def test_more_events_than_one_reply_may_have_come_one_after_the_other(
    recorded: Redis, redis_url: str, prefix: str
) -> None:
    async with recorded.pipeline(transaction=False) as pipe:
        for number in range(250):
            pipe.xadd(f"{prefix}:{{2}}:done", {"uid": "u", "conversation_id": "c", "object": f"{number}"})
        await pipe.execute()
    async with EventReader(redis_url, prefix=prefix) as reader:
        assert len(await reader.read()) == 100
        assert await names(reader, 150) == [str(number) for number in range(100, 250)]


async def test_a_reader_that_is_earlier_than_the_first_worker_waits_for_it(
    redis_client: Redis, redis_url: str, prefix: str
) -> None:
    async with EventReader(redis_url, prefix=prefix, polling=SELDOM) as reader:
        assert await reader.read(within=0) == []
        await redis_client.hset(f"{prefix}:config", mapping={"partitions": 2, "contract": 1})
        await announce(redis_client, prefix, 1, "first")
        assert await names(reader, 1) == ["first"]


async def test_a_change_of_the_number_of_partitions_is_followed(recorded: Redis, redis_url: str, prefix: str) -> None:
    async with EventReader(redis_url, prefix=prefix, polling=SOON) as reader:
        assert await reader.read(within=0) == []
        await announce(recorded, prefix, 15, "in a new partition")
        assert await reader.read(within=0) == []
        await recorded.hset(f"{prefix}:config", mapping={"layouts": "8,16"})
        assert await names(reader, 1) == ["in a new partition"]
        await recorded.hset(f"{prefix}:config", mapping={"partitions": 8, "layouts": "8"})
        saved = reader.positions
        await announce(recorded, prefix, 15, "the last one there")
        assert await names(reader, 1) == ["the last one there"]
    async with EventReader(redis_url, prefix=prefix, positions=saved) as reader:
        assert await names(reader, 1) == ["the last one there"]


async def test_an_outage_is_waited_for_and_nothing_is_missed(recorded: Redis, proxy: Proxy, prefix: str) -> None:
    async with EventReader(proxy.url, prefix=prefix, polling=SELDOM) as reader:
        await announce(recorded, prefix, 1, "before")
        assert await names(reader, 1) == ["before"]
        await proxy.refuse()
        assert await reader.read(within=0) == []
        await announce(recorded, prefix, 1, "during")
        await proxy.accept()
        assert await names(reader, 1) == ["during"]


async def test_events_that_a_failover_has_taken_back_do_not_hide_those_with_smaller_ids(
    recorded: Redis, redis_url: str, prefix: str
) -> None:
    await announce(recorded, prefix, 1, "lost later", entry="2000-0")
    async with EventReader(redis_url, prefix=prefix, polling=SOON) as reader:
        assert await names(reader, 1) == ["lost later"]
        await recorded.delete(f"{prefix}:{{1}}:done")
        await announce(recorded, prefix, 1, "of a server whose clock is behind", entry="1000-0")
        assert await names(reader, 1) == ["of a server whose clock is behind"]


async def test_a_backend_that_was_away_for_too_long_learns_which_partitions_to_look_up(
    recorded: Redis, redis_url: str, prefix: str
) -> None:
    missed: list[int] = []
    saved = {2: await announce(recorded, prefix, 2, "handled"), 3: await announce(recorded, prefix, 3, "handled")}
    for number in (2, 2, 3):
        await announce(recorded, prefix, number, f"then {number}")
    await recorded.xtrim(f"{prefix}:{{2}}:done", maxlen=1, approximate=False)
    async with EventReader(redis_url, prefix=prefix, positions=saved, on_missed=missed.append, polling=SOON) as reader:
        assert sorted(await names(reader, 2)) == ["then 2", "then 3"]
        assert await reader.read(within=0) == []
    assert missed == [2]


@pytest.mark.slow
async def test_a_dead_node_of_a_cluster_holds_up_only_its_own_events(
    own_cluster: Callable[..., RedisCluster],
) -> None:
    cluster = own_cluster(3)
    async with redis.asyncio.RedisCluster.from_url(cluster.url) as client:
        await client.hset("pcm:config", mapping={"partitions": PARTITIONS, "contract": 1})
        for number in range(PARTITIONS):
            await announce(client, "pcm", number, "first")
        async with EventReader(cluster.url, polling=SELDOM) as reader:
            await names(reader, PARTITIONS)
            needed = {cluster.servers[0], cluster.owner("pcm:config")}
            dead = next(server for server in cluster.servers if server not in needed)
            reached = [number for number in range(PARTITIONS) if cluster.owner(f"pcm:{{{number}}}") is not dead]
            dead.kill()
            for number in reached:
                await announce(client, "pcm", number, "second")
            assert await names(reader, len(reached)) == ["second"] * len(reached)
    assert 0 < len(reached) < PARTITIONS


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"prefix": "a{b"}, "STREAM_PREFIX is 'a{b'"),
        ({"positions": {1: "now"}}, "that of partition 1 is 'now', not an entry id"),
        ({"positions": {1: 5}}, "that of partition 1 is 5, not an entry id"),
        ({"positions": {-1: "0-0"}}, "positions name the partition -1"),
        ({"positions": {"1": "0-0"}}, "positions name the partition '1'"),
        ({"redis_url": "http://localhost"}, "REDIS_URL"),
    ],
)
def test_what_can_not_be_read_is_a_settings_error(arguments: dict[str, Any], sentence: str) -> None:
    with pytest.raises(SettingsError, match=sentence):
        EventReader(**{"redis_url": "redis://localhost"} | arguments)
