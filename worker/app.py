"""Wires all parts of the worker together and runs it."""

from __future__ import annotations

import asyncio
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass

import stamina.instrumentation
import structlog

from codec.crypto import key_id
from codec.libopus import library
from worker import __version__
from worker.assembly import build_recovery, build_sink, monitored, open_spooling
from worker.batching.batcher import Batcher
from worker.batching.encoder import EncoderPool
from worker.batching.memory import MemoryBudget
from worker.consuming.consumer import Consumer, pause
from worker.consuming.partition import Partition
from worker.coordination.ownership import Ownership
from worker.delivery.delivery import Delivery
from worker.delivery.recovery import Recoveries
from worker.errors import StreamError
from worker.model.jitter import JOINED_STARTS
from worker.operations.gauges import Monitor
from worker.operations.health import WorkerHealth
from worker.operations.http import HttpServer
from worker.operations.shutdown import shut_down
from worker.operations.strays import StrayWatch
from worker.operations.surroundings import StoreCheck, check_redis
from worker.operations.trend import MemoryTrend
from worker.runtime.context import Context
from worker.runtime.metrics import Metrics
from worker.runtime.signals import stop_on_signals
from worker.runtime.spans import open_spans
from worker.runtime.tasks import end, unless_stopped
from worker.runtime.timing import Timing
from worker.settings import Settings, misspelt
from worker.stores.monitored import MonitoredStore, StoreHealth
from worker.stream.client import Client
from worker.stream.entries import Entries
from worker.stream.inspection.strays import Strays
from worker.stream.leases import Lease, Leases, Member
from worker.stream.servers.connecting import connect

