"""What an operator reads is what the chart does."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.deploy.chart import CHART, TOP

OPERATIONS = (CHART / "OPERATIONS.md").read_text()


def test_the_table_of_values_is_up_to_date() -> None:
    command = [sys.executable, "deploy/chart_readme.py", "--check"]

    assert subprocess.run(command, cwd=TOP, check=False).returncode == 0


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
def test_each_task_that_comes_at_night_has_instructions(task: str) -> None:
    assert f"\n## {task}\n" in OPERATIONS
