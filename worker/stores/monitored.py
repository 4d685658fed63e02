"""A monitored store: it limits the requests at once, and remembers since when the store has refused them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeVar

import structlog

from worker.errors import ObjectExists, ObjectMissing, SettingsError, StoreError
from worker.model.causes import StoreCause
from worker.runtime.digest import Digest
from worker.runtime.metrics import Metrics
from worker.stores.base import BlobInfo, Store

T = TypeVar("T")

MAX_DETAIL = 300
"""Characters of an unknown error's message."""

log = structlog.get_logger()


def _set_event() -> asyncio.Event:
    event = asyncio.Event()
    event.set()
    return event


@dataclass(slots=True)
class StoreHealth:
    """Since when (monotonic seconds) the store has refused everything, and why; None while it accepts.

    `is_awaited` says that it has not answered since the worker's start. `checked` is set unless the store may be
    another directory than the recorded one. Until it is set, the store is asked nothing else: it may seem to be empty.
    """

    failing_since: float | None = None
    cause: StoreCause = StoreCause.UNEXPECTED
    is_awaited: bool = False
    checked: asyncio.Event = field(default_factory=_set_event, repr=False)
    _refuses_audio: bool = field(default=False, repr=False)
    _wanted: int = field(default=0, repr=False)

    def failing_for(self, now: float) -> float:
        """Seconds of refusals at monotonic time `now`."""
        return 0.0 if self.failing_since is None else now - self.failing_since

    def refused(self, now: float, cause: StoreCause, *, audio: bool) -> None:
        """Note that the store has refused a request, perhaps one with audio."""
        if self.failing_since is None:
            self.failing_since = now
        self.cause = cause
        self._refuses_audio |= audio

    def answered(self, *, audio: bool) -> None:
        """Note that the store has answered. If it refuses audio, answers to other requests do not make it healthy."""
        if audio or not self._refuses_audio:
            self.failing_since, self._refuses_audio = None, False

    def nothing_waits(self) -> None:
        """Note that a caller has no audio left for the store.

        Without any waiting caller an outage counts as over, because its end would stay unnoticed.
        """
        if not self._wanted:
            self.answered(audio=True)

    @contextmanager
    def wanted(self) -> Iterator[None]:
        """Surround a request that is repeated until it succeeds, is cancelled or goes elsewhere."""
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
    """The requests that a worker makes, each tried once; the store's errors reach the caller."""

    def __init__(
        self,
        store: Store,
        slots: asyncio.Semaphore,
        metrics: Metrics,
        clock: Callable[[], float] = time.monotonic,
        digest: Digest | None = None,
    ) -> None:
        self.clock = clock
        self.digest = digest or Digest()
        self.health = StoreHealth()
        self._store = store
        self._slots = slots
        self._metrics = metrics

    async def check(self) -> str:
        """Prove that the store exists and gives access; returns its identity, see `Store.identity`.

        Raises:
            SettingsError: it does not exist, or it refuses this worker.
        """

        async def request() -> str:
            await self._store.check()
            return await self._store.identity()

        return await self._watched(request, is_check=True)

    async def create(self, name: str, data: bytes, metadata: Mapping[str, str]) -> None:
        """Store a new object. Raises `ObjectExists`."""
        await self._watched(lambda: self._store.create(name, data, metadata), audio=True)
        self.accepted()

    async def put(self, name: str, data: bytes, metadata: Mapping[str, str]) -> BlobInfo | None:
        """Store a new object; None when it is stored, else the object that has the name.

        A taken name without an object is a refusal. As an answer it would make the caller ask again at once, without
        limit.
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

    async def close(self) -> None:
        """Release connections; idempotent."""
        await self._store.close()

    def accepted(self) -> None:
        """Note that audio is stored; the caller may have learned it from several answers."""
        self.health.answered(audio=True)

    def refused(self, error: StoreError) -> StoreError:
        """Note a refusal of audio that follows only from several answers together."""
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

    async def _watched(self, request: Callable[[], Awaitable[T]], *, audio: bool = False, is_check: bool = False) -> T:
        """Make a request; `audio` says that it stores audio, `is_check` that it belongs to the check at the start."""
        if not is_check and not self.health.checked.is_set():
            raise StoreError("the store has not answered since the start", cause=StoreCause.UNCHECKED)
        try:
            async with self._slots:
                answer = await request()
        except (ObjectExists, ObjectMissing):
            self.health.answered(audio=audio)
            raise
        except StoreError as error:
            self._refused(error, audio=audio)
            raise
        except SettingsError:
            raise
        except Exception as error:  # with any error, the audio is not stored
            text = f"the store failed with {type(error).__name__}: {str(error)[:MAX_DETAIL]}"
            unknown = StoreError(text, cause=StoreCause.UNEXPECTED)
            self._refused(unknown, audio=audio)
            raise unknown from error
        self.health.answered(audio=False)
        return answer

    def _refused(self, error: StoreError, *, audio: bool) -> None:
        self.health.refused(self.clock(), error.cause, audio=audio)
        self._metrics.retries.labels(error.cause).inc()
        self.digest.note(
            log.warning, "store.refused", error.cause, cause=error.cause, status=error.status, error=str(error)
        )
