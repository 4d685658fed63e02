"""How long a worker waits: every poll, rest, patience and backoff, in seconds. One value; tests pass others.

What a person may have to change is a setting; these are not. They are grouped by who needs them.
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

import stamina

MOST_DOUBLINGS = 10
"""More would only overflow: every backoff has reached its longest wait by then."""


@dataclass(frozen=True, slots=True)
class Backoff:
    """Waits between tries: doubling from the first to the longest, each with up to `jitter` more."""

    first: float
    longest: float
    jitter: float = 0.0

    def after(self, failures: int) -> float:
        """How long to wait after so many failures in a row."""
        wait: float = min(self.longest, self.first * 2 ** min(failures - 1, MOST_DOUBLINGS))
        return wait + self.jitter * random.random() if self.jitter else wait  # noqa: S311 -- no secrecy needed

    def attempts(
        self, again: Callable[[Exception], bool | float], most: int | None = None
    ) -> AsyncIterator[stamina.Attempt]:
        """Attempts with these waits between them, without limit or `most`, while `again` says so of the last failure.

        It may also say after how many seconds.
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
    """Of the turns in which streams are read."""

    poll: float = 0.5
    """Between turns while nothing waits: little beside a minute of accumulation, and nearly free."""

    handover: float = 5.0
    """How long uploads under way may delay the release of a partition; the next owner finishes what is sealed."""

    rest: float = 1.0
    """Before the next try after Redis failed, or refused something for one partition: no hot loop, no flood of logs."""

    batch_retry: Backoff = Backoff(1.0, 30.0)
    """Before a batch that failed is tried again. There is no other limit: its audio is in Redis."""


@dataclass(frozen=True, slots=True)
class DeliveryTiming:
    """Of what becomes of a sealed batch."""

    done_retry: Backoff = Backoff(0.1, 10.0, jitter=1.0)
    """Between tries of the done step while Redis is away."""

    orphans: float = 2.0
    """Between two questions about orphans. The answer changes when the entries are stored, at most a batch's length
    later."""

    recovery_rest: float = 2.0
    """Before Redis or the spool are asked again what they know of a conversation, after they did not answer."""


@dataclass(frozen=True, slots=True)
class StoreTiming:
    """Of requests to the store."""

    retry: Backoff = Backoff(0.5, 30.0, jitter=1.0)
    """Between tries of a request that the store refuses."""

    probe: float = 5.0
    """During an outage one request in so long is let through, to find out whether it is over."""


@dataclass(frozen=True, slots=True)
class SpoolTiming:
    """Of the spool and its drainer."""

    scan: float = 5.0
    """Between two scans of the directory; longer if a scan takes long, see `worker.spool.drainer`."""

    retry: Backoff = Backoff(0.5, 30.0, jitter=1.0)
    """Between tries to empty it while the store or Redis refuses."""

    patience: float = 30.0
    """After which a write counts as refused. It may end later all the same: then the blob is a duplicate."""

    rest: float = 5.0
    """After a failed write, before the next one is tried."""


@dataclass(frozen=True, slots=True)
class GaugeTiming:
    """Of what is measured again and again."""

    delay: float = 0.1
    """The timer whose lateness is the delay of the event loop."""

    observe: float = 2.0
    """Between two looks at memory, and at the backlog in Redis."""

    account: float = 30.0
    busy_account: float = 300.0
    """Between two accounts of what left a stream unread, while it is empty or not. Redis copies two entries for each,
    which takes it 0.4 ms if they have 160 kB."""


@dataclass(frozen=True, slots=True)
class HealthTiming:
    """Of the probes' patience."""

    wedged: float = 60.0
    """Without a finished turn for so long the process is wedged: a turn waits for Redis, never for the store."""

    store: float = 30.0
    """A store that refuses for so long makes the worker unready; it keeps trying, and a restart would not help."""


@dataclass(frozen=True, slots=True)
class ProcessTiming:
    """Of the start and the end of a worker."""

    start_retry: float = 2.0
    """Between two tries to reach Redis at the start."""

    release: float = 2.0
    """Kept of SHUTDOWN_GRACE for releasing the leases."""


@dataclass(frozen=True, slots=True)
class Timing:
    """All of them."""

    process: ProcessTiming = ProcessTiming()
    reading: ReadingTiming = ReadingTiming()
    delivery: DeliveryTiming = DeliveryTiming()
    store: StoreTiming = StoreTiming()
    spool: SpoolTiming = SpoolTiming()
    gauges: GaugeTiming = GaugeTiming()
    health: HealthTiming = HealthTiming()
