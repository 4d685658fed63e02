"""Wires all parts of the worker together and runs it."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

import stamina.instrumentation
import structlog

from codec.crypto import key_id
from codec.libopus import library
from worker import __version__
from worker.assembly import build_recovery, build_sink, monitored, open_spooling
from worker.batching.batcher import Batcher
from worker.batching.encoder import EncoderPool
from worker.batching.memory import MemoryBudget
from worker.consuming.consumer import Consumer
from worker.consuming.partition import Partition
from worker.coordination.ownership import Ownership
from worker.delivery.delivery import Delivery
from worker.delivery.recovery import Recoveries
from worker.errors import StoreError, StreamError
from worker.operations.gauges import Monitor
from worker.operations.health import WorkerHealth
from worker.operations.http import HttpServer
from worker.operations.shutdown import shut_down
from worker.operations.strays import StrayWatch
from worker.operations.trend import MemoryTrend
from worker.runtime.context import Context
from worker.runtime.metrics import Metrics
from worker.runtime.signals import stop_on_signals
from worker.runtime.tasks import end
from worker.runtime.timing import Timing
from worker.settings import Settings, misspelt
from worker.stores.base import Store
from worker.stores.monitored import StoreHealth
from worker.stream.client import Client, connect
from worker.stream.config import record_or_check, record_or_check_store
from worker.stream.entries import Entries
from worker.stream.leases import Lease, Leases, Member
from worker.stream.server import check_server
from worker.stream.strays import Strays

ENCODER_NICENESS = 10
"""On one core the event loop's p99 delay is 3 ms with this niceness and 5 to 15 ms without."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Means:
    """The resources of a worker; the function that opened them closes them."""

    client: Client
    store: Store
    pool: ThreadPoolExecutor


async def run(settings: Settings, *, drain: bool = False, timing: Timing = Timing()) -> None:
    """Run a worker until a signal, or with `drain` until every stream is empty and all audio is stored.

    Raises:
        SettingsError: a setting is missing or does not fit the environment.
    """
    settings.require_storage()
    stamina.instrumentation.set_on_retry_hooks([])  # we log and count refusals ourselves
    health = WorkerHealth(timing=timing.health)
    means = _open(settings)
    context = Context(Metrics(), timing, means.client.clock)
    http = HttpServer(settings.http, health=health, registry=context.metrics.registry)
    try:
        with stop_on_signals(settings.shutdown_grace) as stop:
            async with http:
                _log_start(settings, context.metrics, http.port)
                await _check_surroundings(settings, means, context, stop)
                await Worker(settings, means, health, context).run(stop, drain=drain)
    finally:
        means.pool.shutdown(wait=False, cancel_futures=True)
        await means.client.close()
        await means.store.close()


def _open(settings: Settings) -> Means:
    store = settings.store.open()
    client = Client(connect(settings.redis_url, timeout=settings.redis.reply_timeout))
    threads = settings.encoding.threads
    return Means(client, store, ThreadPoolExecutor(threads, "encode", initializer=_yield_to_the_loop))


