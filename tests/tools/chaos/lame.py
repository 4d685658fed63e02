"""One of three nodes of a Redis Cluster is dead, then one hangs: what the conversations of the other two feel of it.

A producer pushes at a steady pace, one worker stores. Phases with a whole cluster and with a lame node take turns, so
that a figure and the one that it is compared with are measured side by side.
"""

from __future__ import annotations

import asyncio
import math
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from random import Random

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

from codec.entry import End
from tests.support.process import Process
from tests.support.redis_server import RedisServer
from tests.tools.chaos.cluster_world import ClusterWorld, cluster_world
from tests.tools.chaos.shards import Shards
from tests.tools.chaos.talks import Talk, Talkers
from tests.tools.chaos.trouble import Plan
from worker.producer import Limits, Producer
from worker.runtime.metrics import PREFIX as METRIC

PHASE_SECONDS = 12.0
SETTLING_SECONDS = 3.0
"""After a node has become lame or well, before it is measured."""

PATIENT = Limits(close_within=None)
"""All must be sent in the end, however busy the machine is."""

REPEATS = 3
WHOLE, DEAD, HUNG = "whole", "dead", "hung"
LEAST_RATIO = 0.95
"""Of what is pushed and stored per second at the other nodes."""

MOST_P99_RATIO = 2.0
"""Of the time within which 99 % of their done steps end."""

Buckets = Mapping[float, float]
"""How many done steps took at most so many seconds."""


class Speakers(Talkers[Talk]):
    """Conversations that push at a steady pace, all by one producer."""

    def __init__(self, plan: Plan, producer: Producer) -> None:
        super().__init__()
        self._interval = plan.interval
        self._random = Random(plan.seed)
        self._producer = producer
        self.all = [Talk("user", f"talk-{number:03}", "standard") for number in range(plan.talks)]

    async def _live(self, talk: Talk, stop: asyncio.Event) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time() + self._interval * self._random.random()
        while not stop.is_set():
            await asyncio.sleep(due - loop.time())
            due = max(due, loop.time() - self._interval) + self._interval
            await self._producer.put(talk.next(0.0))
            talk.pushed += 1
        await self._producer.put(End(talk.uid, talk.conversation_id, seq=talk.pushed))


@dataclass(slots=True)
class Count:
    """What happened at the nodes that are well, in `seconds`."""

    seconds: float = 0.0
    pushed: int = 0
    stored: int = 0
    done: Counter[float] = field(default_factory=Counter)

    @property
    def pushes(self) -> float:
        """Chunks pushed per second."""
        return self.pushed / self.seconds

    @property
    def stores(self) -> float:
        """Chunks stored per second; those that had waited before do not count."""
        return min(self.stored, self.pushed) / self.seconds

    @property
    def p99(self) -> float:
        """Seconds within which 99 % of the done steps ended, interpolated between the bounds of buckets."""
        wanted = 0.99 * max(self.done.values(), default=0)
        below, before = 0.0, 0
        for bound, count in sorted(self.done.items()):
            if count >= wanted and count > before:
                upper = below if bound == math.inf else bound
                return below + (upper - below) * (wanted - before) / (count - before)
            below, before = bound, count
        return 0.0


