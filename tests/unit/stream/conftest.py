"""Two workers' ends of the protocol, on the shared Redis."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import redis.asyncio

from tests.support.partition_owner import PARTITIONS, TTL, PartitionOwner, Raw
from worker.stream.client import Client
from worker.stream.keys import Keys
from worker.stream.leases import Leases
from worker.stream.servers.connecting import connect


@pytest.fixture
def raw(redis_client: redis.asyncio.Redis) -> Raw:
    """A plain client, to look at what the scripts did."""
    return redis_client


@pytest.fixture
def keys(prefix: str) -> Keys:
    return Keys(prefix)


@pytest.fixture
async def client(redis_url: str) -> AsyncIterator[Client]:
    async with Client(connect(redis_url)) as client:
        yield client


@pytest.fixture
def leases(client: Client, keys: Keys) -> Leases:
    return Leases(client, keys, PARTITIONS, TTL)


@pytest.fixture
async def owner(client: Client, keys: Keys) -> PartitionOwner:
    """The owner of partition 0."""
    return await PartitionOwner.open(client, keys, "one")
