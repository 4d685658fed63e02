"""Asks Redis and the store at the start whether they are the right ones; a worker without their answers waits.

Nothing can be read without Redis. Without the store a worker can read, batch and seal, so it only asks beside that.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial

import structlog

from worker.errors import SettingsError, StoreError, StreamError
from worker.runtime.context import Context
from worker.settings import Settings
from worker.stores.monitored import MonitoredStore
from worker.stream.client import Client
from worker.stream.config import record_or_check, record_or_check_store
from worker.stream.servers.checks import check_servers

log = structlog.get_logger()


async def check_redis(settings: Settings, client: Client, context: Context) -> None:
    """Wait until Redis answers, and refuse a wrong one.

    Raises:
        SettingsError: audio is not safe there, or other programs on it have other settings.
    """

    async def check() -> None:
        versions = await check_servers(client)
        await record_or_check(client, settings.redis.keys, settings.stated_partitions)
        log.info("redis.connected", version=", ".join(versions), nodes=len(client.nodes))

    await _until_redis_answers(check, context)


class StoreCheck:
    """Asks the store until it has answered once; `wrong` says why it is not the right one.

    A directory takes nothing until then, because its volume may not be mounted. `/readyz` says that it is awaited.
    """

    def __init__(self, settings: Settings, store: MonitoredStore, client: Client, context: Context) -> None:
        self._settings = settings
        self._store = store
        self._client = client
        self._context = context
        self._tried = asyncio.Event()
        self.wrong: SettingsError | None = None
        store.health.is_awaited = True
        if settings.store.is_directory:
            store.health.checked.clear()

    async def run(self, stop: asyncio.Event) -> None:
        """Ask until the store has answered; sets `stop` if it is a wrong one."""
        try:
            await self._compare(await self._answer())
        except SettingsError as error:
            self.wrong = error
            stop.set()
        else:
            self._store.health.is_awaited = False
            self._store.health.checked.set()
        finally:
            self._tried.set()

    async def tried(self) -> None:
        """Wait for the first answer or refusal, for a limited time."""
        try:
            async with asyncio.timeout(self._context.timing.process.patience):
                await self._tried.wait()
        except TimeoutError:
            log.warning("store.awaited", patience_s=self._context.timing.process.patience)

    async def _answer(self) -> str:
        """Ask for the store's identity until it answers."""
        with self._store.health.wanted():
            async for attempt in self._context.timing.store.retry.attempts(self._refused):
                with attempt:
                    identity = await self._store.check()
        return identity

    def _refused(self, error: Exception) -> bool | float:
        """Whether to ask again, or after how many seconds; reading begins meanwhile, except at a wrong store."""
        if not isinstance(error, StoreError):
            return False
        self._tried.set()
        return True if error.retry_after is None else error.retry_after

    async def _compare(self, identity: str) -> None:
        """Compare the store with the one that Redis records."""
        keys, url = self._settings.redis.keys, self._settings.store_url
        await _until_redis_answers(partial(record_or_check_store, self._client, keys, url, identity), self._context)


async def _until_redis_answers(ask: Callable[[], Awaitable[None]], context: Context) -> None:
    while True:
        try:
            await ask()
        except StreamError as error:
            context.metrics.redis_errors.labels(error.cause).inc()
            log.warning("redis.unreachable", error=str(error))
            await asyncio.sleep(context.timing.process.start_retry)
            continue
        return
