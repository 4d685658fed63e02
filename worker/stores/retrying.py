"""A store that repeats each refused request without limit, with backoff and jitter, and logs each refusal.

If the audio has another place to go, requests stop after refusals have lasted long enough to be an outage.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import TypeVar

from worker.errors import ObjectExists, ObjectMissing, Outage, StoreError
from worker.runtime.timing import StoreTiming
from worker.stores.base import BlobInfo
from worker.stores.monitored import MonitoredStore, StoreHealth

T = TypeVar("T")


class RetryingStore:
    """The requests that delivery makes, each repeated until it succeeds.

    Only `ObjectExists` and `ObjectMissing` are answers and reach the caller; any other `StoreError` leads to a repeat.

    Args:
        store: the store to ask.
        give_up_after: seconds for which the store has refused everything, after which all but `delete` raise `Outage`;
            None to repeat without limit.
        timing: how long to wait between tries.
    """

    def __init__(
        self, store: MonitoredStore, give_up_after: float | None = None, *, timing: StoreTiming = StoreTiming()
    ) -> None:
        self._store = store
        self._give_up_after = give_up_after
        self._timing = timing
        self._next_probe = 0.0

    @property
    def health(self) -> StoreHealth:
        """The health of the store."""
        return self._store.health

    async def repeat(self, request: Callable[[MonitoredStore], Awaitable[T]], *, endless: bool = False) -> T:
        """Make requests until they succeed; raises `Outage` unless `endless`."""
        return await self._repeated(lambda: request(self._store), None if endless else self._give_up_after)

    async def create(self, name: str, data: bytes, metadata: Mapping[str, str]) -> None:
        """Store a new object. Raises `ObjectExists`, `Outage`."""
        await self._repeated(lambda: self._store.create(name, data, metadata), self._give_up_after)

    async def put(self, name: str, data: bytes, metadata: Mapping[str, str]) -> BlobInfo | None:
        """Store a new object; None when it is stored, else the object that has the name. Raises `Outage`."""
        return await self._repeated(lambda: self._store.put(name, data, metadata), self._give_up_after)

    async def stat(self, name: str) -> BlobInfo | None:
        """Describe an object; None if there is none. Raises `Outage`."""
        return await self._repeated(lambda: self._store.stat(name), self._give_up_after)

    async def read(self, name: str) -> bytes:
        """An object's bytes. Raises `ObjectMissing`, `Outage`."""
        return await self._repeated(lambda: self._store.read(name), self._give_up_after)

    async def listed(self, prefix: str) -> list[BlobInfo]:
        """All objects whose name starts with `prefix`. Raises `Outage`."""
        return await self._repeated(lambda: self._store.listed(prefix), self._give_up_after)

    async def delete(self, name: str, generation: str | None = None) -> bool:
        """Delete an object, or only this generation of it; False if there was none."""
        return await self._repeated(lambda: self._store.delete(name, generation), None)

    async def _repeated(self, request: Callable[[], Awaitable[T]], give_up_after: float | None) -> T:
        with self.health.wanted():
            await self._until_checked(give_up_after)
            return await self._until_answered(request, give_up_after)

    async def _until_checked(self, give_up_after: float | None) -> None:
        """Wait until this is known to be the right store."""
        while not self.health.checked.is_set():
            if give_up_after is not None and self._failing_for() >= give_up_after:
                raise Outage(self.health.cause)
            with suppress(TimeoutError):
                async with asyncio.timeout(self._timing.probe):
                    await self.health.checked.wait()

    async def _until_answered(self, request: Callable[[], Awaitable[T]], give_up_after: float | None) -> T:
        async for attempt in self._timing.retry.attempts(self._wait_for):
            with attempt:
                if give_up_after is None:
                    return await request()
                return await self._tried(request, give_up_after)
        raise AssertionError("unreachable: repeated without limit")

    async def _tried(self, request: Callable[[], Awaitable[T]], give_up_after: float) -> T:
        if self._failing_for() >= give_up_after and not self._may_probe():
            raise Outage(self.health.cause)
        try:
            return await request()
        except (ObjectExists, ObjectMissing):
            raise
        except StoreError as error:
            if self._failing_for() >= give_up_after:
                raise Outage(error.cause) from error
            raise

    def _failing_for(self) -> float:
        return self.health.failing_for(self._store.clock())

    def _may_probe(self) -> bool:
        now = self._store.clock()
        if now < self._next_probe:
            return False
        self._next_probe = now + self._timing.probe
        return True

    def _wait_for(self, error: Exception) -> bool | float:
        """Whether to repeat, or after how many seconds."""
        if isinstance(error, (ObjectExists, ObjectMissing, Outage)) or not isinstance(error, StoreError):
            return False
        if error.retry_after is None:
            return True
        # Even if the store asks for an hour, the audio must go to another place in time.
        return error.retry_after if self._give_up_after is None else min(error.retry_after, self._timing.retry.longest)
