"""The short form of `make chaos`, and its measure of what is left."""

from __future__ import annotations

from pathlib import Path

import redis.asyncio

from tests.support.redis_server import RedisServer
from tests.tools.chaos.account import left
from tests.tools.chaos.cluster import cluster
from tests.tools.chaos.company import company
from tests.tools.chaos.conservation import conserve, scale
from tests.tools.chaos.forgetting import forgetting
from tests.tools.chaos.layouts import Course, layouts
from tests.tools.chaos.mistakes import mistakes
from tests.tools.chaos.replicas import replicas
from tests.tools.chaos.trouble import Plan
from worker.stream.keys import GROUP, Keys


async def test_backlog_that_is_read_again_gets_no_longer(redis_server: RedisServer) -> None:
    keys = Keys("counted")
    async with redis.asyncio.Redis.from_url(redis_server.url) as client:
        await client.xgroup_create(keys.stream(0), GROUP, "0", mkstream=True)
        entries = [await client.xadd(keys.stream(0), {"n": n}) for n in range(3)]
        assert await left(client, keys, 2) == 3
        await client.xreadgroup(GROUP, "a worker", {keys.stream(0): ">"})
        assert await left(client, keys, 2) == 3
        await client.hset(keys.ready(0), "a seal", "")
        await client.xdel(keys.stream(0), *entries[:2])
        assert await left(client, keys, 2) == 4  # two of them are pending and no entries any more
        await client.xack(keys.stream(0), GROUP, *entries[:2])
        assert await left(client, keys, 2) == 2


async def test_whatever_happens_to_workers_every_sample_is_stored_once(tmp_path: Path) -> None:
    wrong, figures = await conserve(Plan(seed=1, seconds=8, kills=6, talks=50), tmp_path)
    assert wrong == [], figures


async def test_scaling_shares_evenly_and_moves_no_more_than_it_must(tmp_path: Path) -> None:
    wrong, figures = await scale(Plan(seed=2, talks=20, codec="opus"), tmp_path)
    assert wrong == [], figures


async def test_what_redis_forgets_is_neither_lost_nor_doubled(tmp_path: Path) -> None:
    wrong, figures = await forgetting(Plan(seed=3, talks=12, kills=6, pace=0.8), tmp_path)
    assert wrong == [], figures


async def test_a_replica_that_lags_and_whose_clock_is_slow_costs_only_what_it_has_not_got(tmp_path: Path) -> None:
    wrong, figures = await replicas(Plan(seed=4, talks=12, kills=5, pace=0.8), tmp_path)
    assert wrong == [], figures


async def test_streams_that_change_and_programs_beside_the_workers_break_nothing(tmp_path: Path) -> None:
    wrong, figures = await company(Plan(seed=5, talks=12, kills=5, pace=0.6, codec="opus"), tmp_path)
    assert wrong == [], figures


async def test_careless_pushers_and_a_store_that_answers_nonsense_break_nothing(tmp_path: Path) -> None:
    wrong, figures = await mistakes(Plan(seed=6, talks=12, seconds=8, kills=5, pace=0.6), tmp_path)
    assert wrong == [], figures


async def test_a_cluster_whose_slot_is_held_open_and_whose_node_dies_loses_only_what_is_counted(tmp_path: Path) -> None:
    plan = Plan(seed=7, talks=10, interval=0.3, kills=1, pace=3.0, lease_ttl=3.0)
    wrong, figures = await cluster(plan, tmp_path, rounds=1, wait=0, only=("hold_open", "crash_ahead"))
    assert wrong == [], figures


async def test_the_number_of_partitions_grows_and_shrinks_while_workers_die(tmp_path: Path) -> None:
    plan = Plan(seed=8, talks=10, interval=0.3, partitions=8, kills=1, pace=3.0, lease_ttl=3.0)
    wrong, figures = await layouts(plan, tmp_path, Course(few=8, many=24, rounds=1, stay=0.5))
    assert wrong == [], figures
