"""Redis, a Cloud Storage server and workers of one test, the workers inside the test's own event loop."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any

import redis.asyncio

from codec.entry import Chunk, End, partition_of
from tests.support.gcs.server import GcsServer
from tests.support.oracle import Blob, Talk
from tests.support.proxy import Proxy
from tests.support.redis_server import RedisServer
from tests.support.timing import SHORT_TURNS
from worker.app import Means, Worker
from worker.archive import Archive, Deletion
from worker.assembly import monitored
from worker.operations.health import WorkerHealth
from worker.runtime.context import Context
from worker.runtime.metrics import PREFIX, Metrics
from worker.runtime.timing import Timing
from worker.settings import Settings
from worker.stores import open_store
from worker.stream.client import Client
from worker.stream.entries import Entries
from worker.stream.keys import Keys
from worker.stream.leases import Leases
from worker.stream.servers.connecting import connect
from worker.stream.tombstones import open_tombstones

PATIENCE = 8.0
"""Seconds after which what a test waits for counts as never happening."""

POLL_SECONDS = 0.01

EXACT: dict[str, Any] = {"blob_codec": "pcm"}
"""Settings whose blobs are compared to the bit."""

HANDOFF: dict[str, Any] = {"shutdown": "handoff", **EXACT}
"""The same, of a worker that leaves its open batches to the next owner."""


async def eventually(condition: Callable[[], object | Awaitable[object]], what: str = "") -> None:
    """Wait until a condition that can only be looked at holds."""
    deadline = asyncio.get_running_loop().time() + PATIENCE
    while not await _value(condition):
        assert asyncio.get_running_loop().time() < deadline, what or inspect.getsource(condition).strip()
        await asyncio.sleep(POLL_SECONDS)


async def _value(condition: Callable[[], object | Awaitable[object]]) -> object:
    value = condition()
    return await value if inspect.isawaitable(value) else value


class Running:
    """A worker at work."""

    def __init__(self, settings: Settings, timing: Timing = SHORT_TURNS) -> None:
        self.metrics = Metrics()
        self.health = WorkerHealth(timing=timing.health)
        self.stop = asyncio.Event()
        self.store = settings.store.open()
        self.client = Client(connect(settings.redis.url, timeout=settings.redis.reply_timeout))
        self.pool = ThreadPoolExecutor(settings.encode_threads)
        context = Context(self.metrics, timing, self.client.clock)
        means = Means(self.client, monitored(settings, self.store, context), self.pool)
        self.worker = Worker(settings, means, self.health, context)

    def count(self, name: str, **labels: str) -> float:
        """A series' value; 0 while it does not exist."""
        return self.metrics.registry.get_sample_value(f"{PREFIX}_{name}", labels) or 0.0

    def in_hand(self) -> int:
        """Chunks that are read and not being delivered, each once; `chunks_total` counts what a rewind reads again."""
        partitions = self.worker._consumer.partitions.values()
        return sum(len(chunks) for partition in partitions for chunks in partition.held().values())

    async def close(self) -> None:
        self.pool.shutdown(wait=True)
        await self.client.close()
        await self.store.close()


