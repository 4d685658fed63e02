"""What a month costs in Google Cloud, from measured figures and list prices; beside the predecessor's three phases."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from tests.tools.bench import prices
from tests.tools.bench.figures import Figure, Grid, Section, at_most
from tests.tools.bench.prices import CLASSES, MachinePrices, StorageClass

HOURS = 720
"""Of a month with 30 days, as the predecessor counted."""
GIB = 2**30
USED_SHARE = 0.7
"""Of the CPU and the memory that is paid for."""
REDIS_COPIES = 2
"""A primary and a replica."""
QUIET_SHARE = 0.52
"""Of the built day (scenes.py): the share of its audio that the gate takes for quiet."""


@dataclass(frozen=True, slots=True)
class Measured:
    """What one session needs: all of it in real time, without a pause.

    CPU in seconds per audio-minute, of the worker for speech and where it is quiet, and of Redis; bytes stored per
    audio-minute, for speech and where it is quiet; memory of Redis at the end of a minute, and of the worker, in bytes.
    """

    worker_cpu: float
    quiet_cpu: float
    redis_cpu: float
    redis_bytes: float
    worker_bytes: float
    minute_bytes: float
    quiet_bytes: float


TYPICAL = Measured(
    worker_cpu=0.291,
    quiet_cpu=0.100,
    redis_cpu=0.0023,
    redis_bytes=1.97e6,
    worker_bytes=193e3,
    minute_bytes=147e3,
    quiet_bytes=119e3,
)
"""Of the machine in tests/tools/bench/README.md, for the table alone without measuring again."""


@dataclass(frozen=True, slots=True)
class Way:
    """How audio is stored: CPU seconds and bytes per audio-minute, and the seconds of a blob."""

    name: str
    cpu: float
    minute_bytes: float
    blob_seconds: float = 60


IMAGE_CPU = 0.90
"""CPU of the image's libopus for x86-64-v3, of that of the portable one."""
DAY_WAYS = (
    Way("all audio alike, portable libopus, blobs of 60 s", 0.278, 128.4e3),
    Way("quiet gate", 0.188, 127.5e3),
    Way("also the image's libopus for x86-64-v3", 0.188 * IMAGE_CPU, 127.5e3),
    Way("also blobs of 85 s", 0.188 * IMAGE_CPU, 127.5e3, 85),
    Way("also OPUS_QUIET_BITRATE=12000", 0.184 * IMAGE_CPU, 109.4e3, 85),
)
"""The built day, of the same machine's `--only day`: one saving after the other."""
SPEECH_WAYS = (
    Way("portable libopus, blobs of 60 s", TYPICAL.worker_cpu, TYPICAL.minute_bytes),
    Way("the image's libopus for x86-64-v3", TYPICAL.worker_cpu * IMAGE_CPU, TYPICAL.minute_bytes),
    Way("also blobs of 85 s", TYPICAL.worker_cpu * IMAGE_CPU, TYPICAL.minute_bytes, 85),
)

SESSIONS = (200, 20_000, 2_000_000)
PREDECESSOR = (("5-second PCM objects", 518.0), ("60-second batches", 43.0), ("60-second batches with spool", 92.0))
"""$ per month at 200 sessions as its authors gave them."""
PREDECESSOR_SESSIONS = 200
KEPT_MONTHS = (1, 3, 4, 6, 12, 24, 60)


@dataclass(frozen=True, slots=True)
class Plan:
    """How audio is stored: the bucket's class, the months that it is kept, the seconds of a blob.

    `quiet_share` (0..1) is how much of the audio is quiet.
    """

    storage: StorageClass = CLASSES["standard"]
    months: float = 1
    blob_seconds: float = 60
    quiet_share: float = QUIET_SHARE


@dataclass(frozen=True, slots=True)
class Bill:
    """$ per month; `stored` for all audio that is kept, once the first has been deleted."""

    operations: float
    worker: float
    redis: float
    stored: float

    @property
    def running(self) -> float:
        """All but the storage."""
        return self.operations + self.worker + self.redis

    @property
    def all_in(self) -> float:
        """Everything."""
        return self.running + self.stored


def bill(sessions: int, measured: Measured, plan: Plan, machines: MachinePrices = prices.MACHINES) -> Bill:
    """For so many sessions at once, day and night."""
    minutes = sessions * HOURS * 60
    cpu = _mixed(measured.worker_cpu, measured.quiet_cpu, plan.quiet_share)
    size = _mixed(measured.minute_bytes, measured.quiet_bytes, plan.quiet_share)
    worker = sessions * (cpu / 60 * machines.vcpu_hour + measured.worker_bytes / GIB * machines.gib_hour)
    waiting = measured.redis_bytes * plan.blob_seconds / 60
    redis = sessions * (measured.redis_cpu / 60 * machines.vcpu_hour + waiting / GIB * machines.gib_hour)
    return Bill(
        operations=minutes * 60 / plan.blob_seconds * plan.storage.class_a,
        worker=worker * HOURS / USED_SHARE,
        redis=redis * REDIS_COPIES * HOURS / USED_SHARE,
        stored=minutes * size / GIB * plan.storage.gib_month * _billed_months(plan.storage, plan.months),
    )


def lifetime(blob_bytes: float, months: float, storage: StorageClass) -> float:
    """$ for one blob, from its upload to its deletion, if nobody reads it."""
    return storage.class_a + blob_bytes / GIB * storage.gib_month * _billed_months(storage, months)


