"""Puts the spool's parts together, for the worker and for the command line."""

from __future__ import annotations

import asyncio
from pathlib import Path

from worker.delivery.recovery import Recovery
from worker.delivery.sink import BlobSink, StoreSink
from worker.errors import SettingsError, SpoolRefused
from worker.model.causes import SpoolCause
from worker.runtime.metrics import Metrics
from worker.settings import Settings
from worker.spool.drainer import Drainer, Pace
from worker.spool.leftovers import Leftovers
from worker.spool.names import SpoolOwner
from worker.spool.sink import SpoolSink
from worker.spool.spool import Spool
from worker.spool.uploader import Uploader
from worker.spool.volume import Volume
from worker.stores.base import Store
from worker.stores.monitored import MonitoredStore
from worker.stores.retrying import RetryingStore
from worker.stream.client import Client
from worker.stream.entries import Entries

CLAIM_LEASES = 2.0
"""A claim lapses after so many times LEASE_TTL: a worker that does not touch it for so long has lost its leases too."""

LEAST_CLAIM_SECONDS = 5.0


class Spooling:
    """A spool, what fills it and what empties it."""

    def __init__(
        self,
        directory: Path,
        settings: Settings,
        client: Client,
        entries: Entries,
        store: MonitoredStore,
        metrics: Metrics,
    ) -> None:
        origin = SpoolOwner(settings.store_url, settings.stream_prefix)
        self.spool = Spool(Volume(directory), origin, settings.spool_max_bytes, metrics, client.clock)
        self.drainer = Drainer(
            self.spool,
            Uploader(store, entries, metrics, settings.secrets),
            Leftovers(self.spool, entries),
            store.health,
            metrics,
            client.now_ms,
            Pace(settings.upload_concurrency, max(LEAST_CLAIM_SECONDS, CLAIM_LEASES * settings.lease_ttl)),
        )

    async def open(self) -> None:
        """Make sure that the directory is there; a volume that is only down is no reason not to start.

        Raises:
            SettingsError: the directory can't be used.
        """
        try:
            await self.spool.open()
        except SpoolRefused as error:
            wrong = (FileNotFoundError, NotADirectoryError, FileExistsError)  # the last if it is a file itself
            if error.cause is SpoolCause.PERMISSION or isinstance(error.__cause__, wrong):
                raise SettingsError(f"{error}; name a directory that this user can write to") from error

    async def run(self) -> None:
        """Upload for ever what lies in the spool."""
        try:
            await self.drainer.run()
        finally:
            self.spool.close()

    async def empty(self) -> bool:
        """Whether nothing waits that could be uploaded."""
        try:
            return await self.drainer.left() == 0
        except OSError:
            return False


def open_spooling(
    settings: Settings, client: Client, entries: Entries, store: MonitoredStore, metrics: Metrics
) -> Spooling | None:
    """The spool in SPOOL_DIR, which is emptied even when SPOOL_MODE fills it no more; None without SPOOL_DIR."""
    if settings.spool_dir is None:
        return None
    return Spooling(settings.spool_dir, settings, client, entries, store, metrics)


def build_sink(settings: Settings, store: MonitoredStore, spooling: Spooling | None, metrics: Metrics) -> BlobSink:
    """Where finished blobs go, as SPOOL_MODE says."""
    if spooling is None or settings.spool_mode == "off":
        return StoreSink(RetryingStore(store), metrics, settings.secrets)
    direct = StoreSink(RetryingStore(store, settings.spool_after), metrics, settings.secrets)
    return SpoolSink(direct, spooling.spool, metrics, settings.secrets, first=settings.spool_mode == "always")


def build_recovery(
    settings: Settings, store: MonitoredStore, spooling: Spooling | None, entries: Entries, metrics: Metrics
) -> Recovery:
    """What is asked when Redis may have forgotten what is stored."""
    spool = None if spooling is None else spooling.spool
    return Recovery(RetryingStore(store), spool, entries, settings.secrets, metrics)


def monitored(settings: Settings, store: Store, metrics: Metrics, client: Client) -> MonitoredStore:
    """The store as all of a worker's requests go through it."""
    return MonitoredStore(store, asyncio.Semaphore(settings.upload_concurrency), metrics, client.clock)
