"""The gauges tell what Redis would do to audio: forget it when it is full, or lose it in a crash."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

import pytest

from tests.support.harness import Running
from tests.support.redis_server import RedisServer
from worker.model.states import RedisPersistence
from worker.settings import Settings
from worker.stream.servers.checks import persistence_of


@pytest.fixture
def server(own_redis: Callable[..., RedisServer]) -> RedisServer:
    return own_redis(maxmemory="50mb")


@pytest.fixture
async def running(settings: Callable[..., Settings], server: RedisServer) -> AsyncIterator[Running]:
    """A worker that has been wired and does not run."""
    running = Running(settings(encode_threads=1, redis_url=server.url))
    yield running
    await running.close()


async def test_the_eviction_policy_is_the_one_that_redis_has_now(running: Running, server: RedisServer) -> None:
    await running.worker._monitor.observe_redis()
    assert running.count("redis_eviction_policy", policy="noeviction") == 1
    with server.client() as admin:
        admin.config_set("maxmemory-policy", "allkeys-lru")
    await running.worker._monitor.observe_redis()
    (family,) = (f for f in running.worker._monitor._metrics.registry.collect() if f.name.endswith("eviction_policy"))
    assert [(sample.labels, sample.value) for sample in family.samples] == [({"policy": "allkeys-lru"}, 1)]


async def test_persistence_is_the_one_that_redis_has_now(running: Running, server: RedisServer) -> None:
    await running.worker._monitor.observe_redis()
    assert [running.count("redis_persistence", state=state) for state in RedisPersistence] == [0, 0, 1, 0]
    with server.client() as admin:
        admin.config_set("appendonly", "yes")
    await running.worker._monitor.observe_redis()
    assert [running.count("redis_persistence", state=state) for state in RedisPersistence] == [1, 0, 0, 0]


@pytest.mark.slow
async def test_replicas_are_counted(
    running: Running, server: RedisServer, own_redis: Callable[..., RedisServer]
) -> None:
    with own_redis().client() as follower, server.client() as primary:
        follower.replicaof("127.0.0.1", str(server.port))
        primary.set("key", "value")
        while not primary.wait(1, 1000):
            pass
    await running.worker._monitor.observe_redis()
    assert running.count("redis_replicas") == 1


@pytest.mark.parametrize(
    ("facts", "state"),
    [
        ({}, RedisPersistence.OFF),  # a managed Redis that tells nothing
        ({"aof_enabled": 0, "aof_last_write_status": "ok"}, RedisPersistence.OFF),
        ({"aof_enabled": 1}, RedisPersistence.ON),
        ({"aof_enabled": 1, "aof_last_write_status": "ok"}, RedisPersistence.ON),
        ({"aof_enabled": 1, "aof_last_write_status": "err"}, RedisPersistence.FAILING),
    ],
)
def test_persistence_is_read_from_info(facts: dict[str, object], state: RedisPersistence) -> None:
    assert persistence_of(facts) is state
