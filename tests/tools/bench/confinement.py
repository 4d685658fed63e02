"""Fewer CPUs than the machine shows: by affinity, or by a quota as Kubernetes sets it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

V1 = Path("/sys/fs/cgroup/cpu")
V2 = Path("/sys/fs/cgroup")
NAME = "audio-batch-worker-bench"
PERIOD_US = 100_000


def one_core(pid: int) -> None:
    """Let a process run on one core only."""
    os.sched_setaffinity(pid, {0})


@contextmanager
def quota(cpus: float) -> Iterator[Callable[[int], None] | None]:
    """A control group with so much CPU time; None where this process may not make one."""
    group = _make(cpus)
    try:
        yield None if group is None else lambda pid: _write(group / "cgroup.procs", str(pid))
    finally:
        if group is not None:
            group.rmdir()


def _make(cpus: float) -> Path | None:
    limit = round(cpus * PERIOD_US)
    # The weight makes the quota the limit: a group has only a single process' share beside all others otherwise.
    if (V1 / "cpu.cfs_quota_us").exists():
        group, settings = V1 / NAME, {"cpu.cfs_quota_us": f"{limit}", "cpu.shares": "100000"}
    else:
        group, settings = V2 / NAME, {"cpu.max": f"{limit} {PERIOD_US}", "cpu.weight": "10000"}
    try:
        group.mkdir(exist_ok=True)
    except OSError:
        return None
    try:
        for file, text in settings.items():
            _write(group / file, text)
    except OSError:  # the controller is not delegated to us
        group.rmdir()
        return None
    return group


def _write(path: Path, text: str) -> None:
    path.write_text(text)
