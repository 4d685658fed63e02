"""One happening in Redis or the store is a few lines of log, however many partitions, batches or entries it meets."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, MutableMapping, Sequence
from typing import Any

import pytest
import stamina.instrumentation
from structlog.testing import capture_logs

from tests.support.harness import EXACT, Harness, eventually, owned_before
from tests.support.oracle import Talk, assert_stored_once
from tests.support.redis_server import RedisServer
from tests.support.timing import SHORT_RESTS
from worker.runtime.timing import Timing

PARTITIONS = 64
MOST_LINES = 4
"""Of one event, for one happening on a slow machine."""

ONE_EACH = {"batch.finished", "consumer.redis_failed", "ownership.redis_failed"}
"""Events of ordinary work, and those that come once a second while Redis is away."""


@pytest.fixture
def timing() -> Timing:
    return SHORT_RESTS


@pytest.fixture(autouse=True)
def _silent_retries() -> Iterator[None]:
    stamina.instrumentation.set_on_retry_hooks([])  # as the worker's process does
    yield
    stamina.instrumentation.set_on_retry_hooks(None)


def assert_few(events: Sequence[MutableMapping[str, Any]]) -> None:
    logged = [event["event"] for event in events if event["log_level"] != "debug"]
    lines = Counter(event for event in logged if event not in ONE_EACH)
    assert {event: count for event, count in lines.items() if count > MOST_LINES} == {}


async def test_restart_of_redis(durable: tuple[Harness, RedisServer]) -> None:
    harness, server = durable
    harness.partitions = PARTITIONS
    await owned_before(harness)
    talks = [Talk(f"c{number}") for number in range(2 * PARTITIONS)]
    with capture_logs() as events:
        async with harness.worker(**EXACT) as running:
            for talk in talks:
                await harness.say(talk, 1)
            await eventually(lambda: running.count("chunks_total") == 2 * len(talks))
            server.kill()
            await harness.restarted(server)
            await eventually(lambda: running.count("rewinds_total", cause="redis_changed") == PARTITIONS)
            await eventually(lambda: running.count("recoveries_total") == len(talks))
    rewound = [event for event in events if event["event"] == "partitions.rewound"]
    assert sum(event["partitions"] for event in rewound if event["cause"] == "redis_changed") == PARTITIONS
    looked_up = [event for event in events if event["event"] == "conversations.looked_up"]
    assert sum(event["conversations"] for event in looked_up) == len(talks)
    assert_few(events)
    await harness.drain(**EXACT)
    for talk in talks:
        assert_stored_once(talk, harness.blobs())


async def test_dead_letters(harness: Harness) -> None:
    harness.partitions = 8
    for number in range(harness.partitions):
        async with harness.redis.pipeline(transaction=False) as pipe:
            for entry in range(500):
                pipe.xadd(harness.keys.stream(number), {"uid": "u", "nonsense": str(entry % 3)})
            await pipe.execute()
    with capture_logs() as events:
        running = await harness.drain()
    letters = [event for event in events if event["event"] == "entries.dead_lettered"]
    assert sum(event["entries"] for event in letters) == 4000
    assert sum(reason["times"] for event in letters for reason in event["reasons"]) == 4000
    assert running.count("dead_letters_total", kind="invalid") == 4000
    assert_few(events)


async def test_outage_of_the_store(harness: Harness) -> None:
    talks = [Talk(f"c{number}") for number in range(100)]
    harness.server.fail("insert.*", status=503, times=500)
    for talk in talks:
        await harness.say(talk, 1)
    with capture_logs() as events:
        running = await harness.drain(**EXACT)
    refused = [event for event in events if event["event"] == "store.refused"]
    assert sum(event["times"] for event in refused) == running.count("store_retries_total", cause="server") == 500
    assert_few(events)
    for talk in talks:
        assert_stored_once(talk, harness.blobs())


async def test_deliveries_that_the_end_leaves(harness: Harness) -> None:
    harness.partitions = 16
    talks = [Talk(f"c{number}") for number in range(64)]
    gate = harness.server.hold(stage="request")
    with capture_logs() as events:
        async with harness.worker(shutdown_grace=2.1, **EXACT):
            for talk in talks:
                await harness.say(talk, 3)
            await gate.reached()
            await eventually(lambda: sealed(harness, len(talks)))
    gate.open()
    (left,) = [event for event in events if event["event"] == "partitions.left"]
    assert (left["partitions"], left["batches"]) == (harness.partitions, len(talks))
    assert_few(events)


async def sealed(harness: Harness, batches: int) -> bool:
    return await harness.seals() == batches
