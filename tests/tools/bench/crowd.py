"""Many open conversations: what each takes in memory, whether that stays so, and whether they cost more CPU together.

To hold thousands of full minutes soon, the audio is dense: each 5-second chunk has a seventh of a second of loud noise
at the highest bitrate, which becomes as many bytes of Opus as five seconds of speech do, and digital silence after it.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tests.tools.bench.audio import CHUNK_BYTES, RATE
from tests.tools.bench.cost import TYPICAL
from tests.tools.bench.figures import Figure, Grid, Section, at_most
from tests.tools.bench.processes import Worker
from tests.tools.bench.pushing import ids, push, rounds
from tests.tools.bench.surroundings import Surroundings

CHUNKS = 12
NOISY_FRAMES = 7
SETTINGS = {
    "opus_bitrate": 510_000,
    "opus_complexity": 0,
    "batch_max_age": 36_000,
    "memory_limit": 8 * 1024**3,
}
FEW, SOME, MANY = 50, 1000, 5000
REDIS_BYTES_PER_CHUNK = 165_000
BYTES_PER_KB = 1000
QUIET_SECONDS, LOOK_SECONDS = 0.5, 0.2
QUIET_SHARE = 0.1
"""Of a core: a worker that has nothing to encode takes less, one that encodes takes all of it."""
GAUGE_SECONDS = 2.2
"""Gauges of the worker are at most that old."""


@dataclass(frozen=True, slots=True)
class Held:
    """RSS in bytes before anything was read, with every conversation's minute nearly full, minute after minute.

    `cpu` is seconds per audio-minute from the first chunk pushed to the last batch done, `state` what the worker says
    that it holds.
    """

    idle: int
    full: list[int]
    cpu: float
    state: float


def measure(world: Surroundings, *, quick: bool) -> Section:
    """Hold more and more conversations open."""
    section = Section("Open conversations")
    few = _hold(world, FEW, minutes=4 if quick else 20)
    rows: list[tuple[str | float, ...]] = [_row(FEW, few)]
    for count in (SOME,) if quick else (SOME, MANY):
        if not _fits(count):
            section.notes.append(f"{count} open conversations need {_needed(count) >> 30} GiB of memory in Redis")
            continue
        held = _hold(world, count, minutes=1 if quick or count == MANY else 4)
        rows.append(_row(count, held))
        section.figures += _figures(count, held, few)
    section.grids.append(
        Grid(
            "RSS and CPU by open conversations",
            (
                ("open", ".0f"),
                ("RSS, MB", ".0f"),
                ("KB each", ".0f"),
                ("KB each, without the idle process", ".0f"),
                ("accounted KB each", ".0f"),
                ("last minute, MB", ".0f"),
                ("minutes", ".0f"),
                ("CPU ms per dense minute", ".1f"),
            ),
            rows,
        )
    )
    return section


def dense_chunks() -> list[bytes]:
    """A minute of dense audio."""
    noisy = np.random.default_rng(3).integers(-20_000, 20_000, NOISY_FRAMES * RATE // 50).astype("<i2").tobytes()
    return [noisy.ljust(CHUNK_BYTES, b"\0")] * CHUNKS


def _figures(count: int, held: Held, few: Held) -> list[Figure]:
    each = held.full[0] / count / BYTES_PER_KB
    speech = TYPICAL.worker_cpu
    grown = (speech + held.cpu - few.cpu) / speech
    is_judged = count == MANY
    return [
        Figure(
            f"RSS per open conversation, {count} open",
            each,
            "KB",
            at_most(200) if is_judged else None,
            note="the whole process, divided by the conversations",
        ),
        Figure(
            f"RSS of the last of {len(held.full)} minutes, {count} open", held.full[-1] / held.full[0], "x the first"
        ),
        Figure(
            f"CPU per audio-minute, {count} open / {FEW} open",
            grown,
            "x",
            at_most(1.10) if is_judged else None,
            note=f"what dense audio costs more, on top of {speech * 1000:.0f} ms for a minute of speech",
        ),
    ]


def _row(count: int, held: Held) -> tuple[str | float, ...]:
    full = held.full[0]
    each, net = full / count / BYTES_PER_KB, (full - held.idle) / count / BYTES_PER_KB
    return (
        count,
        full / 1e6,
        each,
        net,
        held.state / count / BYTES_PER_KB,
        held.full[-1] / 1e6,
        len(held.full),
        held.cpu * 1000,
    )


def _hold(world: Surroundings, count: int, *, minutes: int) -> Held:
    world.clear()
    names, pieces = ids(count, first=count * 1_000_000), dense_chunks()
    full, state = [], 0.0
    with world.worker(SETTINGS) as worker:
        worker.ready()
        idle, began = worker.resident(), worker.cpu()
        for minute in range(minutes):
            first = minute * CHUNKS
            push(world.redis, rounds(names, pieces[:-1], first=first))
            _read(worker, count * (first + CHUNKS - 1))
            full.append(worker.resident())
            state = max(state, worker.metrics()["audio_batch_memory_bytes"])
            push(world.redis, rounds(names, pieces[-1:], first=first + CHUNKS - 1))
            _wait_for(worker, "batch_audio_seconds_count", (minute + 1) * count)
        return Held(idle, full, (worker.cpu() - began) / count / minutes, state)


def _read(worker: Worker, chunks: int) -> None:
    """Wait until so many chunks are read, and encoded, and the gauges show it."""
    _wait_for(worker, "chunks_total", chunks)
    share = 1.0
    while share > QUIET_SHARE:
        before = worker.cpu()
        time.sleep(QUIET_SECONDS)
        share = (worker.cpu() - before) / QUIET_SECONDS
    time.sleep(GAUGE_SECONDS)


def _wait_for(worker: Worker, metric: str, count: int) -> None:
    while worker.metrics().get(f"audio_batch_{metric}", 0.0) < count:
        time.sleep(LOOK_SECONDS)


def _needed(count: int) -> int:
    return count * CHUNKS * REDIS_BYTES_PER_CHUNK


def _fits(count: int) -> bool:
    lines = Path("/proc/meminfo").read_text().splitlines()
    available = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
    return available > 1.3 * _needed(count)