class Worker:
    """A worker that uses given connections."""

    def __init__(self, settings: Settings, means: Means, health: WorkerHealth, context: Context) -> None:
        client, redis, encoding = means.client, settings.redis, settings.encoding
        self._rules = settings.batches
        self._ending = settings.ending
        self._context = context
        self._timing = context.timing
        budget = MemoryBudget(encoding.memory_limit)
        observed = monitored(settings, means.store, context)
        self._entries = Entries(client, redis.keys, settings.worker_id)
        self._spooling = open_spooling(settings, self._entries, observed, context)
        place = build_sink(settings, observed, self._spooling, context)
        self._recovery = build_recovery(settings, observed, self._spooling, self._entries, context)
        self._delivery = Delivery(self._entries, place, self._recovery, settings.secret, context)
        self._encoders = EncoderPool(encoding.opus.encoder, means.pool, budget)
        leases = Leases(client, redis.keys, redis.partitions, redis.lease_ttl)
        self._ownership = Ownership(
            client, leases, Member(settings.worker_id, settings.revision), health.describe, context.metrics
        )
        self._consumer = Consumer(self._entries, self._ownership, self._begin, budget, context)
        self._strays = StrayWatch(Strays(client, redis.keys, redis.partitions), self._ownership, context)
        self._monitor = self._observed(observed.health, health)

    async def run(self, stop: asyncio.Event, *, drain: bool) -> None:
        """Work until `stop` is set or, with `drain`, until nothing is left; then shut down within the grace time."""
        if self._spooling:
            await self._spooling.open()
        async with asyncio.TaskGroup() as group:
            background = [
                group.create_task(self._ownership.run(), name="ownership"),
                group.create_task(self._monitor.measure_delay(), name="loop delay"),
                group.create_task(self._monitor.observe(), name="gauges"),
                group.create_task(self._strays.run(), name="stray streams"),
                group.create_task(self._delivery.orphans.run(), name="orphans"),
            ]
            if self._spooling:
                background.append(group.create_task(self._spooling.run(), name="spool"))
            await self._consume(stop, drain=drain)
            release = self._timing.process.release
            grace = max(self._ending.grace - release, 0.0)
            await shut_down(self._consumer, self._ownership, flush=self._ending.flush, grace=grace)
            await end(background)
            await self._delivery.orphans.leave(release / 2)
        log.info("worker.stopped")

    async def _consume(self, stop: asyncio.Event, *, drain: bool) -> None:
        while not stop.is_set():
            if await self._consumer.turn():
                continue
            if drain and await self._drained():
                return
            await _pause(stop, self._timing.reading.poll)

    async def _drained(self) -> bool:
        """Close open batches once all entries are read; returns whether nothing is left in any partition."""
        if not self._consumer.caught_up():
            return False
        try:
            self._consumer.close_all()
            await self._consumer.settle()
            if not await self._consumer.stored(self._timing.reading.poll):
                return False
            backlog = await self._entries.backlog(range(self._rules.partitions))
        except StreamError:
            return False
        if any(backlog.entries.values()):
            return False
        return self._spooling is None or await self._spooling.empty()

    def _observed(self, store: StoreHealth, health: WorkerHealth) -> Monitor:
        """The monitor; the probes and the heartbeat know the worker from now on."""
        trend = MemoryTrend()
        spool = self._spooling.spool if self._spooling else None
        health.began(self._consumer, self._ownership, store, spool, trend)
        return Monitor(self._entries, self._consumer, store, trend, self._context)

    def _begin(self, lease: Lease) -> Partition:
        context = self._context
        batcher = Batcher(lease.partition, self._rules, self._encoders, context.metrics, context.clock)
        recoveries = Recoveries(lease.partition, self._recovery)
        return Partition(lease, batcher, self._entries, self._delivery, recoveries, context)


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
        settings=settings.public(),
    )
    for variable, meant in misspelt(os.environ).items():
        log.warning("settings.misspelt", variable=variable, meant=meant)


def _yield_to_the_loop() -> None:
    """Let this thread have a core only while the event loop does not need it."""
    with suppress(OSError):  # only Linux has a niceness per thread
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), ENCODER_NICENESS)


async def _check_surroundings(settings: Settings, means: Means, context: Context, stop: asyncio.Event) -> None:
    """Refuse to start on a wrong Redis or store, but wait for a Redis that is down and go on without the store."""
    client, store, keys = means.client, means.store, settings.redis.keys

    async def check_redis() -> None:
        version = await check_server(client)
        await record_or_check(client, keys, settings.partitions)
        log.info("redis.connected", version=version)

    await _until_redis_answers(check_redis, context, stop)
    try:
        await store.check()
        identity = await store.identity()
    except StoreError as error:
        context.metrics.retries.labels(error.cause).inc()
        log.warning("store.refused", cause=error.cause, status=error.status, error=str(error))
        return
    same_store = partial(record_or_check_store, client, keys, settings.store_url, identity)
    await _until_redis_answers(same_store, context, stop)


async def _until_redis_answers(ask: Callable[[], Awaitable[None]], context: Context, stop: asyncio.Event) -> None:
    while not stop.is_set():
        try:
            await ask()
        except StreamError as error:
            context.metrics.redis_errors.labels(error.cause).inc()
            log.warning("redis.unreachable", error=str(error))
            await _pause(stop, context.timing.process.start_retry)
            continue
        return


async def _pause(stop: asyncio.Event, seconds: float) -> None:
    """Wait until it is time for the next turn, or to stop."""
    try:
        await asyncio.wait_for(stop.wait(), seconds)
    except TimeoutError:
        return
