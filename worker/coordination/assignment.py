"""Which worker should own which partition: one pure function, the same on every worker."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Sequence

from worker.stream.leases import Member

ROLLOUT_MS = 15 * 60 * 1000
"""How long after the start of its first worker a revision is being rolled out; a canary may then stay for days."""


def assign(partitions: int, members: Sequence[Member], owners: Sequence[str | None], now_ms: int) -> list[str | None]:
    """Give every partition to a live worker, moving as few as possible.

    Every worker gets the floor or the ceiling of its even share. While a new revision is being rolled out, only its
    workers receive partitions, and they give none away. So a partition moves about once, and shares may be uneven until
    the old workers are gone.

    Args:
        partitions: number of partitions.
        members: live workers.
        owners: worker that holds each partition's lease now, None where no worker does.
        now_ms: Redis' time.

    Returns:
        Worker id per partition; None only without members.
    """
    if not members:
        return [None] * partitions
    workers = sorted(member.worker for member in members)
    receivers = _receivers(members, now_ms) or workers
    limits = _limits(partitions, workers, owners)
    if len(receivers) < len(workers):
        limits.update(dict.fromkeys(receivers, partitions))
    return _given(_kept(owners, limits), receivers, limits)


def _receivers(members: Sequence[Member], now_ms: int) -> list[str]:
    """Workers of the revision being rolled out; empty if there is none."""
    first_started: dict[str, int] = {}
    for member in members:
        first_started[member.revision] = min(member.started, first_started.get(member.revision, member.started))
    newest = max(first_started, key=lambda revision: (first_started[revision], revision))
    if len(first_started) == 1 or now_ms - first_started[newest] > ROLLOUT_MS:
        return []
    return sorted(member.worker for member in members if member.revision == newest)


def _limits(partitions: int, workers: Sequence[str], owners: Sequence[str | None]) -> dict[str, int]:
    """Even shares; workers that hold most get the larger ones, so that the fewest partitions must move."""
    share, larger = divmod(partitions, len(workers))
    held = Counter(owner for owner in owners if owner)
    by_holding = sorted(workers, key=lambda worker: (-held[worker], worker))
    return {worker: share + (place < larger) for place, worker in enumerate(by_holding)}


def _kept(owners: Sequence[str | None], limits: dict[str, int]) -> list[str | None]:
    held: Counter[str] = Counter()
    result: list[str | None] = []
    for owner in owners:
        kept = owner is not None and held[owner] < limits.get(owner, 0)
        result.append(owner if kept else None)
        if owner is not None and kept:
            held[owner] += 1
    return result


def _given(kept: Sequence[str | None], receivers: Sequence[str], limits: dict[str, int]) -> list[str | None]:
    """Give each partition without an owner to the receiver that is furthest below its limit by then.

    During a rollout, where limits are equal, this is the one that holds least. Among equals it is the first by name.
    """
    held = Counter(worker for worker in kept if worker)
    heap = [(held[worker] - limits[worker], held[worker], worker) for worker in receivers]
    heapq.heapify(heap)
    result = list(kept)
    for partition, owner in enumerate(kept):
        if owner is None:
            need, holding, receiver = heap[0]
            result[partition] = receiver
            heapq.heapreplace(heap, (need + 1, holding + 1, receiver))
    return result