ENCODER_NICENESS = 10
"""On one core the event loop's p99 delay is 3 ms with this niceness and 5 to 15 ms without."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Means:
    """The resources of a worker; the function that opened them closes them."""

    client: Client
    store: MonitoredStore
    pool: ThreadPoolExecutor


async def run(settings: Settings, *, drain: bool = False, timing: Timing = Timing()) -> None:
    """Run a worker until a signal, or with `drain` until every stream is empty and all audio is stored.

    Raises:
        SettingsError: a setting is missing or does not fit the environment.
    """
    settings.require_storage()
    stamina.instrumentation.set_on_retry_hooks([])  # we log and count refusals ourselves
    client = Client(connect(settings.redis.url, timeout=settings.redis.reply_timeout))
    context = Context(Metrics(), timing, client.clock, spans=open_spans())
    means = _open(settings, client, context)
    try:
        with stop_on_signals(settings.shutdown_grace) as stop:
            await _run(settings, means, context, stop, drain=drain)
    finally:
        means.pool.shutdown(wait=False, cancel_futures=True)
        await client.close()
        await means.store.close()
        context.digest.flush()
        await asyncio.to_thread(context.spans.close)


def _open(settings: Settings, client: Client, context: Context) -> Means:
    store = monitored(settings, settings.store.open(), context)
    threads = settings.encoding.threads
    return Means(client, store, ThreadPoolExecutor(threads, "encode", initializer=_yield_to_the_loop))


async def _run(settings: Settings, means: Means, context: Context, stop: asyncio.Event, *, drain: bool) -> None:
    """Run a worker; until it runs, a signal ends the start at once."""
    health = WorkerHealth(timing=context.timing.health)
    http = HttpServer(settings.http, health=health, registry=context.metrics.registry)

    async def start() -> None:
        await http.start()
        _log_start(settings, context.metrics, http.port)
        await check_redis(settings, means.client, context)

    try:
        if await unless_stopped(stop, start()):
            check = StoreCheck(settings, means.store, means.client, context)
            await Worker(settings, means, health, context).run(stop, drain=drain, check=check)
        else:
            log.info("worker.stopped")
    finally:
        await http.stop()


class Worker:
    """A worker that uses given connections."""

    def __init__(self, settings: Settings, means: Means, health: WorkerHealth, context: Context) -> None:
        client, redis, encoding = means.client, settings.redis, settings.encoding
        self._rules = settings.batches
        self._ending = settings.ending
        self._stopped_at: float | None = None
        self._context = context
        self._timing = context.timing
        budget = MemoryBudget(encoding.memory_limit)
        observed = means.store
        self._leases = Leases(client, redis.keys, redis.partitions, redis.lease_ttl)
        self._entries = Entries(client, redis.keys, settings.worker_id, lambda: self._leases.layouts)
        self._spooling = open_spooling(settings, self._entries, observed, context)
        place = build_sink(settings, observed, self._spooling, context)
        self._recovery = build_recovery(settings, observed, self._spooling, self._entries, context)
        self._delivery = Delivery(self._entries, place, self._recovery, settings.secret, context)
        self._encoders = EncoderPool(encoding.opus.encoder, means.pool, budget)
        self._ownership = Ownership(
            client, self._leases, Member(settings.worker_id, settings.revision), health.describe, context
        )
        self._consumer = Consumer(self._entries, self._ownership, self._begin, budget, context)
        self._strays = StrayWatch(Strays(client, redis.keys, lambda: self._leases.layouts), self._ownership, context)
        self._monitor = self._observed(observed.health, health)

    async def run(self, stop: asyncio.Event, *, drain: bool, check: StoreCheck | None = None) -> None:
        """Work until `stop` is set or, with `drain`, until nothing is left; then shut down within the grace time.

        `check` goes on beside the work until the store has answered.

        Raises:
            SettingsError: SPOOL_DIR can't be used, or `check` says that the store is a wrong one.
        """
        goes_on = self._spooling is None or await unless_stopped(stop, self._spooling.open())
        async with asyncio.TaskGroup() as group:
            background = [group.create_task(check.run(stop), name="store check")] if check else []
            if goes_on and (check is None or await unless_stopped(stop, check.tried())):
                background += self._begin_background(group, stop)
                await self._consume(stop, drain=drain)
                await self._shut_down(is_store_wrong=check is not None and check.wrong is not None)
            await end(background)
            await self._delivery.orphans.leave(self._timing.process.release / 2)
            await self._delivery.inquiry.leave(self._timing.process.release / 4)
        if self._spooling:
            self._spooling.close()
        self._context.digest.flush()
        if check is not None and check.wrong is not None:
            raise check.wrong
        log.info("worker.stopped")

    def _begin_background(self, group: asyncio.TaskGroup, stop: asyncio.Event) -> list[asyncio.Task[None]]:
        work = {
            "ownership": self._ownership.run(),
            "loop delay": self._monitor.measure_delay(),
            "gauges": self._monitor.observe(),
            "stray streams": self._strays.run(),
            "orphans": self._delivery.orphans.run(),
            "stop": self._note_stop(stop),
            "losses": self._delivery.inquiry.run(),
        }
        if self._spooling:
            work["spool"] = self._spooling.run()
        return [group.create_task(task, name=name) for name, task in work.items()]

    async def _note_stop(self, stop: asyncio.Event) -> None:
        await stop.wait()
        self._stopped_at = self._context.clock()

    async def _shut_down(self, *, is_store_wrong: bool) -> None:
        """Release all partitions; a store that is a wrong one gets no time to take what is open.

        The grace time runs from the signal, and the turn that was under way then may have taken some of it.
        """
        release = self._timing.process.release
        spent = 0.0 if self._stopped_at is None else self._context.clock() - self._stopped_at
        grace = release if is_store_wrong else max(self._ending.grace - release - spent, 0.0)
        flush = self._ending.flush and not is_store_wrong
        await shut_down(self._consumer, self._ownership, flush=flush, grace=grace)

    async def _consume(self, stop: asyncio.Event, *, drain: bool) -> None:
        """Read until `stop` is set; with `drain`, set it as soon as nothing is left."""
        async with asyncio.TaskGroup() as group:
            watch = group.create_task(self._stop_when_drained(stop), name="drain") if drain else None
            await self._consumer.run(stop, drains=drain)
            if watch is not None:
                await end([watch])

    async def _stop_when_drained(self, stop: asyncio.Event) -> None:
        while not stop.is_set() and not await self._drained():
            await pause(stop, self._timing.reading.poll)
        stop.set()

    async def _drained(self) -> bool:
        """Whether nothing is left in any partition."""
        if not self._consumer.caught_up():
            return False
        try:
            if not await self._consumer.stored(self._timing.reading.poll):
                return False
            backlog = await self._entries.backlog(range(self._leases.partitions))
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
        number = lease.partition

        def belongs(conversation_id: str) -> bool:
            return number in self._leases.layouts.partitions_of(conversation_id)

        batcher = Batcher(number, self._rules, self._encoders, belongs, context)
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
        libopus_build=libopus.build,
        key_id=key_id(settings.secret),
        encode_threads=settings.encode_threads,
        http_port=port,
        settings=settings.public(),
    )
    for variable, meant in misspelt(os.environ).items():
        log.warning("settings.misspelt", variable=variable, meant=meant)
    if settings.splits_files:
        log.warning(
            "settings.files_split",
            batch_max_seconds=settings.batch_max_seconds,
            gap_tolerance=settings.gap_tolerance,
            at_most_together=JOINED_STARTS,
        )


def _yield_to_the_loop() -> None:
    """Let this thread have a core only while the event loop does not need it."""
    with suppress(OSError):  # only Linux has a niceness per thread
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), ENCODER_NICENESS)
