"""How long a worker waits: every poll, rest, time limit and backoff, in seconds.

A value that an operator may have to change is a setting; these values are not settings, but tests pass others. They
are grouped by the part that uses them.
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

import stamina

MOST_DOUBLINGS = 10
"""More doublings would only overflow: every backoff has reached its longest wait by then."""


@dataclass(frozen=True, slots=True)
class Backoff:
    """Waits between attempts: they double from the first to the longest, each with up to `jitter` more."""

    first: float
    longest: float
    jitter: float = 0.0

    def after(self, failures: int) -> float:
        """Seconds to wait after this many failures in a row."""
        wait: float = min(self.longest, self.first * 2 ** min(failures - 1, MOST_DOUBLINGS))
        return wait + self.jitter * random.random() if self.jitter else wait  # noqa: S311 -- no secrecy needed

    def attempts(
        self, again: Callable[[Exception], bool | float], most: int | None = None
    ) -> AsyncIterator[stamina.Attempt]:
        """Attempts with these waits between them, at most `most` or without limit.

        After each failure `again` says whether another attempt follows, or after how many seconds.
        """
        return stamina.retry_context(
            again,
            attempts=most,
            timeout=None,
            wait_initial=self.first,
            wait_max=self.longest,
            wait_jitter=self.jitter,
        )


@dataclass(frozen=True, slots=True)
class ReadingTiming:
    """Waits of the turns in which streams are read."""

    poll: float = 0.5
    """Between turns while no entry waits: short beside a minute of accumulation, and nearly free."""

    handover: float = 5.0
    """How long uploads in flight may delay the release of a partition; the next owner finishes sealed batches."""

    rest: float = 1.0
    """After Redis failed, or refused a request for one partition: it prevents a hot loop and a flood of logs."""

    remind: float = 60.0
    """Before a refusal of a partition that goes on is logged again."""

    batch_retry: Backoff = Backoff(1.0, 30.0)
    """Before a failed batch is tried again. Attempts have no other limit, because the audio is in Redis."""


@dataclass(frozen=True, slots=True)
class DeliveryTiming:
    """Waits of the delivery of sealed batches."""

    done_retry: Backoff = Backoff(0.1, 10.0, jitter=1.0)
    """Between attempts of the done step while Redis does not answer."""

    orphans: float = 2.0
    """Between two requests to Redis about orphans. The answer changes when the entries are stored, at most a batch's
    length later."""

    erase_retry: Backoff = Backoff(2.0, 600.0)
    """Before an object is removed again that the store keeps, as under a hold. That may last for days."""

    losses: float = 2.0
    """Between two tries to find out what a failover has lost. Redis is asked only after a failover."""

    recovery_rest: float = 2.0
    """Before Redis or the spool is asked again about a conversation, after it did not answer."""


@dataclass(frozen=True, slots=True)
class StoreTiming:
    """Waits of requests to the store."""

    retry: Backoff = Backoff(0.5, 30.0, jitter=1.0)
    """Between attempts of a request that the store refuses."""

    probe: float = 5.0
    """During an outage one request in this time goes through, to find out whether the outage is over."""


@dataclass(frozen=True, slots=True)
class SpoolTiming:
    """Waits of the spool and its drainer."""

    scan: float = 5.0
    """Between two scans of the directory; longer if a scan takes long, see `worker.spool.drainer`."""

    retry: Backoff = Backoff(0.5, 30.0, jitter=1.0)
    """Between attempts to empty the spool while the store or Redis refuses."""

    patience: float = 30.0
    """After this time a write counts as refused. It may still succeed later: then the blob is a duplicate."""

    rest: float = 5.0
    """After a failed write, before the next one is tried."""


@dataclass(frozen=True, slots=True)
class GaugeTiming:
    """Intervals of repeated measurements."""

    delay: float = 0.1
    """Of the timer whose lateness is the delay of the event loop."""

    observe: float = 2.0
    """Between two measurements of memory, and of the backlog in Redis."""

    account: float = 30.0
    busy_account: float = 300.0
    """Between two counts of the entries that left a stream unread, while it is empty (`account`) or not. Redis copies
    two entries for each count, which takes 0.4 ms if they have 160 kB."""

    strays: float = 120.0
    """Between two searches for stray streams, which look at the name of every key. One of all workers searches."""

    stray_step: float = 0.02
    """Between two steps of such a search: it takes at most a few percent of Redis' time."""


@dataclass(frozen=True, slots=True)
class HealthTiming:
    """Limits of the probes."""

    wedged: float = 60.0
    """Without a finished turn for this long the process is wedged: a turn waits for Redis, never for the store."""

    store: float = 30.0
    """A store that refuses for this long makes the worker unready. It keeps trying; a restart would not help."""

    spool: float = 120.0
    """Audio that is older than this and still in the spool is told: the store takes less than is recorded."""


@dataclass(frozen=True, slots=True)
class ProcessTiming:
    """Waits at the start and at the end of a worker."""

    start_retry: float = 2.0
    """Between two attempts to reach Redis at the start."""

    patience: float = 3.0
    """How long the start waits for the spool, and for the store. Then it reads, and goes on to ask the store."""

    release: float = 2.0
    """Reserved from SHUTDOWN_GRACE for releasing the leases."""


@dataclass(frozen=True, slots=True)
class Timing:
    """All waits of a worker."""

    process: ProcessTiming = ProcessTiming()
    reading: ReadingTiming = ReadingTiming()
    delivery: DeliveryTiming = DeliveryTiming()
    store: StoreTiming = StoreTiming()
    spool: SpoolTiming = SpoolTiming()
    gauges: GaugeTiming = GaugeTiming()
    health: HealthTiming = HealthTiming()
