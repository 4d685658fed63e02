"""The CPU limit, from cgroup files as Kubernetes writes them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from worker.runtime import cpu


@pytest.fixture(autouse=True)
def cgroup(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """No cgroup files, on a machine of eight cores."""
    monkeypatch.setattr(cpu, "CGROUP_V2", tmp_path / "cpu.max")
    monkeypatch.setattr(cpu, "CGROUP_V1", tmp_path)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    return tmp_path


def test_without_a_cgroup_all_cores_are_ours() -> None:
    assert cpu.cpu_limit() == 8


def test_where_affinity_is_unknown_all_cores_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_getaffinity")  # as on macOS
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    assert cpu.cpu_limit() == 4


@pytest.mark.parametrize(
    ("text", "limit"),
    [
        ("max 100000", 8),
        ("200000 100000", 2),
        ("250000 100000", 2),
        ("50000 100000", 1),
        ("1600000 100000", 8),
        ("", 8),
        ("nonsense", 8),
    ],
)
def test_quota_of_cgroup_v2_is_rounded_down(cgroup: Path, text: str, limit: int) -> None:
    (cgroup / "cpu.max").write_text(text)
    assert cpu.cpu_limit() == limit


@pytest.mark.parametrize(("quota", "limit"), [("300000", 3), ("-1", 8), ("99999", 1), ("x", 8)])
def test_quota_of_cgroup_v1(cgroup: Path, quota: str, limit: int) -> None:
    (cgroup / "cpu.cfs_quota_us").write_text(f"{quota}\n")
    (cgroup / "cpu.cfs_period_us").write_text("100000\n")
    assert cpu.cpu_limit() == limit


def test_affinity_counts_where_it_is_less(cgroup: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (cgroup / "cpu.max").write_text("400000 100000")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 5})
    assert cpu.cpu_limit() == 2
