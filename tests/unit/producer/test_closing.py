"""Flushing and closing: what Redis has not confirmed is handed over."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from codec.entry import Chunk, End
from tests.support.producing import PCM, SESSION, cut_off, producing, push, stored
from worker.errors import NotSent, PushRefused

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from tests.support.proxy import Proxy


async def test_flush_reports_what_is_still_on_its_way(proxy: Proxy, prefix: str) -> None:
    async with cut_off(proxy, prefix) as producer:
        await push(producer, "c1")
        (chunk,) = await producer.flush(within=0.001)
        assert chunk == Chunk("u1", "c1", 1000.0, PCM, seq=0, session=SESSION)
        await proxy.accept()
        assert await producer.flush() == ()


@pytest.mark.parametrize(("session", "following"), [(SESSION, 1), (b"life 2", 0)])
async def test_close_hands_over_what_redis_never_confirmed_and_it_can_be_pushed_again(
    redis_client: Redis, redis_url: str, proxy: Proxy, prefix: str, session: bytes, following: int
) -> None:
    async with cut_off(proxy, prefix) as producer:
        await push(producer, "c1", 0)
        await producer.end("u1", "c1")
        with pytest.raises(NotSent, match="2 entries are not known to be in Redis") as caught:
            await producer.close()
    async with producing(redis_url, prefix, session=session) as successor:
        for entry in caught.value.entries:
            await successor.put(entry)
        await push(successor, "c1", 1)
    assert await stored(redis_client, prefix, "c1") == [
        Chunk("u1", "c1", 1000.0, PCM, seq=0, session=SESSION),
        End("u1", "c1", seq=1, session=SESSION),
        Chunk("u1", "c1", 1001.0, PCM, seq=following, session=session),
    ]


async def test_close_refuses_the_pushes_that_still_wait_and_all_later_ones(proxy: Proxy, prefix: str) -> None:
    async with cut_off(proxy, prefix) as producer:
        pushes = [asyncio.create_task(push(producer, "c1", number)) for number in range(3)]
        await asyncio.wait(pushes, timeout=0.001)
        with pytest.raises(NotSent) as caught:
            await producer.close()
        with pytest.raises(PushRefused, match="closed"):
            await push(producer, "c1", 3)
    results = await asyncio.gather(*pushes, return_exceptions=True)
    assert len(caught.value.entries) == 2
    assert [type(result) for result in results] == [type(None), type(None), PushRefused]
