"""What the other tests rely on: real servers that crash and come back, settings of their own, recorded speech."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import numpy as np
import pytest
import redis
import redis.asyncio

from tests.support.speech import speech, speech_array
from worker.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.redis_server import RedisServer


def test_the_shared_redis_never_evicts(redis_server: RedisServer) -> None:
    with redis_server.client() as client:
        assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}


async def test_the_plain_client_talks_to_the_shared_redis(redis_client: redis.asyncio.Redis, prefix: str) -> None:
    await redis_client.set(f"{prefix}:x", b"1")
    assert await redis_client.get(f"{prefix}:x") == b"1"


def test_a_restarted_server_with_an_append_only_file_keeps_its_port_and_data(
    own_redis: Callable[..., RedisServer],
) -> None:
    server = own_redis(appendonly="yes", appendfsync="always")
    with server.client() as client:
        client.set("kept", "1")
    url = server.url
    server.kill()
    server.start()
    assert server.url == url
    with server.client() as client:
        assert client.get("kept") == b"1"


def test_a_private_server_takes_options(own_redis: Callable[..., RedisServer]) -> None:
    server = own_redis(maxmemory="1kb")
    with server.client() as client, pytest.raises(redis.OutOfMemoryError):
        client.set("too-much", b"x")


def test_a_server_that_cannot_start_shows_its_log(own_redis: Callable[..., RedisServer]) -> None:
    server = own_redis()
    server.stop()
    server.options["maxmemory-policy"] = "no-such-policy"
    with pytest.raises(RuntimeError, match="did not start"):
        server.start()


def test_a_paused_server_can_be_ended(own_redis: Callable[..., RedisServer]) -> None:
    server = own_redis()
    server.pause()
    server.kill()


def test_settings_are_of_this_test_alone(settings: Callable[..., Settings], prefix: str) -> None:
    made = settings(batch_max_seconds=5)
    assert (made.stream_prefix, made.batch_max_seconds, made.http_port) == (prefix, 5, 0)
    made.require_storage()


def test_the_environment_holds_none_of_our_variables() -> None:
    assert not set(os.environ) & {name.upper() for name in Settings.model_fields}


@pytest.mark.parametrize("rate", [8000, 12000, 16000, 24000, 48000])
def test_speech_has_exactly_the_length_asked_for_and_is_audible(rate: int) -> None:
    samples = speech_array(40.5, rate)
    assert len(samples) == 40.5 * rate
    assert np.sqrt(np.mean(np.square(samples.astype(np.float64)))) > 300


def test_speech_continues_at_its_offset() -> None:
    assert speech(2, offset=3) == speech(5)[3 * 32000 :]
