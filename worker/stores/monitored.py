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
from worker.model.causes import StoreCause
from worker.runtime.metrics import Metrics
from worker.stores.base import BlobInfo, Store

T = TypeVar("T")

MAX_DETAIL = 300
"""Characters of an unknown error's own words."""

log = structlog.get_logger()


@dataclass(slots=True)
class StoreHealth:
    """Since when (monotonic seconds) the store has refused everything, and why; None while it accepts."""

    failing_since: float | None = None
    cause: StoreCause = StoreCause.UNEXPECTED
    _refuses_audio: bool = field(default=False, repr=False)
    _wanted: int = field(default=0, repr=False)

    def failing_for(self, now: float) -> float:
        """Seconds at monotonic time `now`."""
        return 0.0 if self.failing_since is None else now - self.failing_since

    def refused(self, now: float, cause: StoreCause, *, audio: bool) -> None:
        """The store has refused something, perhaps audio."""
        if self.failing_since is None:
            self.failing_since = now
        self.cause = cause
        self._refuses_audio |= audio

    def answered(self, *, audio: bool) -> None:
        """The store has done something. One that refuses audio is not well because it lets us look."""
        if audio or not self._refuses_audio:
            self.failing_since, self._refuses_audio = None, False

    def nothing_waits(self) -> None:
        """Somebody has no audio left for the store. If nobody has any, nobody would notice the end of an outage."""
        if not self._wanted:
            self.answered(audio=True)

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


class MonitoredStore:
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
        await self._watched(lambda: self._store.create(name, data, metadata), audio=True)
        self.accepted()

    async def put(self, name: str, data: bytes, metadata: Mapping[str, str]) -> BlobInfo | None:
        """Store a new object; None when it is stored, else what has the name.

        A name that is taken by nothing is a refusal: whoever took it for an answer would ask again at once, for ever.
        """
        found = await self._watched(lambda: self._put(name, data, metadata), audio=True)
        if found is None:
            self.accepted()
        return found

    async def stat(self, name: str) -> BlobInfo | None:
        """Describe an object; None if there is none."""
        return await self._watched(lambda: self._store.stat(name))

    async def read(self, name: str) -> bytes:
        """An object's bytes. Raises `ObjectMissing`."""
        return await self._watched(lambda: self._store.read(name))

    async def delete(self, name: str, generation: str | None = None) -> bool:
        """Delete an object, or only this generation of it; False if there was none."""
        return await self._watched(lambda: self._store.delete(name, generation))

    async def listed(self, prefix: str) -> list[BlobInfo]:
        """All objects whose name starts with `prefix`."""

        async def request() -> list[BlobInfo]:
            return [info async for info in self._store.list(prefix)]

        return await self._watched(request)

    def accepted(self) -> None:
        """Take note that audio is stored, whichever answers have told it."""
        self.health.answered(audio=True)

    def refused(self, error: StoreError) -> StoreError:
        """Take note of a refusal of audio that only several answers together make."""
        self._refused(error, audio=True)
        return error

    async def _put(self, name: str, data: bytes, metadata: Mapping[str, str]) -> BlobInfo | None:
        try:
            await self._store.create(name, data, metadata)
        except ObjectExists:
            found = await self._store.stat(name)
            if found is None:
                text = f"the store says that {name} exists, and shows no such object"
                raise StoreError(text, cause=StoreCause.INCONSISTENT) from None
            return found
        return None

    async def _watched(self, request: Callable[[], Awaitable[T]], *, audio: bool = False) -> T:
        """Make a request, which may be one to store audio."""
        try:
            async with self._slots:
                answer = await request()
        except (ObjectExists, ObjectMissing):
            self.health.answered(audio=audio)
            raise
        except StoreError as error:
            self._refused(error, audio=audio)
            raise
        except Exception as error:  # whatever it is, the audio is not stored
            text = f"the store failed with {type(error).__name__}: {str(error)[:MAX_DETAIL]}"
            unknown = StoreError(text, cause=StoreCause.UNEXPECTED)
            self._refused(unknown, audio=audio)
            raise unknown from error
        self.health.answered(audio=False)
        return answer

    def _refused(self, error: StoreError, *, audio: bool) -> None:
        self.health.refused(self.clock(), error.cause, audio=audio)
        self._metrics.retries.labels(error.cause).inc()
        log.warning("store.refused", cause=error.cause, status=error.status, error=str(error))
