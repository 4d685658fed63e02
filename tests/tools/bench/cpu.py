"""CPU: the bare loop, the predecessor's way and the worker in turns; what the worker asks of Redis and the store."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import fmean
from typing import Any, cast

from codec.libopus import library
from tests.tools.bench import predecessor
from tests.tools.bench.audio import CHUNK_BYTES, MINUTE_BYTES, SCENES, chunks, silence, spoken
from tests.tools.bench.figures import Figure, Grid, Section, Spread, at_most, exactly
from tests.tools.bench.limit import Limit
from tests.tools.bench.processes import Usage
from tests.tools.bench.pushing import ids, push, rounds
from tests.tools.bench.surroundings import RedisFacts, Surroundings
from worker.settings import Settings

COMPLEXITY: int = Settings.model_fields["opus_complexity"].default
MINUTES_EACH = 4
"""Audio-minutes of each conversation: the batches of all are under way at once."""

FIRST_START = 50_000_000

STARTING = ("list",)
"""Requests by which a worker makes sure at its start that there is a bucket."""


@dataclass(frozen=True, slots=True)
class Drained:
    """What storing a backlog took: the worker's usage and Redis', before the push, after it, and in the end."""

    minutes: int
    chunks: int
    usage: Usage
    empty: RedisFacts
    full: RedisFacts
    after: RedisFacts
    requests: Mapping[str, int]

    @property
    def cpu(self) -> float:
        """CPU seconds of the whole process per audio-minute, its start included."""
        return self.usage.cpu / self.minutes


def measure(world: Surroundings, *, quick: bool) -> Section:
    """Take turns, so that what disturbs one disturbs all."""
    section = Section(f"CPU per audio-minute, {library().version}, complexity {COMPLEXITY}")
    limit, conversations, turns = Limit(world.directory), 10 if quick else 60, 1 if quick else 3
    minutes = conversations * MINUTES_EACH  # of both: the least of shorter runs meets less of what disturbs
    if not limit.is_compiled:
        section.notes.append("there is no C compiler: the bare loop is one of ctypes calls")
    bare: list[float] = []
    drained: list[Drained] = []
    ways = _predecessors(section)
    former: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(turns):
        bare.append(fmean(limit.encode(spoken(), complexity=COMPLEXITY).cpu for _ in range(minutes)))
        drained.append(drain(world, spoken() * MINUTES_EACH, conversations, first=turn * conversations))
        for name, path in ways.items():
            former[name].append(predecessor.measure(world, path, minutes=2 if quick else 10))
    start = start_cpu(world)
    section.figures += _ratios(Spread.of(bare), drained, start, former)
    section.figures += _redis(drained) + _store(drained)
    section.grids.append(_scenes(world, limit, start, quick=quick))
    section.figures += _silence(section.grids[0])
    return section


def drain(
    world: Surroundings, pcm: bytes, conversations: int, *, first: int, settings: Mapping[str, object] | None = None
) -> Drained:
    """Let a worker store whole minutes, the same of so many conversations."""
    world.clear()
    names = ids(conversations, first=first)
    empty = world.facts()
    pushed = push(world.redis, rounds(names, chunks(pcm)))
    full = world.facts()
    with world.worker(settings, drain=True) as worker:
        usage = worker.ended()
    minutes = conversations * (len(pcm) // MINUTE_BYTES)
    return Drained(minutes, pushed, usage, empty, full, world.facts(), world.store_requests())


def start_cpu(world: Surroundings) -> float:
    """CPU seconds of a worker that stores one silent minute: its start, and the first use of every part."""
    runs = []
    for turn in range(2):
        world.clear()
        push(world.redis, rounds(ids(1, first=FIRST_START + turn), chunks(silence())))
        with world.worker(drain=True) as worker:
            runs.append(worker.ended().cpu)
    return min(runs)


def _predecessors(section: Section) -> dict[str, str]:
    reason = predecessor.missing()
    if reason:
        section.notes.append(f"the predecessor's way was not measured: {reason}")
        return {}
    system = predecessor.system_libopus()
    if system is None:
        section.notes.append("its way with the system's libopus was not measured: apt-get install libopus0")
        return {"our libopus": library().path}
    return {"the system's libopus": system, "our libopus": library().path}


def _ratios(bare: Spread, drained: list[Drained], start: float, former: dict[str, list[float]]) -> list[Figure]:
    whole = Spread.of([each.cpu for each in drained])
    steady = Spread.of([each.cpu - start / each.minutes for each in drained])
    figures = [
        Figure("bare C loop over libopus", bare.least, "s", runs=bare),
        Figure("worker, whole process", whole.least, "s", runs=whole, note=f"{drained[0].minutes} min in one run"),
        Figure("worker, without its start", steady.least, "s", runs=steady),
        Figure("worker / bare loop", whole.least / bare.least, "x", at_most(1.05)),
        Figure("worker without its start / bare loop", steady.least / bare.least, "x"),
        Figure("a worker's start, with the first use of every part", start, "s"),
        Figure("sessions per core in real time", 60 / steady.least, ""),
    ]
    for name, values in former.items():
        runs = Spread.of(values)
        target = at_most(0.55) if name.startswith("the system's") else None
        figures += [
            Figure(f"predecessor's way, {name}", runs.least, "s", runs=runs, note="complexity 9, its default"),
            Figure(f"worker / predecessor's way, {name}", whole.least / runs.least, "x", target),
        ]
    return figures


def _redis(drained: list[Drained]) -> list[Figure]:
    best = min(drained, key=lambda each: each.cpu)
    cpu = min(each.after.cpu - each.full.cpu for each in drained)
    retained = (best.full.memory - best.empty.memory) / best.chunks
    note = "worker's part: reading, accepting, sealing, finishing"
    return [
        Figure("Redis: CPU / worker's CPU", cpu / best.usage.cpu, "x", at_most(0.05), note=note),
        Figure("Redis: CPU per audio-minute", cpu / best.minutes * 1000, "ms", note=note),
        Figure("Redis: memory per waiting chunk / its payload", retained / CHUNK_BYTES, "x", at_most(1.15)),
        Figure("Redis: memory per session with a full minute", retained * 12 / 1e6, "MB"),
        Figure("Redis: socket reads per chunk", (best.after.reads - best.full.reads) / best.chunks, ""),
        Figure("Redis: bytes to the worker per chunk", (best.after.sent - best.full.sent) / best.chunks, "B"),
        Figure("Redis: bytes from the worker per chunk", (best.after.received - best.full.received) / best.chunks, "B"),
    ]


def _store(drained: list[Drained]) -> list[Figure]:
    requests = sum(count for each in drained for kind, count in each.requests.items() if kind not in STARTING)
    batches = sum(each.minutes for each in drained)
    return [Figure("store requests per batch", requests / batches, "", exactly(1.00))]


def _scenes(world: Surroundings, limit: Limit, start: float, *, quick: bool) -> Grid:
    rows: list[tuple[str | float, ...]] = []
    for number, (name, make) in enumerate(SCENES.items()):
        pcm = make()
        bare = min((limit.encode(pcm, complexity=COMPLEXITY) for _ in range(2)), key=lambda encoded: encoded.cpu)
        first = 1_000_000 * (number + 1)
        run = drain(world, pcm * MINUTES_EACH, 4 if quick else 20, first=first)
        stored = stored_bytes(world) / run.minutes
        steady = (run.usage.cpu - start) / run.minutes
        rows.append((name, bare.cpu, steady, steady / bare.cpu, bare.bytes, stored))
    columns = ("s, bare loop", ".3f"), ("s, worker", ".3f"), ("x", ".2f"), ("B, bare loop", ".0f"), ("B, worker", ".0f")
    return Grid("A minute of each kind of audio, the worker without its start", (("audio", ""), *columns), rows)


def _silence(scenes: Grid) -> list[Figure]:
    speech, silence = scenes.rows[0], scenes.rows[1]
    note = "the worker's, without its start"
    return [
        Figure("silence / speech: bytes", float(silence[5]) / float(speech[5]), "x", at_most(0.05)),
        Figure("silence / speech: CPU", float(silence[2]) / float(speech[2]), "x", at_most(0.10), note=note),
    ]


def stored_bytes(world: Surroundings) -> int:
    """Bytes of all blobs that the events since the last clearing tell of."""
    events: list[tuple[bytes, dict[bytes, bytes]]] = []
    for key in world.redis.scan_iter(match="*:done", count=1000):
        events += cast("Any", world.redis.xrange(key))
    return sum(int(fields[b"bytes"]) for _, fields in events)
