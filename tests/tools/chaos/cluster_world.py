"""A Redis Cluster, a store, workers and pushers of one run, and the account in its end."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random

from redis.crc import key_slot

from tests.support.gcs.control import GcsClient
from tests.support.redis_cluster import RedisCluster
from tests.tools.chaos.cluster_account import ClusterAccount
from tests.tools.chaos.cluster_pushers import ClusterPushers, FixedStreams, Streams
from tests.tools.chaos.conservation import PREFIX, become_quiet, bucket_process, settings_of
from tests.tools.chaos.fleet import Fleet
from tests.tools.chaos.plain_client import NoAnswer, PlainClient
from tests.tools.chaos.shards import Shards
from tests.tools.chaos.talks import Talk
from tests.tools.chaos.trouble import Plan
from worker.settings import Settings
from worker.stream.keys import Keys

PRIMARIES = 3
NODE_TIMEOUT_MS = "2000"
"""After which a cluster replaces a node. It bears with a busy machine, where each process may wait for its turn."""


@dataclass(slots=True)
class ClusterWorld:
    """What a run works with; `partitions` are all that may hold something."""

    plan: Plan
    shards: Shards
    fleet: Fleet
    client: PlainClient
    pushers: ClusterPushers
    bucket: GcsClient
    keys: Keys
    settings: Callable[..., Settings]
    partitions: int
    talks: Sequence[Talk]

    def streams_outside(self, slots: Collection[int]) -> list[str]:
        """The streams that are not in these slots."""
        keys = map(self.keys.stream, range(self.partitions))
        return [key for key in keys if key_slot(key.encode()) not in slots]

    async def come_to_rest(self) -> None:
        """Wait until all is stored, and end all workers."""
        try:
            await become_quiet(self._left)
        except TimeoutError:
            self.fleet.wrong.append("after the last fault it never becomes quiet")
        await asyncio.gather(*(self.fleet.stop(member) for member in self.fleet.running))

    async def account(self) -> tuple[list[str], list[str]]:
        """What is wrong, and figures."""
        account = self._account()
        wrong = await account.findings(self.bucket, self.settings())
        told = sum(int(str(event["entries"])) for event in self.fleet.said("entries.lost"))
        if told > (most := sum(map(len, self.pushers.receipts.lost.values()))):
            wrong.append(f"workers call {told} entries lost, {most} are")
        talks = self.talks
        objects = await self.bucket.objects()
        return [*wrong, *self.fleet.wrong], [
            f"{sum(talk.pushed for talk in talks)} chunks in {len(talks)} conversations, {len(objects)} objects",
            f"{sum(talk.duplicates for talk in talks)} pushed twice; XADDs repeated: {dict(self.pushers.counts)}",
            f"workers: {dict(self.fleet.counts)}; they call {told} entries lost",
            f"stored: {dict(account.counts)}",
            f"names found taken: {dict(self.fleet.names_taken())}",
        ]

    def _account(self) -> ClusterAccount:
        return ClusterAccount(self.client, self.keys, self.partitions, self.talks, self.pushers.receipts.lost)

    async def _left(self) -> float:
        try:
            return await self._account().left()
        except NoAnswer:
            return math.inf


@asynccontextmanager
async def cluster_world(
    plan: Plan, directory: Path, *, replicas: int, wait: int = 0, streams: Streams | None = None, partitions: int = 0
) -> AsyncIterator[ClusterWorld]:
    """A cluster with an append-only file at each node, and an empty fleet."""
    options = {"appendonly": "yes", "appendfsync": "no", "repl_diskless_sync_delay": "0", "maxclients": "500"}
    cluster = RedisCluster(directory, PRIMARIES, replicas, tls=None, cluster_node_timeout=NODE_TIMEOUT_MS, **options)
    keys = Keys(PREFIX)
    try:
        await asyncio.to_thread(cluster.start)
        async with AsyncExitStack() as stack:
            bucket = await stack.enter_async_context(bucket_process())
            ports = [server.port for server in cluster.servers]
            settings = settings_of(plan, f"redis://{','.join(f'127.0.0.1:{port}' for port in ports)}", bucket)
            client = PlainClient(ports, Random(plan.seed))
            stack.push_async_callback(client.close)
            fleet = await stack.enter_async_context(Fleet(settings))
            pushers = ClusterPushers(
                plan,
                client,
                streams or FixedStreams(keys, plan.partitions),
                Random(plan.seed),
                wait=wait,
            )
            most = partitions or plan.partitions
            yield ClusterWorld(plan, Shards(cluster), fleet, client, pushers, bucket, keys, settings, most, pushers.all)
    finally:
        cluster.stop()
