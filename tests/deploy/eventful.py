"""A short run in which everything happens that the dashboard shows, under a Prometheus."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import redis.asyncio

from codec.entry import End, partition_of
from tests.deploy.chart import Rendered, render
from tests.deploy.pods import Deployment, template_hash
from tests.deploy.prometheus import RATE_WINDOW, SCRAPE_SECONDS, Prometheus
from tests.support.gcs.server import GcsServer
from tests.support.oracle import Talk
from tests.support.redis_server import RedisServer
from tests.support.secret import TEST_SECRET
from tests.support.waiting import beside
from worker.stream.keys import Keys

PREFIX = "eventful"
PARTITIONS = 8
TALKS = 10
CHUNK_SECONDS = 0.25
CONFIG = {
    "partitions": PARTITIONS,
    "streamPrefix": PREFIX,
    "batchMaxSeconds": 1,
    "gapTolerance": 0.2,
    "leaseTtl": 2,
    "encodeThreads": 1,
    "httpHost": "127.0.0.1",
}


@dataclass(frozen=True, slots=True)
class Recording:
    """What Prometheus has seen between two moments (Unix seconds)."""

    prometheus: Prometheus
    start: float
    end: float


@asynccontextmanager
async def eventful(directory: Path, *, pace: float = 0.0) -> AsyncIterator[Recording]:
    """Live it through.

    `pace` are seconds of calm after each event, for a picture in which they can be told apart. Without, it is short:
    no worker dies, for all that is seen of it is seen of other events too.
    """
    redis_server = RedisServer(directory, maxmemory="64mb")
    redis_server.start()
    try:
        async with AsyncExitStack() as stack:
            run = Run(
                directory / "spool",
                redis_server,
                await stack.enter_async_context(GcsServer()),
                await stack.enter_async_context(redis.asyncio.Redis.from_url(redis_server.url)),
                await stack.enter_async_context(Prometheus(directory)),
                await stack.enter_async_context(Deployment()),
            )
            start = time.time()
            end = await run.live(pace)
            yield Recording(run.prometheus, start, end)
    finally:
        redis_server.kill()


@dataclass(slots=True)
class Run:
    """All that takes part."""

    spool: Path
    redis_server: RedisServer
    store: GcsServer
    client: redis.asyncio.Redis
    prometheus: Prometheus
    deployment: Deployment
    event_began: float = 0.0

    async def live(self, pace: float) -> float:
        """One event after the other; each has been scraped before the next one comes. Returns when it ended."""
        events = [
            self.begin,
            self.scale_up,
            self.pushers_misbehave,
            self.replies_get_lost,
            self.store_refuses,
            self.redis_hangs,
            *([self.worker_dies] if pace else []),
            self.roll_out,
        ]
        talks = [Talk(f"talk-{number}", f"user-{number % 3}") for number in range(TALKS)]
        async with beside(self._keep_scraping(), *(self._speak(talk) for talk in talks)):
            for event in events:
                self.event_began = time.time()
                await event()
                await asyncio.sleep(pace)
            await self.prometheus.until("min(up) == 1")  # panels of one moment show this one
            return time.time()

    async def begin(self) -> None:
        await self.deployment.apply(self._rendered(replicas=1))
        await self._owning(1)

    async def scale_up(self) -> None:
        await self.deployment.apply(self._rendered(replicas=2))
        await self._owning(2)
        await self._seen('rewinds_total{cause="handover"}')

    async def pushers_misbehave(self) -> None:
        talk = Talk("misbehaving")
        first, second = talk.say(CHUNK_SECONDS), talk.say(CHUNK_SECONDS)
        for chunk in (first, first, talk.say(CHUNK_SECONDS), second, talk.say(CHUNK_SECONDS, late=0.5)):
            await self._push(talk, chunk.fields())
        talk.say(CHUNK_SECONDS)  # and never push it
        odd = talk.say(CHUNK_SECONDS)
        await self._push(talk, odd.fields() | {"pcm": odd.pcm + b"\0"})
        await self._push(talk, talk.say(CHUNK_SECONDS, late=100).fields())
        await self._push(talk, {"nonsense": "1"})
        await self._push(talk, End(talk.uid, talk.conversation_id).fields())
        await self._seen("dead_letters_total", 'gaps_total{handling="silence"}', 'gaps_total{handling="closed"}')

    async def replies_get_lost(self) -> None:
        self.store.fail("insert.*", "drop_reply", times=3)
        await self._seen("store_conflicts_total")

    async def store_refuses(self) -> None:
        """Blobs go to the spool; then its volume is away for a while, too."""
        self.store.fail("insert.*", times=10_000)
        await self._seen("store_retries_total")
        await self.prometheus.until('audio_batch_spool_blobs{state="spooled"} > 0')
        away = self.spool.with_name("away")
        self.spool.rename(away)
        await self._seen("spool_refusals_total")
        away.rename(self.spool)
        self.store.script.faults.clear()

    async def redis_hangs(self) -> None:
        self.redis_server.pause()
        try:
            await self._seen("redis_errors_total")
        finally:
            self.redis_server.resume()

    async def worker_dies(self) -> None:
        await self.deployment.crash()
        await self._seen('takeovers_total{previous="died"}')

    async def roll_out(self) -> None:
        rendered = self._rendered(replicas=2, opusComplexity=5)
        await self.deployment.apply(rendered)
        theirs = f'on (pod) audio_batch_build_info{{revision="{template_hash(rendered)}"}}'
        await self.prometheus.until(f"sum(audio_batch_partitions_owned and {theirs}) == {PARTITIONS}")
        await self.prometheus.until(f"sum(rate(audio_batch_stored_seconds_total[{RATE_WINDOW}]) and {theirs}) > 0")

    async def _owning(self, pods: int) -> None:
        """Wait until so many are known to have partitions: only then can their counters be seen to rise."""
        await self.prometheus.until(f"count(audio_batch_partitions_owned > 0) == {pods}")

    async def _seen(self, *series: str) -> None:
        """Wait until each of these counters has been seen to rise since the event began.

        The rate of the last seconds would not do: on a busy machine the rise may be older when it is first asked for.
        """
        for name in series:
            before = f"last_over_time(audio_batch_{name}[1m] @ {self.event_began:.3f})"
            await self.prometheus.until(f"audio_batch_{name} > {before}")

    def _rendered(self, replicas: int, **config: object) -> Rendered:
        there = {
            "redis": {"url": self.redis_server.url},
            "networkPolicy": {"redisPorts": [self.redis_server.port]},
            "encryption": {"secret": TEST_SECRET},
            "store": {"url": f"gs://{self.store.bucket}"},
            "spool": {"mode": "outage", "afterSeconds": 1, "existingClaim": "here", "mountPath": str(self.spool)},
            "config": {**CONFIG, "storageEmulatorHost": self.store.url, **config},
            "autoscaling": {"kind": "none"},
            "replicas": replicas,
            "fullnameOverride": "worker",
        }
        return render(there)

    async def _keep_scraping(self) -> None:
        while True:
            self.prometheus.scrape(self.deployment.pods)
            await asyncio.sleep(SCRAPE_SECONDS / 5)

    async def _speak(self, talk: Talk) -> None:
        while True:
            await self._push(talk, talk.say(CHUNK_SECONDS).fields())
            await asyncio.sleep(CHUNK_SECONDS)

    async def _push(self, talk: Talk, fields: dict[str, bytes | str]) -> None:
        key = Keys(PREFIX).stream(partition_of(talk.conversation_id, PARTITIONS))
        await self.client.xadd(key, fields)  # type: ignore[arg-type]
