"""Redis with appendonly and everysec is killed under load: what reached its disk is stored once, nothing twice."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.harness import EXACT, Harness, HarnessMaker, eventually
from tests.support.oracle import Talk, assert_stored_once, blobs_of
from tests.support.redis_server import RedisServer
from worker.runtime.timing import ReadingTiming, Timing

TALKS = 6


@pytest.fixture
def timing() -> Timing:
    return Timing(reading=ReadingTiming(poll=0.05, rest=0.05))


@pytest.fixture
def server(own_redis: Callable[..., RedisServer]) -> RedisServer:
    return own_redis(appendonly="yes", appendfsync="everysec")


def talks() -> list[Talk]:
    return [Talk(f"talk-{number}") for number in range(TALKS)]


def log_of(server: RedisServer) -> Path:
    (path,) = server.directory.glob("appendonlydir/*.incr.aof")
    return path


async def say_all(harness: Harness, speakers: list[Talk], seconds: float) -> None:
    for _ in range(round(2 * seconds)):
        await harness.push(*(talk.say(0.5) for talk in speakers))


async def test_process_that_is_killed_loses_nothing_that_it_has_acknowledged(
    own_redis: Callable[..., RedisServer], harness_at: HarnessMaker
) -> None:
    """The operating system has every command that was answered; with `everysec` a slow disk may delay that."""
    server = own_redis(appendonly="yes", appendfsync="no")
    harness, speakers = await harness_at(server, server), talks()
    async with harness.worker(**EXACT) as running:
        for _ in range(2):
            await say_all(harness, speakers, 4)
            server.kill()
            await harness.restarted(server)
        await eventually(lambda: running.count("batches_total", trigger="audio") >= 2 * TALKS)
        await eventually(lambda: not running.health.ready())
    await harness.drain(**EXACT)
    for talk in speakers:
        assert_stored_once(talk, harness.blobs())


async def test_machine_that_loses_its_last_second_loses_that_audio_alone_and_doubles_none(
    server: RedisServer, harness_at: HarnessMaker
) -> None:
    """The log is cut to where it was a while ago: done steps, seals and leases are forgotten, and chunks come again."""
    harness, speakers = await harness_at(server, server), talks()
    async with harness.worker(**EXACT) as running:
        await say_all(harness, speakers, 4)
        kept, safe = log_of(server).stat().st_size, [len(talk.pcm) for talk in speakers]
        await say_all(harness, speakers, 3.5)
        await eventually(lambda: running.count("batches_total", trigger="audio") == 2 * TALKS)
        assert log_of(server).stat().st_size > kept + TALKS * 100_000
        server.kill()
        os.truncate(log_of(server), kept)
        await harness.restarted(server)
        late = [Talk(f"late-{number}") for number in range(TALKS)]
        await say_all(harness, late, 3)
        await eventually(lambda: all(blobs_of(talk, harness.blobs()) for talk in late))
    await harness.drain(**EXACT)
    for talk, length in zip(speakers, safe, strict=True):
        assert_beginning_stored_once(talk, length, harness)
    for talk in late:
        assert_stored_once(talk, harness.blobs())


def assert_beginning_stored_once(talk: Talk, least: int, harness: Harness) -> None:
    """At least so many bytes are stored, and all that is stored is the conversation's beginning, once."""
    heard = b"".join(blob.pcm() for blob in blobs_of(talk, harness.blobs()))
    assert len(heard) >= least
    assert heard == talk.pcm[: len(heard)]
