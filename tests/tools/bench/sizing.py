"""How much Redis a number of sessions needs: nodes, memory for an outage of the store, streams, cells."""

from __future__ import annotations

import math
from dataclasses import dataclass

from tests.tools.bench.cost import TYPICAL, Measured
from tests.tools.bench.figures import Grid, Section
from worker.stream.keys import DEFAULT_PARTITIONS, MAX_PARTITIONS

MEGABYTE, GIGABYTE = 10**6, 10**9
SESSION_BYTES = 32_000
"""Per second: 16 kHz, 16 bits, mono."""

REDIS_CPU = {
    "plain": 1.14,
    "with a replica": 1.33,
    "with appendfsync everysec": 1.66,
    "with TLS": 2.0,
}
"""Milliseconds of a Redis node's CPU per MB that is pushed, read and done, each measured beside the plain server."""

CPU_SHARE = 0.5
"""Of a node's core, so that it has as much left for take-overs, replicas that catch up, and peaks."""

NODE_BYTES = 45 * GIGABYTE
"""Audio in one node: seven tenths of a machine with 64 GB. The rest is for buffers, forks and what else runs there."""

STREAM_SESSIONS = 16
"""Sessions in one stream."""

NODE_STREAMS = 30
"""Streams per node, so that chance gives no node much more than the others."""

OUTAGES = (0, 1, 5, 10, 30, 60)
SESSIONS = (200, 2_000, 20_000, 200_000, 2_000_000)
WATCHED_OUTAGE = 10
"""Minutes that the nodes of the last table bear."""

SOURCES: tuple[tuple[str, str], ...] = (
    ("CPU of Redis per MB", "measured: a push, a read and a done step of 160 kB chunks, redis 7.0 on one core"),
    ("memory per session", "`make bench`, Redis: memory per session with a full minute"),
    ("CPU of the workers per session", "`make bench`, CPU of a worker per audio-minute"),
    ("half of a node's core, 45 GB of a node", "assumptions: put in what your nodes have"),
    (
        "16 sessions per stream",
        "measured: MIGRATE stops a node for 10 ms per MB, and 32 MB of a stream's minute for 0.3 s",
    ),
    (
        "30 streams per node",
        "computed from the slots of 16 nodes: the fullest has 2.0 times the mean at 4 streams per node, 1.2 at 30",
    ),
    (f"{MAX_PARTITIONS:,} streams", "the largest PARTITIONS, as many as a cluster has slots"),
)


@dataclass(frozen=True, slots=True)
class Plan:
    """What so many sessions need, in all cells together; `nodes` are primaries."""

    sessions: int
    cells: int
    streams: int
    nodes: int
    cores: int


def sessions_per_node(cpu: float) -> int:
    """Sessions that a node carries by its CPU, at so many ms per MB."""
    return int(CPU_SHARE * 1000 / (cpu * SESSION_BYTES / MEGABYTE))


def memory(sessions: int, outage: float, measured: Measured = TYPICAL) -> float:
    """Bytes that Redis holds at the end of an outage of the store of so many minutes, without a spool."""
    return sessions * measured.redis_bytes * (1 + outage)


def plan(sessions: int, outage: float, measured: Measured = TYPICAL) -> Plan:
    """The cells, streams, nodes and worker cores that carry so many sessions, and bear such an outage."""
    cells = math.ceil(sessions / (MAX_PARTITIONS * STREAM_SESSIONS))
    each = math.ceil(sessions / cells)
    by_cpu = math.ceil(each / sessions_per_node(max(REDIS_CPU.values())))
    nodes = max(by_cpu, math.ceil(memory(each, outage, measured) / NODE_BYTES))
    wanted = max(DEFAULT_PARTITIONS, each / STREAM_SESSIONS, NODE_STREAMS * nodes if nodes > 1 else 0)
    streams = min(MAX_PARTITIONS, 2 ** math.ceil(math.log2(wanted)))
    return Plan(sessions, cells, streams, nodes * cells, math.ceil(sessions * measured.worker_cpu / 60))


def section(measured: Measured = TYPICAL) -> Section:
    """All tables."""
    plans = [(plan(sessions, 0, measured), plan(sessions, WATCHED_OUTAGE, measured)) for sessions in SESSIONS]
    grids = [
        Grid(
            f"Sessions per node, at {CPU_SHARE:.0%} of a core",
            (("Redis", ""), ("ms per MB", ".2f"), ("MB/s", ",.0f"), ("sessions", ",.0f")),
            [(name, cpu, CPU_SHARE * 1000 / cpu, sessions_per_node(cpu)) for name, cpu in REDIS_CPU.items()],
        ),
        Grid(
            "GB in Redis after an outage of the store, without a spool",
            (("sessions", ",.0f"), *((f"{minutes} min", ",.1f") for minutes in OUTAGES)),
            [
                (sessions, *(memory(sessions, minutes, measured) / GIGABYTE for minutes in OUTAGES))
                for sessions in SESSIONS
            ],
        ),
        Grid(
            "Nodes, streams and cells",
            (
                ("sessions", ",.0f"),
                ("MB/s", ",.0f"),
                ("worker cores", ",.0f"),
                ("cells", ",.0f"),
                ("nodes", ",.0f"),
                (f"nodes for {WATCHED_OUTAGE} min", ",.0f"),
                ("PARTITIONS of each cell", ",.0f"),
            ),
            [
                (
                    steady.sessions,
                    steady.sessions * SESSION_BYTES / MEGABYTE,
                    steady.cores,
                    steady.cells,
                    steady.nodes,
                    outage.nodes,
                    max(steady.streams, outage.streams),
                )
                for steady, outage in plans
            ],
        ),
        Grid("Where the numbers come from", (("number", ""), ("source", "")), list(SOURCES)),
    ]
    return Section("Sizing", grids=grids)
