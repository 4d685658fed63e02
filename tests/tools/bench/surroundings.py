"""A redis-server and a Cloud Storage test server of the bench's own, each a process beside the worker."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from redis import Redis

from tests.support.paths import ROOT
from tests.support.redis_server import RedisServer
from tests.tools.bench.processes import Worker
from tests.tools.bench.pushing import KEYS, PARTITIONS
from worker.settings import Settings
from worker.stream.leases import owner_of

SECRET = "the bench's secret of thirty-two bytes or more"


@dataclass(frozen=True, slots=True)
class RedisFacts:
    """What the server has done and holds: CPU seconds, reads from sockets, bytes in and out, bytes of memory."""

    cpu: float
    reads: int
    received: int
    sent: int
    memory: int


@dataclass(slots=True)
class Surroundings:
    """The servers, and workers that use them."""

    directory: Path
    redis_url: str
    redis: Redis
    store_url: str
    bucket: str
    _logs: int = field(default=0, init=False)

    def worker(
        self,
        settings: Mapping[str, object] | None = None,
        *,
        drain: bool = False,
        confine: Callable[[int], None] | None = None,
    ) -> Worker:
        """Start a worker with these settings besides the servers' addresses; by default with one encoder thread."""
        self._logs += 1
        log = self.directory / f"worker-{self._logs}.log"
        return Worker(self._environment(settings or {}), log, drain=drain, confine=confine)

    def facts(self) -> RedisFacts:
        """Redis, now."""
        info: dict[str, Any] = self.redis.info("all")
        return RedisFacts(
            cpu=info["used_cpu_user"] + info["used_cpu_sys"],
            reads=info["total_reads_processed"],
            received=info["total_net_input_bytes"],
            sent=info["total_net_output_bytes"],
            memory=info["used_memory"],
        )

    def waiting(self) -> int:
        """Entries in all streams: what is not stored."""
        with self.redis.pipeline(transaction=False) as pipe:
            for partition in range(PARTITIONS):
                pipe.xlen(KEYS.stream(partition))
            return sum(pipe.execute())

    def owned(self, partitions: int = PARTITIONS) -> dict[str, int]:
        """How many partitions each worker holds."""
        tokens: Any = self.redis.mget([KEYS.lease(partition) for partition in range(partitions)])
        return dict(Counter(owner for token in tokens if (owner := owner_of(token))))

    def taken_over(self, partitions: int) -> bool:
        """Whether the owners of so many partitions know their streams, and could read them."""
        with self.redis.pipeline(transaction=False) as pipe:
            for partition in range(partitions):
                pipe.hexists(KEYS.epoch(partition), "server")
            return all(pipe.execute())

    def store_requests(self) -> dict[str, int]:
        """Requests by kind since the store was last emptied."""
        with urllib.request.urlopen(f"{self.store_url}/_control/counts", timeout=30) as reply:  # noqa: S310 -- our own address
            kinds: dict[str, int] = json.load(reply)["kinds"]
        return kinds

    def clear(self) -> None:
        """Forget all audio in Redis and all counts of the store."""
        self.redis.flushall()
        request = urllib.request.Request(f"{self.store_url}/_control/counts", method="DELETE")  # noqa: S310 -- our own address
        urllib.request.urlopen(request, timeout=30).close()  # noqa: S310

    def _environment(self, settings: Mapping[str, object]) -> dict[str, str]:
        ours = {name.upper() for name in Settings.model_fields}
        ours.add("PYTHONDONTWRITEBYTECODE")  # an installed worker does not compile itself at every start
        inherited = {name: value for name, value in os.environ.items() if name.upper() not in ours}
        return inherited | {
            "REDIS_URL": self.redis_url,
            "STORE_URL": f"gs://{self.bucket}",
            "STORAGE_EMULATOR_HOST": self.store_url,
            "ENCRYPTION_SECRET": SECRET,
            "HTTP_HOST": "127.0.0.1",
            "HTTP_PORT": "0",
            "ENCODE_THREADS": "1",
            **{name.upper(): str(value) for name, value in settings.items()},
        }


@contextmanager
def surroundings() -> Iterator[Surroundings]:
    """Start the servers, and end them with everything they hold."""
    with tempfile.TemporaryDirectory(prefix="audio-batch-worker-bench-") as temporary:
        directory = Path(temporary)
        server = RedisServer(directory)
        server.start()
        try:
            with _store() as where, server.client() as client:
                yield Surroundings(directory, server.url, client, where["url"], where["bucket"])
        finally:
            server.kill()


@contextmanager
def _store() -> Iterator[dict[str, str]]:
    command = [sys.executable, "-m", "tests.support.gcs.server", "--port", "0"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            yield json.loads(process.stdout.readline())
        finally:
            process.kill()
