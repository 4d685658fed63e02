"""The run that everything is about: talk, make trouble, become quiet, account."""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random

import redis.asyncio
from redis import RedisError
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from tests.support.gcs.control import GcsClient
from tests.support.paths import ROOT
from tests.support.redis_server import RedisServer
from tests.support.secret import TEST_SECRET
from tests.tools.chaos.account import findings, left
from tests.tools.chaos.fleet import Fleet, Watch
from tests.tools.chaos.talks import Pusher
from tests.tools.chaos.trouble import Plan, Trouble
from worker.settings import Settings
from worker.stream.keys import Keys

PREFIX = "chaos"
QUIET_SECONDS = 180.0
"""Patience after the last fault while nothing gets less; the longest backoff of the store is 31 s."""


@dataclass(slots=True)
class World:
    """What a run works with."""

    plan: Plan
    fleet: Fleet
    pusher: Pusher
    bucket: GcsClient
    client: redis.asyncio.Redis
    keys: Keys
    server: RedisServer
    settings: Callable[..., Settings]

    async def quiet(self, keys: Keys | None = None, partitions: int | None = None) -> None:
        """Wait until nothing is left in Redis, while less and less is. Raises `TimeoutError`."""
        await become_quiet(lambda: self._left(keys or self.keys, partitions or self.plan.partitions))

    async def account(self) -> list[str]:
        """What is wrong in the end, workers' own complaints included."""
        plan = self.plan
        wrong = await findings(self.pusher.talks, self.client, self.keys, plan.partitions, self.bucket)
        if lost := self.fleet.said("entries.lost"):
            wrong.append(f"workers report lost entries: {lost[:3]}")
        return wrong + self.fleet.wrong

    async def _left(self, keys: Keys, partitions: int) -> float:
        try:
            return await left(self.client, keys, partitions)
        except (RedisError, OSError):
            return math.inf


async def become_quiet(left: Callable[[], Awaitable[float]]) -> None:
    """Wait until nothing is left, while less and less is; infinity is unknown. Raises `TimeoutError`."""
    least = math.inf
    while least:
        async with asyncio.timeout(QUIET_SECONDS):
            while (now := await left()) >= least:  # noqa: ASYNC110 -- it can only be looked at
                await asyncio.sleep(0.1)
        least = now


@asynccontextmanager
async def world(plan: Plan, directory: Path) -> AsyncIterator[World]:
    """Servers and an empty fleet."""
    server = RedisServer(directory, maxclients="500")
    server.start()
    try:
        async with around(plan, server, server.url) as there:
            yield there
    finally:
        server.kill()


@asynccontextmanager
async def around(plan: Plan, server: RedisServer, url: str) -> AsyncIterator[World]:
    """A store and an empty fleet for a Redis that all reach under `url`."""
    async with AsyncExitStack() as stack:
        bucket = await stack.enter_async_context(bucket_process())
        clients = [redis.asyncio.Redis.from_url(url, retry=Retry(NoBackoff(), 0)) for _ in range(2)]
        for client in clients:
            stack.push_async_callback(client.aclose)
        keys, settings = Keys(PREFIX), settings_of(plan, url, bucket)
        fleet = await stack.enter_async_context(Fleet(settings, clients[0]))
        pusher = Pusher(clients[1], keys, plan.partitions, Random(plan.seed))
        yield World(plan, fleet, pusher, bucket, clients[0], keys, server, settings)


async def conserve(plan: Plan, directory: Path) -> tuple[list[str], list[str]]:
    """One run; what is wrong, best nothing, and its figures."""
    async with world(plan, directory) as there:
        stop = asyncio.Event()
        trouble = Trouble(plan, there.fleet, there.client, there.bucket)
        for _ in range(3):
            await there.fleet.start(trouble.revision)
        pushing = asyncio.create_task(
            there.pusher.run(plan.talks, stop, interval=plan.interval, gaps=plan.codec == "pcm")
        )
        try:
            await trouble.run()
        finally:
            stop.set()
            await pushing
        try:
            await there.quiet()
        except TimeoutError:
            there.fleet.wrong.append(f"{QUIET_SECONDS:.0f} s after the last fault it is still not quiet")
        await asyncio.gather(*(there.fleet.stop(member) for member in there.fleet.running))
        return await there.account(), _figures(there)


