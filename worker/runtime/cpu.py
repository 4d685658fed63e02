"""The CPUs that this process may really use: the core count does not show the cgroup's quota."""

from __future__ import annotations

import math
import os
from pathlib import Path

CGROUP_V2 = Path("/sys/fs/cgroup/cpu.max")
CGROUP_V1 = Path("/sys/fs/cgroup/cpu")


def cpu_limit() -> int:
    """Whole CPUs, at least 1: the smaller of the affinity mask and the CFS quota, rounded down.

    With more encoder threads than the quota has CPUs, the kernel throttles all threads of the process together. That
    stalls the event loop for 50 ms at a time.
    """
    quota = _quota_v2() or _quota_v1()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1  # not on macOS
    return max(1, min(cores, math.floor(quota)) if quota else cores)


def _quota_v2() -> float | None:
    try:
        quota, period = CGROUP_V2.read_text().split()
    except (OSError, ValueError):
        return None
    return None if quota == "max" else int(quota) / int(period)


def _quota_v1() -> float | None:
    try:
        quota = int((CGROUP_V1 / "cpu.cfs_quota_us").read_text())
        period = int((CGROUP_V1 / "cpu.cfs_period_us").read_text())
    except (OSError, ValueError):
        return None
    return quota / period if quota > 0 else None
