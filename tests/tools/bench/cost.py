"""What a month costs in Google Cloud, from measured figures and list prices; beside the predecessor's three phases."""

from __future__ import annotations

from dataclasses import dataclass

from tests.tools.bench.figures import Grid, Section

HOURS = 720
"""Of a month with 30 days, as the predecessor counted."""
GB = 10**9
GIB = 2**30


@dataclass(frozen=True, slots=True)
class Prices:
    """$ without discounts, us-central1; what is a list price and what an assumption is told in PRICES_SOURCE."""

    class_a: float
    """Per Class A operation, Standard storage in one region."""
    gb_month: float
    """Per GB stored for a month, the same."""
    vcpu_hour: float
    """Per vCPU of a worker's or Redis' machine."""
    gib_hour: float
    """Per GiB of memory of such a machine."""


LIST_PRICES = Prices(class_a=0.005 / 1000, gb_month=0.020, vcpu_hour=0.0218, gib_hour=0.0029)
PRICES_SOURCE = (
    "Cloud Storage: list prices of us-central1 without discounts, as published in 2025 at "
    "cloud.google.com/storage/pricing (Class A $0.005 per 1,000, Standard $0.020 per GB and month). Machines: an "
    "assumption of the order of an E2 machine's list price, not looked up ($0.0218 per vCPU and hour, $0.0029 per GiB "
    "and hour); Redis runs on such memory, with one replica. Put your own prices in before you decide by them"
)
USED_SHARE = 0.7
"""Of the CPU and the memory that is paid for."""
REDIS_COPIES = 2
"""A primary and a replica."""


@dataclass(frozen=True, slots=True)
class Measured:
    """What one session needs: all of it in real time, without a pause.

    CPU in seconds per audio-minute, of the worker and of Redis, Redis memory at the end of a minute and worker memory
    in bytes, stored bytes per audio-minute.
    """

    worker_cpu: float
    redis_cpu: float
    redis_bytes: float
    worker_bytes: float
    blob_bytes: float


TYPICAL = Measured(worker_cpu=0.291, redis_cpu=0.0023, redis_bytes=1.97e6, worker_bytes=193e3, blob_bytes=147e3)
"""Of the machine in tests/tools/bench/README.md, for the table alone without measuring again."""

SESSIONS = (200, 20_000, 2_000_000)
PREDECESSOR = (("5-second PCM objects", 518.0), ("60-second batches", 43.0), ("60-second batches with spool", 92.0))
"""$ per month at 200 sessions as its authors gave them."""
PREDECESSOR_SESSIONS = 200


@dataclass(frozen=True, slots=True)
class Bill:
    """$ per month; `stored` is what the audio of one month costs in each further month."""

    operations: float
    worker: float
    redis: float
    stored: float

    @property
    def running(self) -> float:
        """All but the storage."""
        return self.operations + self.worker + self.redis


def bill(sessions: int, measured: Measured, prices: Prices = LIST_PRICES) -> Bill:
    """For so many sessions at once, day and night."""
    minutes = sessions * HOURS * 60
    worker = sessions * (measured.worker_cpu / 60 * prices.vcpu_hour + measured.worker_bytes / GIB * prices.gib_hour)
    redis_memory = measured.redis_bytes / GIB * prices.gib_hour * REDIS_COPIES
    redis = sessions * (measured.redis_cpu / 60 * prices.vcpu_hour * REDIS_COPIES + redis_memory)
    return Bill(
        operations=minutes * prices.class_a,
        worker=worker * HOURS / USED_SHARE,
        redis=redis * HOURS / USED_SHARE,
        stored=minutes * measured.blob_bytes / GB * prices.gb_month,
    )


def section(measured: Measured = TYPICAL) -> Section:
    """The table."""
    rows: list[tuple[str | float, ...]] = []
    for sessions in SESSIONS:
        month = bill(sessions, measured)
        factor = sessions / PREDECESSOR_SESSIONS
        former = [cost * factor for _, cost in PREDECESSOR]
        rows.append(
            (float(sessions), month.operations, month.worker, month.redis, month.running, month.stored, *former)
        )
    columns = (
        ("sessions", ",.0f"),
        ("Class A operations", ",.0f"),
        ("worker's CPU and memory", ",.0f"),
        ("Redis", ",.0f"),
        ("together", ",.0f"),
        ("keeping a month's audio for a month", ",.0f"),
        *((name, ",.0f") for name, _ in PREDECESSOR),
    )
    grid = Grid(
        "$ per month, the predecessor's as its authors gave them for 200 sessions, in proportion", columns, rows
    )
    notes = [
        PRICES_SOURCE,
        (
            f"{USED_SHARE:.0%} of the paid CPU and memory are in use; the predecessor's figures are operations, and "
            "disks for its spool: they leave out its CPU and Redis"
        ),
    ]
    return Section("Cost", grids=[grid], notes=notes)
