"""Delays: of batches at 80 % load in real time, and of the event loop while the encoder has all that it can do."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping

from redis import Redis

from codec.entry import Chunk, End
from tests.tools.bench.audio import CHUNK_SECONDS, chunks, spoken
from tests.tools.bench.confinement import one_core, quota
from tests.tools.bench.cpu import COMPLEXITY
from tests.tools.bench.figures import Figure, Section, at_most, percentile
from tests.tools.bench.limit import Limit
from tests.tools.bench.processes import wait_until
from tests.tools.bench.pushing import START, ids, push, rounds
from tests.tools.bench.surroundings import Surroundings

SHARE = 0.8
OVERHEAD = 1.05
FIRST_LIVE, FIRST_FULL = 30_000_000, 40_000_000
BUCKET = "audio_batch_event_loop_delay_seconds_bucket"
ROUND = 12
"""Chunks of a minute: conversations close their batches one after another within it."""


def measure(world: Surroundings, *, quick: bool) -> Section:
    """First in real time, then as fast as it goes."""
    section = Section("Delays")
    bare = min(Limit(world.directory).encode(spoken(), complexity=COMPLEXITY).cpu for _ in range(3))
    sessions = int(SHARE * 60 / (OVERHEAD * bare))
    section.figures += _live(world, sessions, seconds=15 if quick else 90)
    conversations = 10 if quick else 60
    cores = os.cpu_count() or 1
    arrangements: list[tuple[str, int, Callable[[int], None] | None]] = [
        ("1 encoder thread", 1, None),
        (f"{cores} encoder threads on {cores} cores", cores, None),
        ("1 encoder thread, bound to 1 core", 1, one_core),
    ]
    for name, threads, confine in arrangements:
        section.figures.append(_full_load(world, name, threads, confine, conversations))
    with quota(1) as confine:
        if confine is None:
            section.notes.append("a quota of 1 CPU was not measured: this process may not make a control group")
        else:
            section.figures.append(_full_load(world, "1 encoder thread, quota of 1 CPU", 1, confine, conversations))
    return section


def quantile(buckets: Mapping[float, float], share: float) -> float:
    """A quantile of cumulative histogram buckets (upper bound → count), linear inside the bucket, as Prometheus does.

    Raises:
        ValueError: nothing was observed.
    """
    bounds = sorted(buckets)
    wanted = share * buckets[bounds[-1]] if bounds else 0.0
    if not wanted:
        raise ValueError("nothing was observed")
    lower, below = 0.0, 0.0
    for bound in bounds:
        if buckets[bound] >= wanted:
            inside = (wanted - below) / (buckets[bound] - below)
            return lower if bound == float("inf") else lower + (bound - lower) * inside
        lower, below = bound, buckets[bound]
    raise AssertionError("unreachable: the last bucket holds all")


def _live(world: Surroundings, sessions: int, *, seconds: int) -> list[Figure]:
    world.clear()
    names = ids(sessions, first=FIRST_LIVE)
    with world.worker() as worker:
        worker.ready()
        start, began, before = worker.metrics(), time.perf_counter(), worker.cpu()
        late = _speak(world.redis, names, seconds)
        load = (worker.cpu() - before) / (time.perf_counter() - began)
        delays = [event["took_s"] for event in worker.events("batch.finished")]
        loop = _loop_delay(start, worker.metrics())
    note = f"{sessions} sessions, {len(delays)} batches, {load:.0%} of a core in use; pushes up to {late:.1f} s late"
    return [
        Figure("closed to done at 80 % load, p50", percentile(delays, 0.5) * 1000, "ms", note=note),
        Figure("closed to done at 80 % load, p99", percentile(delays, 0.99) * 1000, "ms"),
        Figure("CPU per audio-minute at 80 % load in real time", load * 60 / sessions, "s"),
        Figure("event-loop delay p99 at 80 % load", loop * 1000, "ms", at_most(10)),
    ]


def _speak(redis: Redis, names: list[str], seconds: int) -> float:
    """Push in real time, the conversations evenly spread over five seconds; returns how late the latest push was."""
    pieces, began, late = chunks(spoken()), time.perf_counter(), 0.0
    for at, contents in _schedule(names, pieces, seconds):
        time.sleep(max(0.0, began + at - time.perf_counter()))
        push(redis, contents)
        late = max(late, time.perf_counter() - began - at)
    return late


def _schedule(names: list[str], pieces: list[bytes], seconds: int) -> Iterator[tuple[float, list[Chunk | End]]]:
    """When to push what; each conversation ends its first batch early, at a time of its own, to spread the closings."""
    for turn in range(seconds // CHUNK_SECONDS):
        for number, name in enumerate(names):
            piece = pieces[(turn + number) % len(pieces)]
            contents: list[Chunk | End] = [
                Chunk(f"user of {name}", name, START + turn * CHUNK_SECONDS, piece, seq=turn)
            ]
            if turn == number % ROUND:
                contents.append(End(f"user of {name}", name))
            yield turn * CHUNK_SECONDS + number * CHUNK_SECONDS / len(names), contents


def _full_load(
    world: Surroundings, name: str, threads: int, confine: Callable[[int], None] | None, conversations: int
) -> Figure:
    world.clear()
    names = ids(conversations, first=FIRST_FULL + int(time.monotonic() * 1000))
    push(world.redis, rounds(names, chunks(spoken())))
    with world.worker({"encode_threads": threads}, confine=confine) as worker:
        worker.ready()
        start = worker.metrics()
        wait_until(lambda: not world.waiting(), "not everything was stored")
        delay = _loop_delay(start, worker.metrics())
        worker.stop()
    return Figure(f"event-loop delay p99 at full load, {name}", delay * 1000, "ms", at_most(10))


def _loop_delay(start: Mapping[str, float], now: Mapping[str, float]) -> float:
    """The p99 in seconds of what was observed since the start."""
    buckets = {_bound(series): count - start[series] for series, count in now.items() if series.startswith(BUCKET)}
    return quantile(buckets, 0.99)


def _bound(series: str) -> float:
    return float(series.partition('le="')[2].partition('"')[0])
