"""A spool and its drainer, without the worker around them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from codec.entry import partition_of
from tests.support.harness import Harness
from tests.support.spooled_blobs import record_of, seal_of, spool
from worker.assembly import Spooling, monitored
from worker.model.layouts import Layouts
from worker.model.seal import Seal
from worker.runtime.context import Context
from worker.runtime.metrics import PREFIX, Metrics
from worker.spool.names import SpoolOwner
from worker.spool.record import Record
from worker.spool.volume import Volume
from worker.stream.client import Client
from worker.stream.entries import Entries
from worker.stream.keys import Keys
from worker.stream.servers.connecting import connect
from worker.stream.tombstones import Tombstones

SEAL = seal_of("1000-0", "2000-0")


class SpoolHarness:
    """A spool with a drainer that runs when it is told to."""

    def __init__(self, harness: Harness, directory: Path, client: Client, **settings: object) -> None:
        self.settings = harness.settings(spool_dir=directory, **settings)
        self.metrics = Metrics()
        self.volume = Volume(directory)
        self.client = client
        self.origin = SpoolOwner(self.settings.store_url, self.settings.stream_prefix)
        self.store = self.settings.store.open()
        context = Context(self.metrics, clock=client.clock)
        entries = Entries(client, Keys(self.settings.stream_prefix), "worker")
        observed = monitored(self.settings, self.store, context)
        self.health = observed.health
        self.spooling = Spooling(self.settings, entries, observed, context)
        self.drainer = self.spooling.drainer

    def add(self, *records: Record) -> None:
        spool(self.volume, *records)

    def record(self, seal: Seal = SEAL, blob: bytes = b"") -> Record:
        partition = partition_of(seal.conversation_id, self.settings.partitions)
        return record_of(seal, blob, origin=self.origin, partition=partition)

    def count(self, name: str, **labels: str) -> float:
        return self.metrics.registry.get_sample_value(f"{PREFIX}_{name}", labels) or 0.0

    async def delete(self, uid: str, conversation_id: str | None = None) -> None:
        """Delete what was pushed until now, to streams that are there."""
        keys = Keys(self.settings.stream_prefix)
        for partition in range(self.settings.partitions):
            await self.client.nodes[0].redis.xadd(keys.stream(partition), {"a": "1"})
        layouts = Layouts.single(self.settings.partitions)
        await Tombstones(self.client, Keys(self.settings.stream_prefix), layouts).record_deletion(uid, conversation_id)


@asynccontextmanager
async def open_spool(harness: Harness, directory: Path, **settings: object) -> AsyncIterator[SpoolHarness]:
    client = Client(connect(harness.settings(**settings).redis_url))
    spool_harness = SpoolHarness(harness, directory, client, **settings)
    try:
        yield spool_harness
    finally:
        spool_harness.spooling.spool.close()
        await spool_harness.store.close()
        await client.close()