def section(measured: Measured = TYPICAL, plan: Plan | None = None) -> Section:
    """The tables."""
    plan = plan or Plan()
    notes = [
        f"Cloud Storage: {prices.STORAGE_SOURCE}, us-central1, without discounts, as of {prices.AS_OF}",
        (
            f"machines: {prices.MACHINE_SOURCE}, not looked up (${prices.MACHINES.vcpu_hour} per vCPU and hour, "
            f"${prices.MACHINES.gib_hour} per GiB and hour); Redis runs on such memory, with one replica"
        ),
        (
            f"{USED_SHARE:.0%} of the paid CPU and memory are in use; the predecessor's figures are operations, and "
            "disks for its spool: they leave out its CPU, Redis and storage"
        ),
        "put your own prices into tests/tools/bench/prices.py before you decide by them",
    ]
    figures = [
        Figure(
            "all-in, all savings / none, on the built day",
            _share_left(DAY_WAYS, DAY_WAYS[-1], measured, plan),
            "x",
            at_most(0.72),
        )
    ]
    grids = [_running(measured, plan), _savings(measured, plan), _classes(measured, plan)]
    return Section("Cost", figures=figures, grids=grids, notes=notes)


def _running(measured: Measured, plan: Plan) -> Grid:
    rows: list[tuple[str | float, ...]] = []
    days = {"speech all day": 0.0, f"{plan.quiet_share:.0%} quiet": plan.quiet_share}
    for sessions in SESSIONS:
        former = [cost * sessions / PREDECESSOR_SESSIONS for _, cost in PREDECESSOR]
        for name, share in days.items():
            month = bill(sessions, measured, replace(plan, quiet_share=share))
            costs = (month.operations, month.worker, month.redis, month.running, month.stored, month.all_in)
            rows.append((float(sessions), name, *costs, *former))
    columns = (
        ("sessions", ",.0f"),
        ("audio", ""),
        ("Class A operations", ",.0f"),
        ("worker's CPU and memory", ",.0f"),
        ("Redis", ",.0f"),
        ("together", ",.0f"),
        (f"storage of {_months(plan.months)}", ",.0f"),
        ("all", ",.0f"),
        *((name, ",.0f") for name, _ in PREDECESSOR),
    )
    title = (
        f"$ per month, {plan.storage.name} class, blobs of {plan.blob_seconds:g} s; the predecessor's as its authors "
        "gave them for 200 sessions, in proportion"
    )
    return Grid(title, columns, rows)


def _bill_of(way: Way, measured: Measured, plan: Plan) -> Bill:
    needed = replace(measured, worker_cpu=way.cpu, minute_bytes=way.minute_bytes)
    return bill(SESSIONS[-1], needed, replace(plan, quiet_share=0, blob_seconds=way.blob_seconds))


def _share_left(ways: Sequence[Way], way: Way, measured: Measured, plan: Plan) -> float:
    return _bill_of(way, measured, plan).all_in / _bill_of(ways[0], measured, plan).all_in


def _savings(measured: Measured, plan: Plan) -> Grid:
    rows: list[tuple[str | float, ...]] = []
    for audio, ways in (("speech all day", SPEECH_WAYS), ("the built day", DAY_WAYS)):
        for way in ways:
            month = _bill_of(way, measured, plan)
            costs = (month.operations, month.worker, month.redis, month.stored, month.all_in)
            rows.append((audio, way.name, *costs, _share_left(ways, way, measured, plan)))
    columns = (
        ("audio", ""),
        ("stored with", ""),
        ("Class A operations", ",.0f"),
        ("worker", ",.0f"),
        ("Redis", ",.0f"),
        (f"storage of {_months(plan.months)}", ",.0f"),
        ("all", ",.0f"),
        ("/ the first", ".3f"),
    )
    return Grid(f"$ per month at {SESSIONS[-1]:,} sessions, {plan.storage.name} class", columns, rows)


def _classes(measured: Measured, plan: Plan) -> Grid:
    size = _mixed(measured.minute_bytes, measured.quiet_bytes, plan.quiet_share) * plan.blob_seconds / 60
    rows: list[tuple[str | float, ...]] = []
    for storage in CLASSES.values():
        costs = [lifetime(size, months, storage) for months in KEPT_MONTHS]
        rows.append((storage.name, *(_marked(storage, size, *each) for each in zip(KEPT_MONTHS, costs, strict=True))))
    standard = CLASSES["standard"]
    managed = [lifetime(size, months, standard) + months * prices.AUTOCLASS_OBJECT_MONTH for months in KEPT_MONTHS]
    rows.append(("standard with Autoclass' fee", *(f"{1e6 * cost:.2f}" for cost in managed)))
    columns = (("class", ""), *((_months(months), ">") for months in KEPT_MONTHS))
    return Grid(f"$ per million blobs of {size / 1000:.0f} kB, upload and storage; * is the cheapest", columns, rows)


def _marked(storage: StorageClass, size: float, months: float, cost: float) -> str:
    cheapest = min(CLASSES.values(), key=lambda other: lifetime(size, months, other))
    return f"{'* ' if storage is cheapest else ''}{1e6 * cost:.2f}"


def _months(count: float) -> str:
    return f"{count:g} month{'' if count == 1 else 's'}"


def _mixed(speech: float, quiet: float, quiet_share: float) -> float:
    return speech * (1 - quiet_share) + quiet * quiet_share


def _billed_months(storage: StorageClass, months: float) -> float:
    return max(months, storage.least_months)
