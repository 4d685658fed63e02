"""Gauges that change by themselves: ages, backlogs, memory and the delay of the event loop."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Sequence

from worker.consuming.consumer import Consumer
from worker.errors import LeaseLost, StreamError
from worker.model.causes import StreamCause
from worker.model.states import HELD_STATES, BatchState, RedisPersistence
from worker.operations.trend import MemoryTrend
from worker.runtime.context import Context
from worker.stores.monitored import StoreHealth
from worker.stream.entries import Backlog, Entries
from worker.stream.servers.checks import UNKNOWN, ServerState, server_states

ACCOUNTS_AT_ONCE = 64
"""Partitions whose losses are counted in one round trip."""


class Monitor:
    """Fills the gauges of one worker while `measure_delay` and `observe` run."""

    def __init__(
        self, entries: Entries, consumer: Consumer, store: StoreHealth, trend: MemoryTrend, context: Context
    ) -> None:
        self._client = entries.client
        self._entries = entries
        self._consumer = consumer
        self._budget = consumer.budget
        self._store = store
        self._trend = trend
        self._metrics = context.metrics
        self._timing = context.timing.gauges
        self._accounted: dict[int, float] = {}
        self._fullest = ""

    async def measure_delay(self) -> None:
        """Measure the delay of the event loop until cancelled."""
        while True:
            due = time.perf_counter() + self._timing.delay
            await asyncio.sleep(self._timing.delay)
            self._metrics.loop_delay.observe(max(0.0, time.perf_counter() - due))

    async def observe(self) -> None:
        """Fill the gauges until cancelled."""
        while True:
            self.observe_memory()
            try:
                await self.observe_redis()
            except StreamError as error:
                self._metrics.redis_errors.labels(error.cause).inc()
            await asyncio.sleep(self._timing.observe)

    def observe_memory(self) -> None:
        """Fill the gauges that this process knows by itself."""
        partitions = [partition for partition in self._consumer.partitions.values() if not partition.is_idle]
        self._metrics.memory.set(self._budget.used)
        self._metrics.memory_limit.set(self._budget.limit)
        here = [*partitions, *self._consumer.abandoned]
        counts = sum((partition.states() for partition in here), Counter[BatchState]())
        for state in HELD_STATES:
            self._metrics.batch_states.labels(state).set(counts[state])
        now = self._client.clock()
        ages = [partition.oldest_age(self._entries.node_of(partition.number).now_ms(), now) for partition in partitions]
        self._metrics.oldest_unstored.set(max(ages, default=0.0))
        self._metrics.store_failing.set(self._store.failing_for(self._client.clock()))

    async def observe_redis(self) -> None:
        """Fill the gauges that Redis knows; a stream is its backlog, because entries leave it only when stored."""
        backlog = await self._entries.backlog(list(self._consumer.partitions))
        self._metrics.backlog_entries.set(sum(backlog.entries.values()))
        self._metrics.backlog_bytes.set(sum(backlog.bytes.values()))
        self._metrics.dead_held.set(sum(backlog.dead.values()))
        self._metrics.dead_bytes.set(sum(backlog.dead_bytes.values()))
        states = await server_states(self._client)
        self._show([state for state in states if isinstance(state, ServerState)], len(states))
        await self._count_losses(backlog)

    def _show(self, servers: Sequence[ServerState], known: int) -> None:
        """Show the server that will be full first, and the worst of what all servers say."""
        metrics = self._metrics
        metrics.redis_nodes.labels("up").set(len(servers))
        metrics.redis_nodes.labels("down").set(known - len(servers))
        if not servers:
            return
        fullest = min(servers, key=lambda server: (server.room, -server.memory))
        metrics.redis_memory.set(fullest.memory)
        metrics.redis_memory_limit.set(fullest.memory_limit)
        metrics.redis_replicas.set(min(server.replicas for server in servers))
        worst = max((server.saving for server in servers), key=[*RedisPersistence].index)
        for state in RedisPersistence:
            metrics.redis_persistence.labels(state).set(state is worst)
        metrics.redis_policy.clear()  # one that was changed is not shown beside the new one
        for policy in {server.policy for server in servers} - {UNKNOWN}:
            metrics.redis_policy.labels(policy).set(1)
        if not fullest.is_hidden:
            self._watch_growth(fullest)

    def _watch_growth(self, fullest: ServerState) -> None:
        if fullest.name != self._fullest:
            self._trend.restart()
        self._fullest = fullest.name
        self._trend.add(self._client.clock(), fullest.memory)

    async def _count_losses(self, backlog: Backlog) -> None:
        """Count entries that were removed before any owner had read them."""
        due = [
            partition for partition in self._consumer.taken_over() if self._is_account_due(partition.number, backlog)
        ]
        for first in range(0, len(due), ACCOUNTS_AT_ONCE):
            some = due[first : first + ACCOUNTS_AT_ONCE]
            self._accounted |= dict.fromkeys([partition.number for partition in some], self._client.clock())
            counts = await self._entries.losses.count_unread_losses([partition.lease for partition in some])
            for partition, count in zip(some, counts, strict=True):
                if isinstance(count, int):
                    partition.losses.count_unread(count)
                elif not isinstance(count, LeaseLost):
                    self._refused(count)

    def _is_account_due(self, partition: int, backlog: Backlog) -> bool:
        rest = self._timing.busy_account if backlog.entries.get(partition) else self._timing.account
        return self._client.clock() - self._accounted.get(partition, -rest) >= rest

    def _refused(self, error: StreamError) -> None:
        """Count a refusal: a broken key costs only its own partition. Raises any other failure."""
        if error.cause is not StreamCause.REFUSED:
            raise error
        self._metrics.redis_errors.labels(error.cause).inc()