class Measurement:
    """Counts pushes and stores at two nodes, while the third one is well or lame."""

    def __init__(self, there: ClusterWorld, worker: Process) -> None:
        self._there = there
        self._worker = worker
        self.counts: dict[str, Count] = defaultdict(Count)

    async def run(self) -> None:
        """All phases."""
        shards, victim = self._there.shards, self._there.shards.servers[-1]
        slots = await asyncio.to_thread(shards.slots_of, victim)
        for _ in range(REPEATS):
            for name, lamed in ((DEAD, _dead), (HUNG, _hung)):
                await self._measure(WHOLE, slots)
                async with lamed(shards, victim):
                    await self._measure(name, slots)
                await asyncio.to_thread(shards.settled)

    async def _measure(self, name: str, lame_slots: Sequence[int]) -> None:
        await asyncio.sleep(SETTLING_SECONDS)
        loop = asyncio.get_running_loop()
        began, added, waiting, done = loop.time(), *await self._sizes(lame_slots), await self._done()
        await asyncio.sleep(PHASE_SECONDS)
        count, (added_then, waiting_then) = self.counts[name], await self._sizes(lame_slots)
        count.seconds += loop.time() - began
        count.pushed += added_then - added
        count.stored += (added_then - waiting_then) - (added - waiting)
        for bound, steps in (await self._done()).items():
            count.done[bound] += int(steps - done[bound])

    async def _sizes(self, lame_slots: Sequence[int]) -> tuple[int, int]:
        """Entries that were ever pushed to the streams of the other nodes, and those that still wait there."""
        added = waiting = 0
        for key in self._there.streams_outside({*lame_slots}):
            _, (facts,) = await self._there.client.send(key, ["XINFO", "STREAM", key])
            found = dict(zip(facts[::2], facts[1::2], strict=True))
            added, waiting = added + int(found[b"entries-added"]), waiting + int(found[b"length"])
        return added, waiting

    async def _done(self) -> Buckets:
        port = self._worker.events("worker.started")[0]["http_port"]
        async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session, session.get("/metrics") as response:
            families = [*text_string_to_metric_families(await response.text())]
        samples = [sample for family in families for sample in family.samples]
        name = f"{METRIC}_stage_seconds_bucket"
        steps = [sample for sample in samples if sample.name == name and sample.labels["stage"] == "done"]
        return defaultdict(float, {float(sample.labels["le"]): sample.value for sample in steps})


@asynccontextmanager
async def _dead(_: Shards, victim: RedisServer) -> AsyncIterator[None]:
    victim.kill()
    yield
    await asyncio.to_thread(victim.start)


@asynccontextmanager
async def _hung(shards: Shards, victim: RedisServer) -> AsyncIterator[None]:
    shards.hang(victim)
    yield
    shards.wake(victim)


async def lame(plan: Plan, directory: Path) -> tuple[list[str], list[str]]:
    """One run; what is wrong, best nothing, and its figures."""
    async with cluster_world(plan, directory, replicas=0) as there:
        worker = (await there.fleet.start("one")).process
        await worker.said("worker.started")
        async with Producer(
            there.settings().redis_url, partitions=plan.partitions, prefix=there.keys.prefix, limits=PATIENT
        ) as producer:
            speakers = Speakers(plan, producer)
            there.talks = speakers.all
            measurement = Measurement(there, worker)
            await speakers.talk_through(partial(_warmed, measurement.run))
        await there.come_to_rest()
        wrong, figures = await there.account()
        return [*wrong, *lameness(measurement.counts)], [*figures, *_table(measurement.counts)]


async def _warmed(measure: Callable[[], Awaitable[None]]) -> None:
    await asyncio.sleep(SETTLING_SECONDS)
    await measure()


FIGURES: Mapping[str, Callable[[Count], float]] = {
    "chunks pushed per second": lambda count: count.pushes,
    "chunks stored per second": lambda count: count.stores,
    "p99 of the done step, ms": lambda count: 1000 * count.p99,
}


def lameness(counts: Mapping[str, Count]) -> list[str]:
    """One sentence for each kind of lame node that the other nodes' conversations feel more than they may."""
    found = []
    for name in (DEAD, HUNG):
        pushes, stores, p99 = (figure(counts[name]) / figure(counts[WHOLE]) for figure in FIGURES.values())
        if min(pushes, stores) < LEAST_RATIO or p99 > MOST_P99_RATIO:
            found.append(f"a node that is {name} makes the others slower: see the table")
    return found


def _table(counts: Mapping[str, Count]) -> list[str]:
    """What the other nodes' conversations feel, beside what they feel while all nodes are well."""
    lines = [f"{'at the other two nodes':26} {WHOLE:>8} {DEAD:>8} {'ratio':>6} {HUNG:>8} {'ratio':>6}"]
    for name, figure in FIGURES.items():
        whole, dead, hung = (figure(counts[state]) for state in (WHOLE, DEAD, HUNG))
        lines.append(f"{name:26} {whole:8.1f} {dead:8.1f} {dead / whole:6.2f} {hung:8.1f} {hung / whole:6.2f}")
    return lines