class Harness:
    """What one test works with; `make` makes its settings, `timing` is that of its workers."""

    def __init__(
        self,
        make: Callable[..., Settings],
        client: redis.asyncio.Redis | redis.asyncio.RedisCluster,
        server: GcsServer,
        timing: Timing = SHORT_TURNS,
    ) -> None:
        self._make = make
        self.timing = timing
        self.redis: Any = client  # its own annotations allow every form of reply at once
        self.server = server
        self.partitions = 2
        self.keys = Keys(make().stream_prefix)

    def settings(self, **changes: object) -> Settings:
        """Small batches, few partitions, blobs in the test server's bucket."""
        return self._make(
            **{
                "store_url": f"gs://{self.server.bucket}",
                "storage_emulator_host": self.server.url,
                "partitions": self.partitions,
                "batch_max_seconds": 3.0,
                "lease_ttl": 5.0,
                "encode_threads": 2,
                **changes,
            }
        )

    @asynccontextmanager
    async def worker(self, *, drain: bool = False, **changes: object) -> AsyncIterator[Running]:
        """A worker that stops, as SETTINGS.shutdown says, when the block is left; its failure is the test's."""
        running = Running(self.settings(**changes), self.timing)
        try:
            async with asyncio.timeout(2 * PATIENCE), asyncio.TaskGroup() as group:
                group.create_task(running.worker.run(running.stop, drain=drain))
                yield running
                if not drain:
                    running.stop.set()
        finally:
            await running.close()

    async def drain(self, **changes: object) -> Running:
        """Run a worker until everything is stored, and check that nothing is left behind in Redis."""
        async with self.worker(drain=True, **changes) as running:
            pass
        await self.assert_empty()
        return running

    async def restarted(self, server: RedisServer) -> None:
        """Start a server that was killed, and leave the connections to the former one."""
        server.start()
        await self.redis.connection_pool.disconnect()

    def partition(self, conversation_id: str) -> int:
        return partition_of(conversation_id, self.partitions)

    async def push(self, *contents: Chunk | End) -> list[str]:
        """Append entries as they are; returns their ids."""
        async with self.redis.pipeline(transaction=False) as pipe:
            for content in contents:
                pipe.xadd(self.keys.stream(self.partition(content.conversation_id)), dict(content.fields()))
            return [entry.decode() for entry in await pipe.execute()]

    async def say(self, talk: Talk, seconds: float, *, chunk: float = 0.5) -> list[str]:
        """Continue a conversation in chunks."""
        return await self.push(*(talk.say(chunk) for _ in range(round(seconds / chunk))))

    async def entries(self) -> int:
        """Entries in all streams."""
        return sum([await self.redis.xlen(self.keys.stream(number)) for number in range(self.partitions)])

    async def pending(self) -> int:
        """Entries that a consumer group holds."""
        found = 0
        for number in range(self.partitions):
            if await self.redis.exists(self.keys.stream(number)):
                groups = await self.redis.xinfo_groups(self.keys.stream(number))
                found += sum(group["pending"] for group in groups)
        return found

    async def taken_over(self) -> bool:
        """Whether an owner knows which streams these are; what is pushed from now on has no past."""
        epochs = [self.keys.epoch(number) for number in range(self.partitions)]
        return all([await self.redis.hexists(epoch, "server") for epoch in epochs])

    async def seals(self) -> int:
        """Batches that are sealed and not done."""
        return sum([await self.redis.hlen(self.keys.ready(number)) for number in range(self.partitions)])

    async def assert_empty(self) -> None:
        """Nothing is in Redis that is not stored."""
        assert (await self.entries(), await self.pending(), await self.seals()) == (0, 0, 0)

    async def events(self) -> list[dict[str, str]]:
        """What the done streams say, partition after partition."""
        return [_text(fields) for fields in await self._stream_of(self.keys.done)]

    async def events_of(self, partition: int) -> list[dict[str, str]]:
        """What one partition's done stream says."""
        return [_text(fields) for _, fields in await self.redis.xrange(self.keys.done(partition))]

    async def is_empty(self) -> bool:
        """Whether nothing is in Redis that is not stored."""
        return (await self.entries(), await self.pending(), await self.seals()) == (0, 0, 0)

    async def dead(self) -> list[dict[bytes, bytes]]:
        """The dead letters of all partitions."""
        return await self._stream_of(self.keys.dead)

    async def _stream_of(self, key: Callable[[int], str]) -> list[dict[bytes, bytes]]:
        entries = [await self.redis.xrange(key(number)) for number in range(self.partitions)]
        return [fields for stream in entries for _, fields in stream]

    def blobs(self) -> list[Blob]:
        """All blobs in the bucket; what records deletions is none."""
        objects = self.server.objects().items()
        return [Blob(name, stored.data, stored.metadata) for name, stored in objects if name.startswith("chunks/")]


HarnessMaker = Callable[[RedisServer | Proxy, RedisServer | Proxy], Awaitable[Harness]]
"""Makes a harness whose workers reach Redis by one way, and which itself looks at the server."""


async def owned_before(harness: Harness) -> Harness:
    """Let a former worker have owned all streams, so that Redis knows them, and entries are taken for new."""
    settings = harness.settings()
    async with Client(connect(settings.redis.url)) as client:
        leases = Leases(client, harness.keys, harness.partitions, settings.lease_ttl)
        entries = Entries(client, harness.keys, "a former worker")
        taken, _ = await leases.acquire(range(harness.partitions), "a former worker")
        for lease in taken:
            await entries.take_over(lease)
            await leases.release(lease)
    return harness


async def forgotten_seal(harness: Harness, talk: Talk, seconds: float, **changes: object) -> Blob:
    """A blob that is in the bucket while Redis has its entries again, knows nothing of its seal, and can't tell."""
    partition = harness.partition(talk.conversation_id)
    stream = harness.keys.stream(partition)
    async with harness.worker(**HANDOFF) as running:
        chunks = len(await harness.say(talk, seconds))
        await eventually(lambda: running.count("chunks_total") == chunks)
    before = await harness.redis.dump(stream)
    await harness.drain(**EXACT, **changes)
    seen = harness.keys.seen(partition, f"{talk.uid}/{talk.conversation_id}")
    await harness.redis.delete(harness.keys.done(partition), seen)
    await harness.redis.restore(stream, 0, before, replace=True)
    return harness.blobs()[0]


async def remove(harness: Harness, conversation_id: str | None) -> Deletion:
    """`audio-batch-worker rm`, as a backend does it."""
    store, settings = open_store(f"gs://{harness.server.bucket}", emulator_host=harness.server.url), harness.settings()
    there = settings.redis
    async with open_tombstones(there.url, there.prefix, there.partitions, replication=0.05) as tombstones:
        deletion = await Archive(store).delete("user", conversation_id, tombstones=tombstones)
    await store.close()
    return deletion


def _text(fields: dict[bytes, bytes]) -> dict[str, str]:
    return {name.decode(): value.decode() for name, value in fields.items()}
