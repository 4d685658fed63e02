"""The answers to the probes: live means progress, ready means that audio gets from Redis to the store."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from worker.consuming.consumer import Consumer
from worker.coordination.ownership import Ownership
from worker.operations.trend import MemoryTrend
from worker.runtime.timing import HealthTiming
from worker.spool.spool import Spool
from worker.stores.monitored import StoreHealth
from worker.stream.leases import Member


class WorkerHealth:
    """Answers for one worker; before `began` is called it is live and not ready."""

    def __init__(self, clock: Callable[[], float] = time.monotonic, timing: HealthTiming = HealthTiming()) -> None:
        self._clock = clock
        self._timing = timing
        self._consumer: Consumer | None = None
        self._ownership: Ownership | None = None
        self._store: StoreHealth | None = None
        self._spool: Spool | None = None
        self._trend = MemoryTrend()

    def began(
        self,
        consumer: Consumer,
        ownership: Ownership,
        store: StoreHealth,
        spool: Spool | None = None,
        trend: MemoryTrend | None = None,
    ) -> None:
        """Note that the worker is built and reads."""
        self._consumer, self._ownership, self._store, self._spool = consumer, ownership, store, spool
        self._trend = trend or self._trend

    def live(self) -> Sequence[str]:
        """Why the process needs a restart; an outage of Redis or the store is not a reason."""
        if self._consumer is None:
            return []
        idle = self._clock() - self._consumer.last_turn
        return [f"no turn was finished for {idle:.0f} s"] if idle > self._timing.wedged else []

    def ready(self) -> Sequence[str]:
        """Why audio does not flow; a worker without a partition is ready, or a rollout would wait for itself."""
        if self._consumer is None or self._ownership is None or self._store is None:
            return ["starting"]
        reasons = list(self.live())
        if not self._ownership.reachable():
            reasons.append("Redis does not answer")
        if self._ownership.difference:
            reasons.append(self._ownership.difference)
        failing = self._store.failing_for(self._clock())
        if self._store.is_awaited:
            reasons.append("the store has not answered yet" + (f" ({self._store.cause})" if failing else ""))
        elif failing > self._timing.store:
            reasons.append(f"the store refuses ({self._store.cause}) for {failing:.0f} s")
        if failing and self._spool and self._spool.trouble:
            reasons.append(f"the spool takes nothing ({self._spool.trouble}), Redis holds the audio")
        return reasons

    def troubles(self) -> Sequence[str]:
        """Tell a person why audio does not flow, and which files need a person."""
        unreadable = self._spool.unreadable if self._spool else 0
        damage = [f"spooled blobs that can't be read: {unreadable}; see audio-batch-worker spool verify"]
        return [*self.ready(), *(damage if unreadable else [])]

    def notices(self) -> Sequence[str]:
        """Tell a person what may soon be a trouble, though the worker is ready."""
        notices = []
        failing = self._store.failing_for(self._clock()) if self._store else 0.0
        if self._store and 0 < failing <= self._timing.store:
            notices.append(f"the store refuses ({self._store.cause}) for {failing:.0f} s, and is asked again")
        if self._spool and self._spool.waiting and self._spool.oldest > self._timing.spool:
            notices.append(f"the store has not taken {self._spool.waiting} blobs that wait in the spool")
        if self._ownership and self._ownership.unlisted:
            notices.append(self._ownership.unlisted)
        return notices

    def describe(self, member: Member) -> Member:
        """Describe this worker, for its heartbeat: to other workers and to people."""
        trouble, notice = "; ".join(self.troubles()), "; ".join(self.notices())
        growth, measured = self._trend.growth, self._trend.seconds
        return replace(member, trouble=trouble, notice=notice, growth=growth, measured=measured)
