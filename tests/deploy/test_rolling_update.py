"""A rollout between two revisions of the chart, by real workers: nothing is lost, little moves, few blobs are short."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import pytest
import redis.asyncio

from codec.entry import Chunk, End, partition_of
from tests.deploy.chart import Rendered, render
from tests.deploy.pods import Deployment, template_hash
from tests.support.gcs.control import GcsClient
from tests.support.redis_server import RedisServer
from tests.support.secret import TEST_SECRET
from tests.tools.chaos.account import findings, left
from tests.tools.chaos.talks import CHUNK_SECONDS, PROTECTIONS, Talk
from worker.stream.keys import Keys

pytestmark = pytest.mark.helm

PREFIX = "rollout"
PARTITIONS = 12
TALKS = 24
FULL = 15
"""Chunks that fill a batch."""

PATIENCE = 30.0
CONFIG = {
    "partitions": PARTITIONS,
    "streamPrefix": PREFIX,
    "batchMaxSeconds": FULL * CHUNK_SECONDS,
    "leaseTtl": 5,
    "encodeThreads": 1,
    "httpHost": "127.0.0.1",
}


@dataclass(slots=True)
class Place:
    """Where a rollout takes place."""

    client: redis.asyncio.Redis
    url: str
    bucket: GcsClient
    keys: Keys

    def render(self, rollout: dict[str, Any], **config: object) -> Rendered:
        """The chart with its defaults, but for what this machine and a test's patience ask for."""
        here = {
            "encryption": {"secret": TEST_SECRET},
            "redis": {"url": self.url},
            "networkPolicy": {"redisPorts": [urlsplit(self.url).port]},
            "store": {"url": f"gs://{self.bucket.bucket}"},
            "config": {**CONFIG, "storageEmulatorHost": self.bucket.url, **config},
            "autoscaling": {"maxReplicas": PARTITIONS},
        }
        return render(here | rollout)

    async def generations(self) -> list[int]:
        """How often each partition was taken."""
        async with self.client.pipeline(transaction=False) as pipe:
            for partition in range(PARTITIONS):
                pipe.hget(self.keys.epoch(partition), "generation")
            return [int(generation) for generation in await pipe.execute()]

    async def owners(self) -> Counter[str]:
        """Partitions per worker."""
        tokens: Any = await self.client.mget([self.keys.lease(partition) for partition in range(PARTITIONS)])
        return Counter(token.decode().split(" ")[0] for token in tokens if token)

    async def settled(self, deployment: Deployment) -> None:
        """Wait until the present pods, and nobody else, own even shares."""
        even = {pod.facts["worker"]: PARTITIONS // len(deployment.pods) for pod in deployment.pods}
        async with asyncio.timeout(PATIENCE):
            while await self.owners() != even:  # noqa: ASYNC110 -- it can only be looked at
                await asyncio.sleep(0.05)

    async def quiet(self) -> None:
        """Wait until nothing is left in Redis."""
        async with asyncio.timeout(PATIENCE):
            while await left(self.client, self.keys, PARTITIONS):  # noqa: ASYNC110 -- it can only be looked at
                await asyncio.sleep(0.05)

    async def short_blobs(self) -> Counter[str]:
        """Blobs per conversation that were stored before they were full, for another reason than its end."""
        found: Counter[str] = Counter()
        for partition in range(PARTITIONS):
            events: Any = await self.client.xrange(self.keys.done(partition))
            for _, fields in events:
                if int(fields[b"chunks"]) < FULL and fields[b"trigger"] != b"end":
                    found[fields[b"conversation_id"].decode()] += 1
        return found

    async def push(self, content: Chunk | End) -> None:
        key = self.keys.stream(partition_of(content.conversation_id, PARTITIONS))
        await self.client.xadd(key, dict(content.fields()))  # type: ignore[arg-type]


@asynccontextmanager
async def conversations(place: Place) -> AsyncIterator[list[Talk]]:
    """Live conversations, from the start of the block to its end."""
    talks = [Talk(f"user-{n % 5}", f"talk-{n:02}", PROTECTIONS[n % 3]) for n in range(TALKS)]
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        for talk in talks:
            group.create_task(_speak(talk, place, stop))
        try:
            yield talks
        finally:
            stop.set()


async def _speak(talk: Talk, place: Place, stop: asyncio.Event) -> None:
    while not stop.is_set():
        await place.push(talk.next(0.0))
        talk.pushed += 1
        await asyncio.sleep(CHUNK_SECONDS)
    await place.push(End(talk.uid, talk.conversation_id))


@pytest.fixture
async def place(own_redis: Callable[..., RedisServer], gcs_process: GcsClient) -> AsyncIterator[Place]:
    url = own_redis().url
    async with redis.asyncio.Redis.from_url(url) as client:
        yield Place(client, url, gcs_process, Keys(PREFIX))


CHARTS_OWN: dict[str, Any] = {}
ONE_BY_ONE = {"rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}


@pytest.mark.parametrize(
    ("rollout", "shutdown", "codec", "most_short"),
    [(CHARTS_OWN, "flush", "opus", 1), (CHARTS_OWN, "handoff", "pcm", 0), (ONE_BY_ONE, "flush", "pcm", 1)],
    ids=["flush", "handoff", "one-by-one"],
)
async def test_a_rollout_loses_and_doubles_nothing_and_moves_each_partition_at_most_twice(
    place: Place,
    rollout: dict[str, Any],
    shutdown: str,
    codec: str,
    most_short: int,
    figures: Callable[[str], None],
) -> None:
    before = place.render(rollout, shutdown=shutdown, blobCodec=codec)
    after = place.render(rollout, shutdown=shutdown, blobCodec=codec, opusComplexity=5)
    assert template_hash(before) != template_hash(after)
    async with Deployment() as deployment:
        await deployment.apply(before)
        await place.settled(deployment)
        taken = await place.generations()
        async with conversations(place) as talks:
            began = time.monotonic()
            await asyncio.sleep(FULL * CHUNK_SECONDS / 2)
            await deployment.apply(after)
            took = time.monotonic() - began
            await place.settled(deployment)
        await place.quiet()
        moves = [now - then for now, then in zip(await place.generations(), taken, strict=True)]
        await deployment.stop()
    short = await place.short_blobs()
    figures(
        f"{PARTITIONS} partitions moved {sum(moves)} times, each at most {max(moves)}; {short.total()} short blobs of "
        f"{TALKS} conversations, at most {max(short.values(), default=0)} of one; "
        f"{sum(talk.pushed for talk in talks)} chunks, up to {deployment.most_pods} pods, {took:.1f} s"
    )
    assert await findings(talks, place.client, place.keys, PARTITIONS, place.bucket) == []
    assert min(moves) >= 1
    assert max(moves) <= 2
    assert max(short.values(), default=0) <= most_short
