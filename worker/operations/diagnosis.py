"""Tell a person first of all whether the audio is safe, whether it flows, and what to do if not."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

from worker.spool import Summary
from worker.stream.inspection.overview import Overview, WorkerView
from worker.stream.losses import LOST_TTL
from worker.stream.servers.checks import ServerState

MEMORY_WARNING = 0.8
MEMORY_DANGER = 0.95
"""Shares of Redis' memory limit; at the limit itself pushes are refused."""

MEMORY_WATCHED = 0.5
"""Share from which growth is told: below it, the first minute of many sessions looks like an end of memory."""

FULL_SOON_S = 3600

SLOW_S = 30
"""A batch closes after BATCH_MAX_AGE and is stored within seconds; audio that is older by this is slow."""

LATE_AGES = 2
"""Audio that is older than this many BATCH_MAX_AGE is late."""

CLOCK_TOLERANCE_MS = 60_000

_LOOK = "their logs have the words of what refuses, RUNBOOKS.md what to do"

NAMED = 10
"""Stray streams, or partitions with losses, that are named one by one."""


@dataclass(frozen=True, slots=True)
class Concern:
    """Something a person should look at; `danger` means that audio may be lost, or that none gets through."""

    severity: Literal["danger", "warning"]
    text: str


def concerns(overview: Overview, batch_max_age: float, spool: Summary | None = None) -> list[Concern]:
    """List all concerns, the worst first; `batch_max_age` is in seconds."""
    found = [*_safety(overview), *_flow(overview, batch_max_age), *_strays(overview)]
    if spool is not None:
        found += _spool(spool, overview.now_ms, batch_max_age)
    return sorted(found, key=lambda concern: concern.severity != "danger")


def _safety(overview: Overview) -> Iterator[Concern]:
    for server in overview.servers:
        which = "Redis" if len(overview.servers) == 1 else f"Redis node {server.name}"
        for concern in _server(overview, server):
            yield replace(concern, text=concern.text.replace("Redis", which, 1))


def _server(overview: Overview, server: ServerState) -> Iterator[Concern]:
    yield from _eviction(server)
    if server.role != "master":
        yield Concern("warning", f"this Redis is a {server.role}: give workers and pushers the primary in REDIS_URL")
    yield from _saving(server)
    if server.memory_limit:
        left = overview.full_in_s if server is overview.server else None
        yield from _memory(server.memory / server.memory_limit, left)


def _eviction(server: ServerState) -> Iterator[Concern]:
    if server.is_hidden:
        yield Concern(
            "warning",
            "Redis does not tell its memory, maxmemory-policy and appendonly: allow +info to workers and to this user,"
            " or see to these yourself",
        )
    elif server.policy.startswith("allkeys"):
        yield Concern("danger", f"Redis may evict audio: its maxmemory-policy is {server.policy}; set noeviction")
    elif server.policy != "noeviction":
        yield Concern(
            "warning",
            "when it is full, Redis forgets which pushes were repeated and what was deleted: its maxmemory-policy is"
            f" {server.policy}; set noeviction",
        )


def _saving(server: ServerState) -> Iterator[Concern]:
    if server.saving == "failing":
        yield Concern(
            "danger",
            "Redis can't write its log to disk, so a crash loses what is not stored; free its disk, read its log",
        )
    elif server.saving == "off" and not server.replicas:
        yield Concern(
            "warning",
            "a crash of Redis loses what is not stored: appendonly is off, and it has no replica; set appendonly yes",
        )


def _memory(used: float, left: float | None) -> Iterator[Concern]:
    when = "" if left is None else f"; as its memory grows now, it is full in {max(1, round(left / 60)):,} min"
    remedy = "give it memory, or see what fills it below; never trim a stream"
    if used >= MEMORY_DANGER:
        yield Concern(
            "danger", f"Redis is full ({used:.0%} of maxmemory): pushes are refused, or soon will be{when}; {remedy}"
        )
    elif used >= MEMORY_WARNING:
        yield Concern(
            "warning", f"Redis uses {used:.0%} of maxmemory; when it is full, pushes are refused{when}; {remedy}"
        )
    elif used >= MEMORY_WATCHED and left is not None and left < FULL_SOON_S:
        yield Concern("warning", f"Redis uses {used:.0%} of maxmemory{when}; {remedy}")


