"""Two workers beside one, each with one encoder thread, on the same backlog per worker."""

from __future__ import annotations

import time
from contextlib import ExitStack

from tests.tools.bench.audio import CHUNK_SECONDS, chunks, spoken
from tests.tools.bench.figures import Figure, Section, Spread, at_least
from tests.tools.bench.processes import wait_until
from tests.tools.bench.pushing import PARTITIONS, balanced, push, rounds
from tests.tools.bench.surroundings import Surroundings

FIRST = 20_000_000


def measure(world: Surroundings, *, quick: bool) -> Section:
    """Audio-minutes stored per second, in turns."""
    section = Section("From 1 to 2 workers")
    pieces, turns = (3, 1) if quick else (6, 3)
    rates: dict[int, list[float]] = {1: [], 2: []}
    for turn in range(turns):
        for workers, found in rates.items():
            first = FIRST + (2 * turn + workers) * 10_000
            found.append(_rate(world, workers, pieces, first=first))
    best = {workers: max(found) for workers, found in rates.items()}
    note = "Redis, the store and whatever else runs share the cores"
    section.figures += [
        Figure("1 worker", best[1], "audio-min/s", runs=Spread.of(rates[1])),
        Figure("2 workers", best[2], "audio-min/s", runs=Spread.of(rates[2])),
        Figure("2 workers / 1 worker", best[2] / best[1], "x", at_least(1.9), note=note),
    ]
    return section


def _rate(world: Surroundings, workers: int, pieces: int, *, first: int) -> float:
    """Audio-minutes per second, of batches of so many chunks, as many for each worker.

    Timed from the moment that the workers share the partitions, and the backlog comes, until all is stored.
    """
    world.clear()
    with ExitStack() as stack:
        for number in range(workers):
            stack.enter_context(
                world.worker({"worker_id": f"worker-{number}", "batch_max_seconds": pieces * CHUNK_SECONDS})
            )
        wait_until(lambda: sorted(world.owned().values()) == [PARTITIONS // workers] * workers, "no balance")
        push(world.redis, rounds(balanced(workers, first=first), chunks(spoken())[:pieces]))
        began = time.perf_counter()
        wait_until(lambda: not world.waiting(), "not everything was stored")
        minutes = PARTITIONS * workers * pieces * CHUNK_SECONDS / 60
        return minutes / (time.perf_counter() - began)
