"""How long a worker takes to be there, and how long until another one does the work of one that died."""

from __future__ import annotations

import time

from tests.tools.bench.audio import chunks, spoken
from tests.tools.bench.figures import Figure, Section, Spread
from tests.tools.bench.processes import Worker, wait_until
from tests.tools.bench.pushing import PARTITIONS, ids, push, rounds
from tests.tools.bench.surroundings import Surroundings

STARTS = 3
WATCHED = 64


def measure(world: Surroundings, *, quick: bool) -> Section:
    """Start workers, and kill one of two."""
    section = Section("Start and take-over")
    starts = [_start(world) for _ in range(STARTS)]
    section.figures += [
        _least("start-up until /readyz", [wall for wall, _ in starts], "s"),
        _least("start-up, CPU", [cpu for _, cpu in starts], "s"),
    ]
    ttl = 3.0 if quick else 15.0
    owned, stored = _take_over(world, ttl)
    note = f"after kill -9, LEASE_TTL={ttl:g}; a crash is noticed when the leases end"
    section.figures += [
        Figure("take-over: all partitions owned again", owned, "s", note=note),
        Figure("take-over: audio of the dead worker stored", stored, "s", note=note),
    ]
    return section


def _start(world: Surroundings) -> tuple[float, float]:
    world.clear()
    with world.worker() as worker:
        return worker.ready(), worker.stop().cpu


def _take_over(world: Surroundings, ttl: float) -> tuple[float, float]:
    """Seconds from the death of one of two workers until its leases, and until its open audio is stored."""
    world.clear()
    names = ids(WATCHED, first=10_000_000)
    first, second = ({"lease_ttl": ttl, "batch_max_seconds": 5, "worker_id": name} for name in ("first", "second"))
    with world.worker(first) as dying, world.worker(second) as living:
        wait_until(lambda: world.owned() == {"first": PARTITIONS // 2, "second": PARTITIONS // 2}, "no balance")
        died = time.perf_counter()
        dying.kill()
        push(world.redis, rounds(names, chunks(spoken())[:1]))
        wait_until(lambda: world.owned() == {"second": PARTITIONS}, "no take-over")
        owned = time.perf_counter() - died
        wait_until(lambda: _stored(living) == WATCHED, "not everything was stored")
        return owned, time.perf_counter() - died


def _stored(worker: Worker) -> int:
    return sum(1 for _ in worker.events("batch.finished"))


def _least(name: str, values: list[float], unit: str) -> Figure:
    runs = Spread.of(values)
    return Figure(name, runs.least, unit, runs=runs)
