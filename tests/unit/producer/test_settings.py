"""Settings that do not fit what Redis records, or that nobody can use."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.producing import producing, push
from worker.errors import NotSent, PushRefused, SettingsError
from worker.producer import Limits, Producer

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from tests.support.proxy import Proxy


async def test_another_number_of_partitions_is_refused_in_one_sentence(
    redis_client: Redis, redis_url: str, prefix: str
) -> None:
    async with producing(redis_url, prefix):
        pass
    with pytest.raises(
        SettingsError, match=r"PARTITIONS is 9, but test-\w+:config in Redis records 8: set PARTITIONS=8"
    ):
        async with Producer(redis_url, partitions=9, prefix=prefix):
            pass
    assert await redis_client.hgetall(f"{prefix}:config") == {b"partitions": b"8", b"contract": b"1", b"layouts": b"8"}


async def test_another_contract_version_is_refused(redis_client: Redis, redis_url: str, prefix: str) -> None:
    await redis_client.hset(f"{prefix}:config", "contract", "2")
    with pytest.raises(SettingsError, match="contract version 2, this program speaks 1"):
        async with producing(redis_url, prefix):
            pass


async def test_settings_that_turn_out_different_later_stop_the_producer_and_hand_over_the_audio(
    redis_client: Redis, proxy: Proxy, prefix: str
) -> None:
    await redis_client.hset(f"{prefix}:config", "partitions", "9")
    await proxy.refuse()
    async with producing(proxy.url, prefix, limits=Limits(close_within=None)) as producer:
        await push(producer, "c1")
        await proxy.accept()
        assert len(await producer.flush()) == 1
        with pytest.raises(PushRefused, match="PARTITIONS is 8"):
            await push(producer, "c1")
        with pytest.raises(NotSent, match="PARTITIONS is 8") as caught:
            await producer.close()
    assert len(caught.value.entries) == 1


@pytest.mark.parametrize("url", ["http://localhost", "redis://localhost:port"])
def test_a_wrong_url_is_a_settings_error(url: str) -> None:
    with pytest.raises(SettingsError, match="REDIS_URL"):
        Producer(url)


@pytest.mark.parametrize(
    ("setting", "sentence"),
    [
        ({"partitions": 0}, "PARTITIONS is 0;"),
        ({"partitions": 16385}, "PARTITIONS is 16385;"),
        ({"prefix": ""}, "STREAM_PREFIX is '';"),
        ({"prefix": "a{b"}, "STREAM_PREFIX is 'a{b';"),
    ],
)
def test_what_no_worker_takes_is_a_settings_error(setting: dict[str, Any], sentence: str) -> None:
    with pytest.raises(SettingsError, match=re.escape(sentence)):
        Producer("redis://localhost", **setting)
