"""Builds the spool, the sink and the recovery from the settings, for the worker and for the command line."""

from __future__ import annotations

import asyncio

from worker.delivery.recovery import Recovery
from worker.delivery.sink import BlobSink, StoreSink
from worker.errors import SettingsError, SpoolRefused
from worker.model.causes import SpoolCause
from worker.runtime.context import Context
from worker.settings import Settings, SpoolSettings
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
from worker.stream.entries import Entries

CLAIM_LEASES = 2.0
"""A claim lapses after this many times LEASE_TTL: a worker that has not touched it by then has lost its leases too."""

LEAST_CLAIM_SECONDS = 5.0


class Spooling:
    """A spool and the drainer that empties it.

    Raises:
        SettingsError: SPOOL_DIR is not set.
    """

    def __init__(self, settings: Settings, entries: Entries, store: MonitoredStore, context: Context) -> None:
        if settings.spool is None:
            raise SettingsError("SPOOL_DIR is not set")
        self.settings: SpoolSettings = settings.spool
        origin = SpoolOwner(settings.store_url, settings.stream_prefix)
        self.spool = Spool(Volume(self.settings.directory), origin, self.settings.max_bytes, context)
        claims = max(LEAST_CLAIM_SECONDS, CLAIM_LEASES * settings.lease_ttl)
        self.drainer = Drainer(
            self.spool,
            Uploader(store, entries, context.metrics, settings.secrets),
            Leftovers(self.spool, entries),
            Pace(settings.upload_concurrency, claims),
            context,
        )

    async def open(self) -> None:
        """Make sure that the directory exists; a volume that is only down does not stop the start.

        Raises:
            SettingsError: the directory can't be used.
        """
        try:
            await self.spool.open()
        except SpoolRefused as error:
            wrong = (FileNotFoundError, NotADirectoryError, FileExistsError)  # the last if SPOOL_DIR is a file
            if error.cause is SpoolCause.PERMISSION or isinstance(error.__cause__, wrong):
                raise SettingsError(f"{error}; name a directory that this user can write to") from error

    async def run(self) -> None:
        """Upload the blobs in the spool until cancelled."""
        await self.drainer.run()

    def close(self) -> None:
        """Release the threads of the spool."""
        self.spool.close()

    async def empty(self) -> bool:
        """Whether the spool has no blob that could be uploaded."""
        try:
            return await self.drainer.left() == 0
        except OSError:
            return False


def open_spooling(settings: Settings, entries: Entries, store: MonitoredStore, context: Context) -> Spooling | None:
    """The spool in SPOOL_DIR, which is emptied even if SPOOL_MODE no longer fills it; None without SPOOL_DIR."""
    return None if settings.spool is None else Spooling(settings, entries, store, context)


def build_sink(settings: Settings, store: MonitoredStore, spooling: Spooling | None, context: Context) -> BlobSink:
    """The sink for finished blobs, according to SPOOL_MODE."""
    metrics, timing, secrets = context.metrics, context.timing.store, settings.secrets
    if spooling is None or spooling.settings.mode == "off":
        return StoreSink(RetryingStore(store, timing=timing), metrics, secrets)
    direct = StoreSink(RetryingStore(store, spooling.settings.after, timing=timing), metrics, secrets)
    return SpoolSink(direct, spooling.spool, metrics, secrets, first=spooling.settings.mode == "always")


def build_recovery(
    settings: Settings, store: MonitoredStore, spooling: Spooling | None, entries: Entries, context: Context
) -> Recovery:
    """The recovery, which looks up stored audio when Redis may have forgotten it."""
    spool = None if spooling is None else spooling.spool
    retrying = RetryingStore(store, timing=context.timing.store)
    return Recovery(retrying, spool, entries, settings.secrets, context)


def monitored(settings: Settings, store: Store, context: Context) -> MonitoredStore:
    """The store that all requests of a worker go through."""
    slots = asyncio.Semaphore(settings.upload_concurrency)
    return MonitoredStore(store, slots, context.metrics, context.clock, context.digest)
