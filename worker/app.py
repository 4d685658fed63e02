"""Wires the worker together and runs it: the one place where everything meets."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial

import stamina.instrumentation
import structlog

from codec.crypto import key_id
from codec.libopus import library
from codec.opus import Encoder
from worker import __version__
from worker.assembly import build_recovery, build_sink, monitored, open_spooling
from worker.batching.batch import BatchLimits
from worker.batching.batcher import Batcher, BatchRules
from worker.batching.encoder import EncoderPool
from worker.batching.memory import MemoryBudget
from worker.consuming.consumer import POLL_SECONDS, Consumer, pause
from worker.consuming.partition import Partition
from worker.coordination.ownership import Ownership
from worker.delivery.delivery import Delivery
from worker.delivery.orphans import Orphans
from worker.delivery.recovery import Recoveries
from worker.errors import StoreError, StreamError
from worker.operations.gauges import Monitor
from worker.operations.health import WorkerHealth
from worker.operations.http import HttpServer
from worker.operations.shutdown import shut_down
from worker.runtime.metrics import Metrics
from worker.runtime.signals import stop_on_signals
from worker.runtime.tasks import end
from worker.settings import Settings
from worker.stores import holds_anything, open_store
from worker.stores.base import Store
from worker.stream.client import Client, connect
from worker.stream.config import record_or_check, record_or_check_store
from worker.stream.entries import Entries
from worker.stream.keys import Keys
from worker.stream.leases import Lease, Leases, Member
from worker.stream.server import check_server

RETRY_SECONDS = 2.0
"""Between two tries to reach Redis at the start."""

RELEASE_SECONDS = 2.0
"""Kept of SHUTDOWN_GRACE for releasing the leases."""

ENCODER_NICENESS = 10
"""On one core the event loop's p99 delay is 3 ms with it and 5 to 15 ms without."""

log = structlog.get_logger()


async def run(settings: Settings, *, drain: bool = False) -> None:
    """Run a worker until a signal, or with `drain` until every stream is empty and everything is stored.

    Raises:
        SettingsError: a setting does not fit what is there.
    """
    settings.require_storage()
    stamina.instrumentation.set_on_retry_hooks([])  # we log and count refusals ourselves
    metrics = Metrics()
    health = WorkerHealth()
    store = open_store(settings.store_url, emulator_host=settings.storage_emulator_host)
    client = Client(connect(settings.redis_url, timeout=min(5.0, settings.lease_ttl / 3)))
    pool = ThreadPoolExecutor(settings.encode_threads, thread_name_prefix="encode", initializer=_yield_to_the_loop)
    http = HttpServer(settings.http_host, settings.http_port, health=health, registry=metrics.registry)
    try:
        with stop_on_signals(settings.shutdown_grace) as stop:
            async with http:
                _log_start(settings, metrics, http.port)
                await _check_surroundings(settings, client, store, metrics, stop)
                worker = Worker(settings, client, store, pool, metrics, health)
                await worker.run(stop, drain=drain)
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        await client.close()
        await store.close()


