"""A store under observation: a bounded number of requests at once, and a memory of when it began to refuse."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeVar

import structlog

from worker.errors import ObjectExists, ObjectMissing, StoreError
from worker.metrics import Metrics
from worker.stores import BlobInfo, Store

T = TypeVar("T")

log = structlog.get_logger()


@dataclass(slots=True)
class StoreHealth:
    """Since when (monotonic seconds) the store has refused everything, and why; None while it accepts."""

    failing_since: float | None = None
    cause: str = ""
    _wanted: int = field(default=0, repr=False)

    def failing_for(self, now: float) -> float:
        """Seconds at monotonic time `now`."""
        return 0.0 if self.failing_since is None else now - self.failing_since

    def nothing_waits(self) -> None:
        """Somebody has no audio left for the store. If nobody has any, nobody would notice the end of an outage."""
        if not self._wanted:
            self.failing_since = None

    @contextmanager
    def wanted(self) -> Iterator[None]:
        """Around a request that is repeated until it succeeds, is called off or is sent elsewhere."""
        self._wanted += 1
        called_off = False
        try:
            yield
        except asyncio.CancelledError:
            called_off = True
            raise
        finally:
            self._wanted -= 1
            if called_off:
                self.nothing_waits()


class WatchedStore:
    """The requests that a worker makes, each tried once; what the store raises comes through."""

    def __init__(
        self,
        store: Store,
        slots: asyncio.Semaphore,
        metrics: Metrics,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.clock = clock
        self.health = StoreHealth()
        self._store = store
        self._slots = slots
        self._metrics = metrics

    async def create(self, name: str, data: bytes, metadata: Mapping[str, str]) -> None:
        """Store a new object. Raises `ObjectExists`."""
        await self._watched(lambda: self._store.create(name, data, metadata))

    async def stat(self, name: str) -> BlobInfo | None:
        """Describe an object; None if there is none."""
        return await self._watched(lambda: self._store.stat(name))

    async def delete(self, name: str) -> bool:
        """Delete an object; False if there was none."""
        return await self._watched(lambda: self._store.delete(name))

    async def listed(self, prefix: str) -> list[BlobInfo]:
        """All objects whose name starts with `prefix`."""

        async def request() -> list[BlobInfo]:
            return [info async for info in self._store.list(prefix)]

        return await self._watched(request)

    async def _watched(self, request: Callable[[], Awaitable[T]]) -> T:
        try:
            async with self._slots:
                answer = await request()
        except (ObjectExists, ObjectMissing):
            self.health.failing_since = None
            raise
        except StoreError as error:
            self._refused(error)
            raise
        self.health.failing_since = None
        return answer

    def _refused(self, error: StoreError) -> None:
        if self.health.failing_since is None:
            self.health.failing_since = self.clock()
        self.health.cause = error.cause
        self._metrics.retries.labels(error.cause).inc()
        log.warning("store.refused", cause=error.cause, status=error.status, error=str(error))