def _flow(overview: Overview, batch_max_age: float) -> Iterator[Concern]:
    for refusal in overview.refusals:
        yield Concern("danger", f"can't be read: {refusal}")
    yield from _workers(overview)
    yield from _lateness(overview, batch_max_age)
    if overview.ahead_ms > CLOCK_TOLERANCE_MS:
        yield Concern(
            "warning",
            f"entry ids are {overview.ahead_ms / 1000:,.0f} s ahead of Redis' clock: it was set back, or a pusher chose"
            " an id; audio is stored all the same, but its age can't be told here; let pushers give * as the id",
        )
    if dead := sum(view.dead for view in overview.partitions):
        yield Concern("warning", f"entries that could not be processed: {dead}; see audio-batch-worker dead-letters ls")
    yield from _losses(overview)


def _losses(overview: Overview) -> Iterator[Concern]:
    views = [view for view in overview.partitions if view.lost]
    if views:
        named = ", ".join(str(view.number) for view in views[:NAMED])
        more = f" and {len(views) - NAMED} more" if len(views) > NAMED else ""
        yield Concern(
            "warning",
            f"entries were lost: {sum(view.lost for view in views):,} of partitions {named}{more}, the last ones within"
            f" {LOST_TTL / 3600:.0f} hours; their audio is gone; the workers' logs have the times (entries.lost)",
        )


def _workers(overview: Overview) -> Iterator[Concern]:
    if overview.workers is None:  # told among the refusals
        return
    waiting = sum(1 for view in overview.unowned if view.entries)
    if not overview.workers:
        waits = "audio waits in Redis" if overview.entries else "what is pushed will wait in Redis"
        yield Concern("danger" if overview.entries else "warning", f"no worker is alive: start one; {waits}")
    elif waiting:
        yield Concern(
            "warning",
            f"partitions with audio and without an owner: {waiting}; after a crash this lasts one LEASE_TTL, else read"
            " the logs of the workers",
        )
    troubled = [worker for worker in overview.workers if worker.trouble]
    if troubled:
        everyone = len(troubled) == len(overview.workers)
        said = _said(overview.workers, troubled[0].trouble, len(troubled))
        yield Concern("danger" if everyone else "warning", f"{said}; {_LOOK}")
    if noticed := [worker for worker in overview.workers if worker.notice and worker not in troubled]:
        yield Concern("warning", f"{_said(overview.workers, noticed[0].notice, len(noticed))}; {_LOOK}")


def _said(workers: tuple[WorkerView, ...], what: str, by: int) -> str:
    return f"{by} of {len(workers)} workers say: {what}"


def _lateness(overview: Overview, batch_max_age: float) -> Iterator[Concern]:
    age_ms = overview.oldest_age_ms
    if age_ms is None or age_ms <= (batch_max_age + SLOW_S) * 1000:
        return
    sealed = overview.sealed_batches
    hint = (
        f"; sealed batches: {sealed}; does the store refuse?" if sealed else "; read the log of its partition's owner"
    )
    late = age_ms > LATE_AGES * batch_max_age * 1000
    yield Concern("danger" if late else "warning", f"audio has waited {age_ms / 1000:.0f} s and is not stored{hint}")


def _strays(overview: Overview) -> Iterator[Concern]:
    for stray in overview.strays[:NAMED]:
        yield Concern(
            "danger",
            f"no worker reads the stream {stray.key} ({stray.entries:,} entries): {stray.reason}; mend the pusher, then"
            f" audio-batch-worker streams move '{stray.key}'",
        )
    more = len(overview.strays) - NAMED
    if more > 0:
        yield Concern("danger", f"no worker reads {more} more streams; see audio-batch-worker streams ls")


def _spool(spool: Summary, now_ms: int, batch_max_age: float) -> Iterator[Concern]:
    if not spool.waiting or spool.oldest_ms is None:
        return
    age = (now_ms - spool.oldest_ms) / 1000
    if age > LATE_AGES * batch_max_age:
        yield Concern(
            "warning",
            f"{spool.waiting:,} blobs wait in the spool, with audio of {age:.0f} s ago: does the store refuse? It is"
            " safe there as long as SPOOL_DIR lasts",
        )
