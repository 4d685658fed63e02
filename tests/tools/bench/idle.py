"""What workers and Redis cost while no audio is pushed, by the number of partitions and of workers."""

from __future__ import annotations

import time
from contextlib import ExitStack
from dataclasses import dataclass

from tests.tools.bench.figures import Figure, Grid, Section, at_most
from tests.tools.bench.processes import wait_until
from tests.tools.bench.surroundings import Surroundings

PARTITIONS = (64, 512, 4096)
WORKERS = (1, 8)
LEASE_TTL = 15.0
FEWER, MORE = 512, 4096
"""Partitions that are compared, with the most workers."""

SETTLE_SECONDS = LEASE_TTL
"""After all partitions are taken over: until nobody looks for changes any more."""


@dataclass(frozen=True, slots=True)
class Idle:
    """Shares of a core: all workers together, and Redis."""

    workers: float
    redis: float

    @property
    def both(self) -> float:
        """Everything."""
        return self.workers + self.redis


def measure(world: Surroundings, *, quick: bool) -> Section:
    """One arrangement after the other."""
    section = Section("Idle")
    seconds = LEASE_TTL if quick else 4 * LEASE_TTL
    found = {(workers, count): _idle(world, workers, count, seconds) for workers in WORKERS for count in PARTITIONS}
    section.grids.append(
        Grid(
            "CPU while no audio is pushed, in % of a core",
            (
                ("workers", ".0f"),
                ("partitions", ".0f"),
                ("each worker", ".2f"),
                ("all workers", ".2f"),
                ("Redis", ".2f"),
                ("together", ".2f"),
            ),
            [
                (workers, count, *(100 * share for share in (idle.workers / workers, *_shares(idle))))
                for (workers, count), idle in found.items()
            ],
        )
    )
    most = max(WORKERS)
    more, fewer = found[most, MORE], found[most, FEWER]
    name = f"{MORE} partitions / {FEWER}, {most} workers"
    section.figures += [
        Figure(f"idle CPU: {name}", more.both / fewer.both, "x", at_most(2), note="workers and Redis together"),
        Figure(f"idle CPU of the workers: {name}", more.workers / fewer.workers, "x"),
        Figure(f"idle CPU of Redis: {name}", more.redis / fewer.redis, "x"),
    ]
    return section


def _shares(idle: Idle) -> tuple[float, float, float]:
    return idle.workers, idle.redis, idle.both


def _idle(world: Surroundings, count: int, partitions: int, seconds: float) -> Idle:
    """Measure so many workers that share so many partitions, and have been doing so for a while."""
    world.clear()
    with ExitStack() as stack:
        workers = [
            stack.enter_context(
                world.worker({"worker_id": f"worker-{number}", "partitions": partitions, "lease_ttl": LEASE_TTL})
            )
            for number in range(count)
        ]
        share = [partitions // count] * count
        wait_until(lambda: sorted(world.owned(partitions).values()) == share, "no balance")
        wait_until(lambda: world.taken_over(partitions), "not all partitions were taken over")
        time.sleep(SETTLE_SECONDS)
        began, before, redis = time.perf_counter(), sum(worker.cpu() for worker in workers), world.facts().cpu
        time.sleep(seconds)
        took = time.perf_counter() - began
        return Idle((sum(worker.cpu() for worker in workers) - before) / took, (world.facts().cpu - redis) / took)
