"""What an operator reads is what the chart does."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from tests.deploy.chart import CHART, TOP

README = (CHART / "README.md").read_text()


def anchor(heading: str) -> str:
    return re.sub(r"[^a-z0-9 _-]", "", heading.lower()).replace(" ", "-")


def test_the_table_of_values_is_up_to_date() -> None:
    command = [sys.executable, "deploy/chart_readme.py", "--check"]

    assert subprocess.run(command, cwd=TOP, check=False).returncode == 0


def test_links_lead_somewhere() -> None:
    anchors = {anchor(line.lstrip("# ")) for line in README.splitlines() if line.startswith("#")}

    for target in re.findall(r"\]\(([^)]+)\)", README):
        assert target.removeprefix("#") in anchors if target.startswith("#") else (CHART / target).exists(), target


@pytest.mark.parametrize(
    "task",
    [
        "First deploy beside the old pusher",
        "Rolling out",
        "Rolling back",
        "Changing PARTITIONS",
        "Rotating ENCRYPTION_SECRET",
        "After a Redis loss",
    ],
)
def test_each_task_that_comes_at_night_has_a_runbook(task: str) -> None:
    assert f"\n### {task}\n" in README
