"""A pool that watches its server: what may be answered by another one raises an error once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest
from redis.exceptions import ConnectionError as BrokenConnection

from tests.support.harness import eventually
from tests.support.proxy import Proxy
from tests.support.redis_server import RedisServer
from worker.stream.servers.connecting import connect
from worker.stream.servers.pool import Pool


@pytest.fixture
async def way(own_redis: Callable[..., RedisServer]) -> AsyncIterator[Proxy]:
    async with Proxy(own_redis().port) as proxy:
        yield proxy


@pytest.fixture
async def pool(way: Proxy) -> AsyncIterator[Pool]:
    connector = connect(way.url)
    pool = connector.pool(connector.seeds[0])
    assert isinstance(pool, Pool)
    yield pool
    await pool.aclose()


async def use(pool: Pool) -> None:
    """One request by an idle connection, or by a new one if there is none."""
    connection = await pool.get_connection()  # type: ignore[no-untyped-call]
    try:
        await connection.send_command("PING")
        assert await connection.read_response() == b"PONG"
    finally:
        await pool.release(connection)


async def cut(pool: Pool, way: Proxy) -> None:
    """Cut the idle connections, and wait until this process knows."""
    way.cut()
    readers = [connection._reader for connection in pool._available_connections if connection._reader is not None]
    await eventually(lambda: readers and all(reader.at_eof() for reader in readers))


async def test_connection_that_is_replaced_silently_is_told_once(pool: Pool, way: Proxy) -> None:
    await pool.watch()
    await use(pool)
    await cut(pool, way)
    with pytest.raises(BrokenConnection, match="was lost"):
        await use(pool)
    await use(pool)
    await pool.watch()
    await use(pool)


async def test_without_a_watch_it_is_replaced_silently(pool: Pool, way: Proxy) -> None:
    await use(pool)
    await cut(pool, way)
    await use(pool)


async def test_more_connections_to_the_same_server_raise_nothing(pool: Pool) -> None:
    await pool.watch()
    held = [await pool.get_connection() for _ in range(4)]  # type: ignore[no-untyped-call]
    for connection in held:
        await pool.release(connection)
    await asyncio.gather(*(use(pool) for _ in range(8)))


async def test_first_connection_to_another_server_is_told_while_the_others_are_in_use(
    pool: Pool, way: Proxy, own_redis: Callable[..., RedisServer]
) -> None:
    await pool.watch()
    held = await pool.get_connection()  # type: ignore[no-untyped-call]
    way.turn_to(own_redis().port)
    with pytest.raises(BrokenConnection, match="was lost"):
        await use(pool)
    await pool.release(held)
    assert not held.is_connected


async def test_connection_that_its_user_has_seen_break_is_not_told_again(pool: Pool, way: Proxy) -> None:
    await pool.watch()
    connection = await pool.get_connection()  # type: ignore[no-untyped-call]
    way.cut()
    with pytest.raises(BrokenConnection):
        await connection.read_response()
    await pool.release(connection)
    await use(pool)