class Worker:
    """A worker on given connections."""

    def __init__(
        self,
        settings: Settings,
        client: Client,
        store: Store,
        pool: ThreadPoolExecutor,
        metrics: Metrics,
        health: WorkerHealth,
    ) -> None:
        self._settings = settings
        self._metrics = metrics
        self._clock = client.clock
        keys = Keys(settings.stream_prefix)
        budget = MemoryBudget(settings.memory_limit)
        observed = monitored(settings, store, metrics, client)
        self._entries = Entries(client, keys, settings.worker_id)
        self._spooling = open_spooling(settings, client, self._entries, observed, metrics)
        place = build_sink(settings, observed, self._spooling, metrics)
        self._recovery = build_recovery(settings, observed, self._spooling, self._entries, metrics)
        self._orphans = Orphans(self._entries, place, metrics)
        self._delivery = Delivery(
            self._entries, place, self._orphans, self._recovery, settings.secret, metrics, client.clock
        )
        self._encoders = EncoderPool(_opus_encoder(settings), pool, budget)
        self._ownership = Ownership(
            client,
            Leases(client, keys, settings.partitions, settings.lease_ttl),
            settings.partitions,
            partial(Member, settings.worker_id, settings.revision),
            health.troubles,
            metrics,
            settings.lease_ttl,
        )
        self._consumer = Consumer(client, self._entries, self._ownership, self._begin, budget, metrics)
        self._monitor = Monitor(client, self._entries, self._consumer, budget, observed.health, metrics)
        spool = self._spooling.spool if self._spooling else None
        health.began(self._consumer, self._ownership, observed.health, spool)

    async def run(self, stop: asyncio.Event, *, drain: bool) -> None:
        """Work until `stop` is set or, with `drain`, nothing is left; then shut down within the grace time."""
        if self._spooling:
            await self._spooling.open()
        async with asyncio.TaskGroup() as group:
            background = [
                group.create_task(self._ownership.run(), name="ownership"),
                group.create_task(self._monitor.measure_delay(), name="loop delay"),
                group.create_task(self._monitor.observe(), name="gauges"),
                group.create_task(self._orphans.run(), name="orphans"),
            ]
            if self._spooling:
                background.append(group.create_task(self._spooling.run(), name="spool"))
            await self._consume(stop, drain=drain)
            grace = self._settings.shutdown_grace - RELEASE_SECONDS
            flush = self._settings.shutdown == "flush"
            await shut_down(self._consumer, self._ownership, flush=flush, grace=max(grace, 0.0))
            await end(background)
            await self._orphans.leave(RELEASE_SECONDS / 2)
        log.info("worker.stopped")

    async def _consume(self, stop: asyncio.Event, *, drain: bool) -> None:
        while not stop.is_set():
            if await self._consumer.turn():
                continue
            if drain and await self._drained():
                return
            await pause(stop, POLL_SECONDS)

    async def _drained(self) -> bool:
        """Close what is open when all is read; whether nothing at all is left, in any partition."""
        if not self._consumer.caught_up():
            return False
        try:
            self._consumer.close_all()
            await self._consumer.settle()
            if not await self._consumer.stored(POLL_SECONDS):
                return False
            backlog = await self._entries.backlog(range(self._settings.partitions))
        except StreamError:
            return False
        if any(backlog.entries.values()):
            return False
        return self._spooling is None or await self._spooling.empty()

    def _begin(self, lease: Lease) -> Partition:
        batcher = Batcher(lease.partition, _rules(self._settings), self._encoders, self._metrics, self._clock)
        recoveries = Recoveries(lease.partition, self._recovery)
        return Partition(lease, batcher, self._entries, self._delivery, recoveries, self._metrics)


def _rules(settings: Settings) -> BatchRules:
    limits = BatchLimits(
        settings.batch_max_seconds, settings.batch_max_age, settings.batch_max_bytes, settings.gap_tolerance
    )
    return BatchRules(limits, settings.blob_codec, settings.blob_naming, settings.partitions)


def _opus_encoder(settings: Settings) -> partial[Encoder]:
    return partial(
        Encoder,
        complexity=settings.opus_complexity,
        bitrate=settings.opus_bitrate,
        dtx=settings.opus_dtx,
    )


def _log_start(settings: Settings, metrics: Metrics, port: int) -> None:
    libopus = library()
    metrics.build_info.labels(__version__, libopus.version, settings.revision).set(1)
    log.info(
        "worker.started",
        version=__version__,
        worker=settings.worker_id,
        revision=settings.revision,
        libopus=libopus.version,
        key_id=key_id(settings.secret),
        encode_threads=settings.encode_threads,
        http_port=port,
    )


def _yield_to_the_loop() -> None:
    """Let this thread have a core only while the event loop does not want it."""
    with suppress(OSError):  # only on Linux a thread has a niceness of its own
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), ENCODER_NICENESS)


async def _check_surroundings(
    settings: Settings, client: Client, store: Store, metrics: Metrics, stop: asyncio.Event
) -> None:
    """Refuse to start in a wrong world, but wait for one that is only down."""
    keys = Keys(settings.stream_prefix)

    async def check_redis() -> None:
        version = await check_server(client)
        await record_or_check(client, keys, settings.partitions)
        log.info("redis.connected", version=version)

    await _until_redis_answers(check_redis, metrics, stop)
    try:
        await store.check()
        identity = await store.identity()
        client.may_have_forgotten |= await holds_anything(store)
    except StoreError as error:
        metrics.retries.labels(error.cause).inc()
        log.warning("store.refused", cause=error.cause, status=error.status, error=str(error))
        return
    same_store = partial(record_or_check_store, client, keys, settings.store_url, identity)
    await _until_redis_answers(same_store, metrics, stop)


async def _until_redis_answers(ask: Callable[[], Awaitable[None]], metrics: Metrics, stop: asyncio.Event) -> None:
    while not stop.is_set():
        try:
            await ask()
        except StreamError as error:
            metrics.redis_errors.labels(error.cause).inc()
            log.warning("redis.unreachable", error=str(error))
            await pause(stop, RETRY_SECONDS)
            continue
        return
