"""The bench's course: every part in turn, each shown as soon as it is known."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace

from rich.console import Console

from tests.tools.bench import cost, cpu, crowd, day, idle, lifecycle, load, peers, quality, report, scaling, sizing
from tests.tools.bench.figures import Section
from tests.tools.bench.surroundings import Surroundings, surroundings

PARTS: Mapping[str, Callable[[Surroundings, bool], Section]] = {
    "day": lambda world, quick: day.measure(world, quick=quick),
    "peers": lambda world, quick: peers.measure(world, quick=quick),
    "cpu": lambda world, quick: cpu.measure(world, quick=quick),
    "lifecycle": lambda world, quick: lifecycle.measure(world, quick=quick),
    "crowd": lambda world, quick: crowd.measure(world, quick=quick),
    "load": lambda world, quick: load.measure(world, quick=quick),
    "scaling": lambda world, quick: scaling.measure(world, quick=quick),
    "idle": lambda world, quick: idle.measure(world, quick=quick),
    "quality": lambda _, quick: quality.measure(quick=quick),
}

ALL_PARTS = (*PARTS, "cost", "sizing")


def run(*, quick: bool, as_json: bool, only: Collection[str], plan: cost.Plan) -> None:
    """Measure and print: tables, or one JSON document with progress on standard error.

    Raises:
        BenchFailed: something that was to be measured did not work.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # the servers end with us
    console = Console(stderr=as_json)
    sections: list[Section] = []
    for name, measure in PARTS.items():
        if only and name not in only:
            continue
        console.print(f"measuring: {name}", style="dim")
        with surroundings() as world:
            sections.append(measure(world, quick))
        report.show(sections[-1], console)
    measured = _measured(sections)
    if not only or "cost" in only:
        sections.append(cost.section(measured, plan))
        report.show(sections[-1], console)
    if not only or "sizing" in only:
        sections.append(sizing.section(measured))
        report.show(sections[-1], console)
    if as_json:
        sys.stdout.write(report.as_json(sections) + "\n")


def _measured(sections: Collection[Section]) -> cost.Measured:
    """What this run found; where it did not look, what is typical."""
    typical = cost.TYPICAL

    def found(name: str, factor: float, otherwise: float) -> float:
        values = [value for section in sections if (value := section.value(name)) is not None]
        return values[0] * factor if values else otherwise

    worker_cpu = found("worker, whole process", 1, typical.worker_cpu)
    return replace(
        typical,
        worker_cpu=worker_cpu,
        quiet_cpu=typical.quiet_cpu * worker_cpu / typical.worker_cpu,
        redis_cpu=found("Redis: CPU per audio-minute", 1e-3, typical.redis_cpu),
        redis_bytes=found("Redis: memory per session with a full minute", 1e6, typical.redis_bytes),
        worker_bytes=found("RSS per open conversation, 5000 open", 1e3, typical.worker_bytes),
    )