async def scale(plan: Plan, directory: Path) -> tuple[list[str], list[str]]:
    """1 → 4 → 2 workers under load: shares are even, no partition moves that need not, nothing is lost or doubled."""
    async with world(plan, directory) as there:
        stop = asyncio.Event()
        pushing = asyncio.create_task(there.pusher.run(plan.talks, stop, interval=plan.interval, gaps=False))
        watch, workers = there.fleet.watch, 1
        steps: list[str] = []
        try:
            await there.fleet.start("one")
            for wanted in (1, 4, 2):
                before = watch.moves
                while len(there.fleet.running) < wanted:
                    await there.fleet.start("one")
                await asyncio.gather(*(there.fleet.stop(member) for member in there.fleet.running[wanted:]))
                await _shared(watch, _even(plan.partitions, wanted))
                await asyncio.sleep(1.0)
                steps.append(f"{wanted} workers own {watch.shares()} partitions, {watch.moves - before} moved")
                if watch.moves - before > _most_moves(plan.partitions, workers, wanted):
                    there.fleet.wrong.append(f"more partitions moved than needed: {steps[-1]}")
                workers = wanted
        finally:
            stop.set()
            await pushing
        await there.quiet()
        await asyncio.gather(*(there.fleet.stop(member) for member in there.fleet.running))
        return await there.account(), [*steps, *_figures(there)]


def _even(partitions: int, workers: int) -> list[int]:
    share, larger = divmod(partitions, workers)
    return [share + (place < larger) for place in range(workers)]


def _most_moves(partitions: int, before: int, after: int) -> int:
    """Whoever joins or leaves moves its own share and no more; they may do so one by one."""
    fewer, more = sorted((before, after))
    return sum(math.ceil(partitions / workers) for workers in range(fewer + 1, more + 1))


async def _shared(watch: Watch, shares: list[int]) -> None:
    async with asyncio.timeout(20):
        while watch.shares() != shares:  # noqa: ASYNC110 -- it can only be looked at
            await asyncio.sleep(0.02)


def settings_of(plan: Plan, url: str, bucket: GcsClient) -> Callable[..., Settings]:
    """Make the settings of a run's workers; a change to None leaves a setting out."""
    usual: dict[str, object] = {
        "redis_url": url,
        "store_url": f"gs://{bucket.bucket}",
        "storage_emulator_host": bucket.url,
        "encryption_secret": TEST_SECRET,
        "partitions": plan.partitions,
        "stream_prefix": PREFIX,
        "batch_max_seconds": 1.0,
        "batch_max_age": 3.0,
        "gap_tolerance": 0.2,
        "lease_ttl": plan.lease_ttl,
        "blob_codec": plan.codec,
        "encode_threads": 1,
        "shutdown_grace": 30.0,
        "http_host": "127.0.0.1",
        "http_port": 0,
    }

    def make(**changes: object) -> Settings:
        values = {name: value for name, value in (usual | changes).items() if value is not None}
        return Settings.model_validate(values)

    return make


@asynccontextmanager
async def bucket_process() -> AsyncIterator[GcsClient]:
    """A Cloud Storage server in a process of its own."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.support.gcs.server", "--port", "0", cwd=ROOT, stdout=asyncio.subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        where = json.loads(await process.stdout.readline())
        async with GcsClient(where["url"], where["bucket"]) as client:
            yield client
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


def _figures(there: World) -> list[str]:
    watch, talks = there.fleet.watch, there.pusher.talks
    conflicts = there.fleet.names_taken()
    chunks = sum(talk.pushed for talk in talks)
    return [
        f"{chunks} chunks in {len(talks)} conversations",
        f"{sum(talk.duplicates for talk in talks)} chunks pushed twice, {there.pusher.resent} XADDs repeated",
        f"workers: {dict(there.fleet.counts)}",
        f"partitions moved {watch.moves} times",
        f"take-over after kill -9: {_spread(watch.after_kill)} (LEASE_TTL is {there.plan.lease_ttl} s)",
        f"unowned after SIGTERM: {_spread(watch.after_stop)}",
        f"names found taken: {dict(conflicts)}",
    ]


def _spread(seconds: Sequence[float]) -> str:
    if not seconds:
        return "none"
    ordered = sorted(seconds)
    middle = ordered[len(ordered) // 2]
    return f"median {middle:.2f} s, longest {ordered[-1]:.2f} s, {len(ordered)} times"
