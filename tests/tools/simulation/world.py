"""One simulated run: workers, pushers, a Redis and a store, and what happens to them in one seed's world."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from random import Random
from typing import Any, ParamSpec, TypeVar, cast

from codec.entry import partition_of
from tests.tools.simulation import node as nodes
from tests.tools.simulation.cluster_troubles import ClusterTroubles
from tests.tools.simulation.deletions import Deletions
from tests.tools.simulation.faults import Edge, Rates, scaled
from tests.tools.simulation.forger import Forger
from tests.tools.simulation.loop import VirtualLoop
from tests.tools.simulation.node import Node
from tests.tools.simulation.pushers import Habits, Pushed, Pusher, forget
from tests.tools.simulation.redis_cluster import ModelServers
from tests.tools.simulation.redis_link import ModelConnector
from tests.tools.simulation.redis_model import Database, Group, ModelRedis, Script
from tests.tools.simulation.redis_scripts import SCRIPTS
from tests.tools.simulation.store_model import Bucket, ModelStore
from tests.tools.simulation.volume_model import ModelVolume, move_to_model
from worker.app import Means, Worker
from worker.assembly import monitored
from worker.model.ids import Conversation
from worker.operations.health import WorkerHealth
from worker.runtime.context import Context
from worker.runtime.metrics import Metrics
from worker.settings import Settings
from worker.stream.client import Client
from worker.stream.keys import GROUP, Keys

T = TypeVar("T")
P = ParamSpec("P")

PREFIX = "sim"
REDIS_RATES = Rates(refused=0.01, reply_lost=0.01, torn=0.005, late=0.004, slow=0.02, kill=0.006, pause=0.004)
STORE_RATES = Rates(refused=0.1, reply_lost=0.08, late=0.03, slow=0.1, kill=0.05, pause=0.03)
VOLUME_RATES = Rates(refused=0.02, torn=0.01, late=0.01, slow=0.02, kill=0.01, pause=0.005)
QUIET_SECONDS = 240.0
"""Patience after the last fault: the longest backoff of the store is 31 s, and some tries may have to follow."""

AFTERMATH_SECONDS = 4.0
"""For late requests, and for paused workers that wake up when all is over."""


class Stuck(AssertionError):
    """It never became quiet."""


@dataclass(frozen=True, slots=True)
class World:
    """What a seed decides before anything runs."""

    seed: int
    partitions: int
    workers: int
    conversations: int
    chunks: int
    interval: float
    lease_ttl: float
    naming: str
    shutdown: str
    noise: float
    kills: int
    events: int
    failovers: bool
    largest_batch: int
    duplicates: float
    forgeries: int
    oldest_batch: float
    ends: float
    slow_clock: float
    restarts: float
    spool_mode: str
    owned_before: bool
    redis_nodes: int
    reshapings: int
    deletions: int

    @classmethod
    def of(cls, seed: int, *, failovers: bool | None = None, redis_nodes: int | None = None) -> World:
        """The world of a seed; single facts of it may be given."""
        random = Random(f"world {seed}")
        world = cls(
            seed=seed,
            partitions=random.choice((1, 1, 2, 3)),
            workers=random.choice((1, 2, 2, 3)),
            conversations=random.randint(1, 3),
            chunks=random.choice((4, 12, 30)),
            interval=random.choice((0.02, 0.1, 0.2)),
            lease_ttl=random.choice((1.5, 3.0)),
            naming=random.choice(("start", "range")),
            shutdown=random.choice(("flush", "handoff")),
            noise=random.choice((0.0, 0.3, 1.0, 1.0, 3.0)),
            kills=random.choice((0, 1, 3, 8)),
            events=random.randint(0, 4),
            failovers=random.random() < 0.3 if failovers is None else failovers,
            largest_batch=random.choice((4, 8)),
            duplicates=random.choice((0.02, 0.1, 0.4)),
            forgeries=random.choice((0, 0, 0, 2, 6)),
            oldest_batch=random.choice((1.0, 1.0, 4.0)),
            ends=random.choice((0.03, 0.03, 0.2)),
            restarts=random.choice((0.0, 0.1)),
            slow_clock=random.choice((0.0, 0.0, 1.0, 5.0)),
            spool_mode=random.choice(("off", "off", "always", "outage")),
            owned_before=random.random() < 0.7,
            redis_nodes=random.choice((1, 1, 1, 1, 1, 2, 3)) if redis_nodes is None else redis_nodes,
            reshapings=random.randint(0, 12),
            deletions=random.choice((0, 0, 0, 1, 3)),
        )
        return replace(world, slow_clock=0.0) if world.deletions else world


class LateExecutor(Executor):
    """In the place of a pool of threads: jobs are done in this thread, a moment later."""

    def __init__(self, random: Random) -> None:
        self._random = random

    def submit(self, job: Callable[P, T], /, *args: P.args, **options: P.kwargs) -> Future[T]:
        future: Future[T] = Future()

        def work() -> None:
            if future.set_running_or_notify_cancel():
                future.set_result(job(*args, **options))

        asyncio.get_running_loop().call_later(0.02 * self._random.random() ** 4, work)
        return future


class Run:
    """A world in motion."""

    def __init__(
        self, world: World, *, scripts: Mapping[str, Script] = SCRIPTS, trace: Callable[[str], None] | None = None
    ) -> None:
        self.world = world
        self.random = Random(f"run {world.seed}")
        self.loop = VirtualLoop()
        self.loop.on_task = _adopt
        self.bucket = Bucket()
        self.redis = ModelServers(self.loop.time, scripts, world.redis_nodes, Random(f"places {world.seed}"))
        self.pushed = Pushed()
        self.metrics = Metrics()
        self.failures: list[str] = []
        self.failed_over = 0
        self.troubles: Callable[[], list[Callable[[], Any]]] = self._usual_troubles
        self.keys = Keys(PREFIX)
        self._out = trace
        self._trace = self._write if trace is not None else None
        self.redis_edge = Edge(scaled(REDIS_RATES, world.noise), self.random, self._trace)
        self.store_edge = Edge(scaled(STORE_RATES, min(world.noise, 2)), self.random, self._trace)
        self.volume_edge = Edge(scaled(VOLUME_RATES, world.noise), self.random, self._trace)
        self.volume = ModelVolume(self.loop.time)
        self.nodes: list[Node] = []
        self.cluster_troubles = ClusterTroubles(
            self, world.partitions, Random(f"cluster {world.seed}"), failovers=world.failovers
        )

        self.deletions = Deletions(self, world.partitions, Random(f"deletions {world.seed}"))

    def run(self) -> None:
        """Live through it. Raises `Stuck`."""
        try:
            self.loop.run_until_complete(self._live())
        finally:
            self.loop.run_until_complete(self._end())
            self.loop.close()

    @property
    def interruptions(self) -> int:
        """Times a worker crashed, or was paused: an owner that sleeps beyond its lease looks as if it had died."""
        return sum(node.interruptions for node in self.nodes)

    async def _end(self) -> None:
        while any(node.tasks for node in self.nodes):  # a task may be cancelled in the moment in which its wait is over
            for node in self.nodes:
                node.kill()
            await asyncio.sleep(0.1)

    async def _live(self) -> None:
        for edge in (self.redis_edge, self.store_edge, self.volume_edge):
            edge.kills_left = self.world.kills
        if self.world.owned_before:
            self._identify_streams()
        for _ in range(self.world.workers):
            self.start_worker()
        events = asyncio.gather(self._make_trouble(), self._forge(), self._delete(), *self._reshape())
        await asyncio.gather(
            *(self._pusher(number).run(PREFIX, self.world.partitions) for number in self._conversations())
        )
        await events
        self._calm_down()
        await self._become_quiet()
        await asyncio.sleep(AFTERMATH_SECONDS)

    def _identify_streams(self) -> None:
        """Let all streams have an owner in the past, so that Redis knows their ids."""
        for partition in range(self.world.partitions):
            data = self.redis.holder(self.keys.stream(partition)).data
            group = data.stream(self.keys.stream(partition)).groups.setdefault(GROUP, Group())
            group.consumers[f"stream:{partition:032x}"] = None
            data.hash(self.keys.epoch(partition)).update({"server": data.server.encode(), "highest": b"0-0"})

    def _reshape(self) -> list[Coroutine[Any, Any, None]]:
        """What happens to the nodes of a cluster; a single server needs no task for that."""
        if not self.redis.is_cluster:
            return []
        for server in self.redis.all:
            server.behind = self.world.slow_clock * self.random.random()
        return [self.cluster_troubles.make(self.world.reshapings)]

    def conversation(self, number: int) -> Conversation:
        return Conversation("user", f"talk-{number}")

    def stream_of(self, conversation: Conversation) -> str:
        return self.keys.stream(partition_of(conversation.conversation_id, self.world.partitions))

    def _conversations(self) -> range:
        return range(self.world.conversations)

    def _pusher(self, number: int) -> Pusher:
        world = self.world
        with_seq = self.random.random() < 0.6
        habits = Habits(
            *(world.chunks, world.interval, world.duplicates),
            end=world.ends,
            restart=world.restarts,
            with_seq=with_seq,
        )
        return Pusher(self.conversation(number), habits, self.redis, self.pushed, self.random)

    def start_worker(self) -> None:
        node = Node(f"worker-{len(self.nodes) + 1}")
        self.nodes.append(node)
        context = contextvars.copy_context()
        context.run(nodes.current.set, node)
        self.write(f"{node.name} starts")
        self.loop.create_task(self._work(node), context=context)

    async def _work(self, node: Node) -> None:
        settings = self._settings(node, shutdown=self.world.shutdown)
        client = Client(ModelConnector(node, self.redis, self.redis_edge), self.loop.time)
        store = ModelStore(node, self.bucket, self.store_edge)
        pool = cast("ThreadPoolExecutor", LateExecutor(self.random))
        context = Context(self.metrics, clock=self.loop.time)
        means = Means(client, monitored(settings, store, context), pool)
        worker = Worker(settings, means, WorkerHealth(self.loop.time), context)
        if worker._spooling is not None:
            move_to_model(worker._spooling, self.volume, node, self.volume_edge)
        try:
            await worker.run(node.stop, drain=False)
        except Exception as error:  # noqa: BLE001 -- a worker that ends by itself is a finding, whatever it was
            self.failures.append(f"{node.name} ended with {error!r}")
        self.write(f"{node.name} ends")
        node.kill()

    def _settings(self, node: Node, **changes: object) -> Settings:
        return Settings.model_validate(
            {
                "store_url": "gs://none",
                "encryption_secret": "a simulation's secret of thirty-two bytes",
                "partitions": self.world.partitions,
                "stream_prefix": PREFIX,
                "batch_max_seconds": self.world.largest_batch * 0.01,
                "batch_max_age": self.world.oldest_batch,
                "gap_tolerance": 0.005,
                "lease_ttl": self.world.lease_ttl,
                "blob_codec": "pcm",
                "blob_naming": self.world.naming,
                "encode_threads": 1,
                "worker_id": node.name,
                "shutdown_grace": 6.0,
                "spool_dir": None if self.world.spool_mode == "off" else ModelVolume.directory,
                "spool_mode": self.world.spool_mode,
                "spool_after": 1.0,
            }
            | changes
        )

    async def _make_trouble(self) -> None:
        for _ in range(self.world.events):
            await asyncio.sleep(self.random.random() * 2.5)
            event = self.random.choice(self.troubles())
            self.write(event.__name__.strip("_"))
            await event()

    def _usual_troubles(self) -> list[Callable[[], Any]]:
        calm = [self.kill, self._pause, self._add, self._add, self._remove, self.roll, self._cut_off]
        if self.world.spool_mode != "off":
            calm = [*calm, self._close_store, self._close_store]
        if not self.world.failovers:
            return calm
        return [*calm, *3 * [self.fail_over], self.roll_and_fail_over, self.die_and_fail_over, self._demote]

    async def _forge(self) -> None:
        random = Random(f"forger {self.world.seed}")
        forger = Forger(self.bucket, self.world.naming, random)
        for _ in range(self.world.forgeries):
            await asyncio.sleep(random.random() * 1.5)
            conversation = self.conversation(random.randrange(self.world.conversations))
            self.write(f"somebody forges an object of {conversation}")
            forger.forge(self.redis.data, self.stream_of(conversation), conversation)

    async def _delete(self) -> None:
        conversations = [self.conversation(number) for number in self._conversations()]
        await self.deletions.make(self.world.deletions, conversations)

    async def kill(self) -> None:
        if node := self._any_alive():
            node.crash()

    async def _pause(self) -> None:
        if node := self._any_alive():
            node.pause(self.random.random() * 3 * self.world.lease_ttl)

    async def _add(self) -> None:
        self.start_worker()

    async def _remove(self) -> None:
        if node := self._any_alive():
            node.stop.set()

    async def roll(self) -> None:
        """Each worker is replaced by a new one."""
        for node in [node for node in self.nodes if node.alive]:
            self.start_worker()
            node.stop.set()
            await asyncio.sleep(self.random.random())

    async def _cut_off(self) -> None:
        """Redis is unreachable for a while."""
        before, self.redis_edge.rates = self.redis_edge.rates, Rates(refused=0.5, reply_lost=0.5)
        await asyncio.sleep(self.random.random() * 2 * self.world.lease_ttl)
        self.redis_edge.rates = before

    async def _close_store(self) -> None:
        """The store refuses everything for a while."""
        before, self.store_edge.rates = self.store_edge.rates, Rates(refused=1.0)
        await asyncio.sleep(self.random.random() * 6)
        self.store_edge.rates = before

    async def fail_over(self) -> None:
        async with self.redis.reshaping:
            server, replica = self._replica()
            await asyncio.sleep(self.random.random() ** 2 * 1.5)
            self.promote(server, replica)

    async def fail_over_slowly(self) -> None:
        """Nobody reaches the new primary for so long that leases expire there, and workers swap partitions."""
        await self.fail_over()
        before, self.redis_edge.rates = self.redis_edge.rates, Rates(refused=1.0)
        await asyncio.sleep(self.random.random() * 1.5 * self.world.lease_ttl)
        self.redis_edge.rates = before

    async def roll_and_fail_over(self) -> None:
        """What closed batches early is forgotten, so that the next owner cuts them otherwise."""
        async with self.redis.reshaping:
            server, replica = self._replica()
            await self.roll()
            await asyncio.sleep(self.random.random())
            self.promote(server, replica)

    async def die_and_fail_over(self) -> None:
        """Whoever comes after workers that died while they stopped finds their seals; then these are forgotten."""
        async with self.redis.reshaping:
            server, replica = self._replica()
            old = [node for node in self.nodes if node.alive]
            self.start_worker()
            for node in old:
                node.stop.set()
            await asyncio.sleep(0.3 * self.random.random())
            for node in old:
                node.crash()
            await asyncio.sleep(self.world.lease_ttl * (1 + self.random.random()))
            self.promote(server, replica)

    async def _demote(self) -> None:
        """The primary becomes a replica and refuses to write, before the other one takes its name."""
        async with self.redis.reshaping:
            server, replica = self._replica()
            server.readonly = True
            await asyncio.sleep(self.random.random())
            self.promote(server, replica)

    def _replica(self) -> tuple[ModelRedis, Database]:
        """A server, and what a replica of it holds at this moment."""
        servers = self.redis.all
        server = servers[0] if len(servers) == 1 else self.random.choice(servers)
        return server, server.snapshot()

    def promote(self, server: ModelRedis, replica: Database) -> None:
        """Let a server fail over to that state."""
        behind = self.world.slow_clock * self.random.random()
        self.redis.fail_over(server, replica, behind)
        self.failed_over += 1
        forget(self.pushed, self.redis, {c: self.stream_of(c) for c in self.pushed.entries})
        self.write("failed over")

    def _any_alive(self) -> Node | None:
        alive = [node for node in self.nodes if node.alive]
        return self.random.choice(alive) if alive else None

    def _calm_down(self) -> None:
        self.write("all is calm from here on")
        self.redis_edge.calm()
        self.store_edge.calm()
        self.volume_edge.calm()

    async def _become_quiet(self) -> None:
        deadline = self.loop.time() + QUIET_SECONDS
        while left := self._left():
            if self.failures:
                raise Stuck("a worker ended by itself")
            if self.loop.time() > deadline:
                raise Stuck(f"{QUIET_SECONDS:.0f} s after the last fault there is still {left}")
            self.keep_working()
            await asyncio.sleep(0.2)

    def keep_working(self) -> None:
        """Start a worker if none is left."""
        if not any(node.alive and not node.stop.is_set() for node in self.nodes):
            self.start_worker()

    def _left(self) -> str:
        data = self.redis.data
        for partition in range(self.world.partitions):
            if entries := data.stream(self.keys.stream(partition)).entries:
                return f"{len(entries)} entries in partition {partition}, the first is {min(entries)}"
            if seals := data.hash(self.keys.ready(partition)):
                return f"seals {list(seals)} in partition {partition}"
        if files := self.volume.waiting():
            return f"spooled {files}"
        return ""

    def write(self, text: str) -> None:
        if self._out is not None:
            self._write(text)

    def _write(self, text: str) -> None:
        node = nodes.current.get()
        name = node.name if node else ""
        assert self._out is not None
        self._out(f"{self.loop.time() - 1000:9.4f} {name:10} {text}")


def _adopt(task: asyncio.Task[Any], context: contextvars.Context) -> None:
    node = context.get(nodes.current)
    if node is not None:
        node.adopt(task)
