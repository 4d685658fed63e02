"""Settings that belong together, handed whole to the part of the worker that uses them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from worker.batching.encoder import OpusSettings
from worker.stores import open_store
from worker.stores.base import Store
from worker.stream.keys import Keys


@dataclass(frozen=True, slots=True)
class RedisSettings:
    """REDIS_URL, STREAM_PREFIX, PARTITIONS and LEASE_TTL: where the streams are, and how workers share them.

    `url` is REDIS_URL with REDIS_CA_FILE and REDIS_AUTH as its options: all that a connection needs.
    `partitions` is None if PARTITIONS is not set.
    """

    url: str = field(repr=False)
    prefix: str
    partitions: int | None
    lease_ttl: float

    @property
    def keys(self) -> Keys:
        """Names of all keys under the prefix."""
        return Keys(self.prefix)

    @property
    def reply_timeout(self) -> float:
        """Seconds that a worker waits for a reply; after a missing reply it must still be able to renew a lease."""
        return min(5.0, self.lease_ttl / 3)


@dataclass(frozen=True, slots=True)
class StoreSettings:
    """STORE_URL, STORAGE_EMULATOR_HOST and UPLOAD_CONCURRENCY."""

    url: str
    emulator_host: str | None
    upload_concurrency: int

    @property
    def is_directory(self) -> bool:
        """Whether another volume may be at the same place."""
        return self.url.startswith("file:")

    def open(self) -> Store:
        """Open the store; raises the same errors as `open_store`."""
        return open_store(self.url, emulator_host=self.emulator_host)


@dataclass(frozen=True, slots=True)
class EncodingSettings:
    """How audio is encoded, in how many threads, and MEMORY_LIMIT."""

    opus: OpusSettings
    threads: int
    memory_limit: int


@dataclass(frozen=True, slots=True)
class SpoolSettings:
    """SPOOL_DIR, SPOOL_MODE, SPOOL_MAX_BYTES and SPOOL_AFTER: where and when blobs wait for the store."""

    directory: Path
    mode: Literal["off", "outage", "always"]
    max_bytes: int
    after: float


@dataclass(frozen=True, slots=True)
class HttpSettings:
    """HTTP_HOST and HTTP_PORT: the address that the HTTP server listens on; port 0 takes a free one."""

    host: str
    port: int


@dataclass(frozen=True, slots=True)
class ShutdownSettings:
    """SHUTDOWN and SHUTDOWN_GRACE: whether open batches are stored at the end, and the seconds from SIGTERM to exit."""

    flush: bool
    grace: float
