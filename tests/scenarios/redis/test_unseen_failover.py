"""A failover of which no request has failed: until an owner sees it, it settles nothing by what it knew before.

Between two requests the library replaces a closed connection silently, and only the next heartbeat tells.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import redis.asyncio

from tests.support.failover import Pair
from tests.support.gcs.server import GcsServer
from tests.support.harness import EXACT, Harness, Running, eventually, owned_before
from tests.support.hidden_redis import as_plain_user, users_file
from tests.support.oracle import Talk, assert_plays
from tests.support.redis_server import RedisServer
from tests.support.timing import SHORT_RESTS
from worker.coordination.ownership import Ownership
from worker.runtime.timing import Timing
from worker.settings import Settings


@pytest.fixture
def timing() -> Timing:
    return SHORT_RESTS


@pytest.fixture(params=["told", "hidden"])
def hides(request: pytest.FixtureRequest) -> bool:
    """Whether Redis hides from its workers which server it is."""
    return bool(request.param == "hidden")


@pytest.fixture
async def pair(own_redis: Callable[..., RedisServer], tmp_path: Path) -> AsyncIterator[Pair]:
    async with Pair(partial(own_redis, aclfile=users_file(tmp_path))) as running:
        yield running


@pytest.fixture
async def paired(
    pair: Pair, hides: bool, settings: Callable[..., Settings], gcs_server: GcsServer, timing: Timing
) -> AsyncIterator[Harness]:
    url = as_plain_user(pair.way) if hides else pair.way.url
    async with redis.asyncio.Redis.from_url(pair.way.url) as client:
        yield await owned_before(Harness(partial(settings, redis_url=url), client, gcs_server, timing))


@pytest.fixture
def seldom(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Settings with which nobody hears of a failover by a heartbeat while a worker is unaware of it."""
    original = Ownership.__init__

    def slow(self: Ownership, *args: Any, **options: Any) -> None:  # noqa: ANN401 -- passed on as they are
        original(self, *args, **options)
        self._tick_seconds = 1.0

    monkeypatch.setattr(Ownership, "__init__", slow)
    return {"lease_ttl": 15.0, **EXACT}


async def ticked(running: Running) -> None:
    """Return right after a heartbeat: the next one comes a second later."""
    before = running.worker._ownership.last_success
    await eventually(lambda: running.worker._ownership.last_success > before)


async def test_chunk_that_a_pusher_repeats_because_the_failover_took_its_reply(
    paired: Harness, pair: Pair, seldom: dict[str, Any]
) -> None:
    """The worker has the first one in hand, which only the dead primary knew: the repetition is all there is."""
    talk = Talk("c")
    async with paired.worker(**seldom) as running:
        await paired.say(talk, 1)
        await eventually(lambda: running.count("chunks_total") == 2)
        await pair.lag()
        await paired.say(talk, 0.5)
        await eventually(lambda: running.count("chunks_total") == 3)
        await ticked(running)
        await pair.fail_over(paired)
        await paired.push(talk.chunks[-1])
        await paired.say(talk, 1)
        await eventually(lambda: running.count("chunks_total") >= 4)
        await paired.push(talk.end())
        await eventually(lambda: running.count("rewinds_total", cause="redis_changed") >= 1)
    await paired.drain(**EXACT)
    assert_plays(talk, paired.blobs())


def beside(harness: Harness, talk: Talk) -> str:
    """Another conversation in the same stream."""
    partition = harness.partition(talk.conversation_id)
    return next(name for name in map(str, range(100)) if harness.partition(name) == partition)


async def test_chunks_behind_the_cursor_come_before_those_that_close_the_batch(
    paired: Harness, pair: Pair, seldom: dict[str, Any]
) -> None:
    """The new primary's clock is behind: only its later ids lie beyond what was read."""
    talk = Talk("c")
    async with paired.worker(**seldom) as running:
        await paired.say(talk, 1)
        await eventually(lambda: running.count("chunks_total") == 2)
        await pair.lag()
        (last,) = await paired.say(Talk(beside(paired, talk)), 0.5)
        await eventually(lambda: running.count("chunks_total") == 3)
        await ticked(running)
        await pair.fail_over(paired)
        milliseconds = int(last.partition("-")[0])
        stream = paired.keys.stream(paired.partition("c"))
        async with paired.redis.pipeline() as pipe:
            for number in range(4):
                chunk = talk.say(0.5)
                entry = f"{milliseconds + 1000}-{number}" if number > 1 else f"{milliseconds}-{number}"
                pipe.xadd(stream, dict(chunk.fields()), id=entry)
            pipe.xadd(stream, dict(talk.end().fields()), id=f"{milliseconds + 1000}-9")
            await pipe.execute()
        await eventually(lambda: running.count("rewinds_total", cause="redis_changed") >= 1)
    await paired.drain(**EXACT)
    assert_plays(talk, paired.blobs())
