"""Tell a person first of all whether the audio is safe, and whether it flows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from worker.stream.overview import Overview

MEMORY_WARNING = 0.8
MEMORY_DANGER = 0.95
"""Shares of Redis' memory limit; at the limit itself pushes are refused."""

LATE_AGES = 2
"""A batch closes after BATCH_MAX_AGE and is stored within seconds; audio older than twice that is late."""


CLOCK_TOLERANCE_MS = 60_000


@dataclass(frozen=True, slots=True)
class Concern:
    """Something a person should look at; `danger` means that audio may be lost, or that none gets through."""

    severity: Literal["danger", "warning"]
    text: str


def concerns(overview: Overview, batch_max_age: float) -> list[Concern]:
    """List all concerns, the worst first; `batch_max_age` is in seconds."""
    found = [*_safety(overview), *_flow(overview, batch_max_age)]
    return sorted(found, key=lambda concern: concern.severity != "danger")


def _safety(overview: Overview) -> Iterator[Concern]:
    server = overview.server
    if server.policy.startswith("allkeys"):
        yield Concern("danger", f"Redis may evict audio: its maxmemory-policy is {server.policy}; set noeviction")
    elif server.policy != "noeviction":
        yield Concern(
            "warning",
            "when it is full, Redis forgets which pushes were repeated and what was deleted: its maxmemory-policy is"
            f" {server.policy}; set noeviction",
        )
    if server.role != "master":
        yield Concern("warning", f"this Redis is a {server.role}: workers and pushers need the primary")
    if server.saving == "failing":
        yield Concern("danger", "Redis can't write its log to disk: a crash loses what is not stored")
    elif server.saving == "off" and not server.replicas:
        yield Concern("warning", "a crash of Redis loses what is not stored: appendonly is off, and it has no replica")
    if server.memory_limit:
        yield from _memory(server.memory / server.memory_limit)


def _memory(used: float) -> Iterator[Concern]:
    if used >= MEMORY_DANGER:
        yield Concern("danger", f"Redis is full ({used:.0%} of maxmemory): pushes are refused, or soon will be")
    elif used >= MEMORY_WARNING:
        yield Concern("warning", f"Redis uses {used:.0%} of maxmemory; when it is full, pushes are refused")


def _flow(overview: Overview, batch_max_age: float) -> Iterator[Concern]:
    for refusal in overview.refusals:
        yield Concern("danger", f"a partition can't be read: {refusal}")
    waiting = sum(1 for view in overview.unowned if view.entries)
    if not overview.workers:
        yield Concern("danger" if overview.entries else "warning", "no worker is alive")
    elif waiting:
        yield Concern(
            "warning", f"partitions with audio and without an owner: {waiting}; after a crash this lasts one LEASE_TTL"
        )
    if troubled := [worker for worker in overview.workers if worker.trouble]:
        several = f"{len(troubled)} of {len(overview.workers)} workers say: {troubled[0].trouble}"
        yield Concern("danger" if len(troubled) == len(overview.workers) else "warning", several)
    age_ms = overview.oldest_age_ms
    if age_ms is not None and age_ms > LATE_AGES * batch_max_age * 1000:
        sealed = overview.sealed_batches
        hint = f"; sealed batches: {sealed}; does the store refuse?" if sealed else ""
        yield Concern("danger", f"audio has waited {age_ms / 1000:.0f} s and is not stored{hint}")
    if overview.ahead_ms > CLOCK_TOLERANCE_MS:
        yield Concern(
            "warning",
            f"entry ids are {overview.ahead_ms / 1000:,.0f} s ahead of Redis' clock: it was set back, or somebody chose"
            " an id; audio is stored all the same, but its age can't be told here",
        )
    if dead := sum(view.dead for view in overview.partitions):
        yield Concern("warning", f"entries that could not be processed: {dead}; see audio-batch-worker dead-letters ls")
