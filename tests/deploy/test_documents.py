"""What an operator reads is what the chart does."""

from __future__ import annotations

import re
import subprocess
import sys
from itertools import pairwise

import pytest
import yaml

from tests.deploy.chart import CHART, TOP, Refused, render

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


MONTHS = {"under 4 months": 4, "4 to 12 months": 12, "1 to 6 years": 72}
BLOB_GB = 147e3 / 1e9


def test_the_cheapest_storage_class_is_as_its_prices_say() -> None:
    text = OPERATIONS.partition("<!-- storage classes")[2].partition("<!-- end of")[0]
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if "$" in line]
    classes = [[float(price) for price in re.findall(r"\$([\d.]+)", " ".join(row[1:5]))] for row in rows]

    assert len(classes) == 4
    for write, gb_month, writing, keeping in classes:
        assert writing == pytest.approx(write * 1000)
        assert keeping == pytest.approx(gb_month * BLOB_GB * 1e6, abs=0.005)
    limits = [
        (colder[2] - warmer[2]) / (warmer[1] - colder[1]) / (BLOB_GB * 1e6) for warmer, colder in pairwise(classes)
    ]
    assert limits == pytest.approx([MONTHS[row[5]] for row in rows[:-1]], rel=0.2)


@pytest.mark.helm
def test_blobs_of_85_s_need_29_per_cent_fewer_writes_and_fit_the_alerts() -> None:
    block = OPERATIONS.partition("### Longer blobs")[2].partition("```yaml\n")[2].partition("```")[0]
    values = yaml.safe_load(block)

    assert round(100 * (1 - 60 / values["config"]["batchMaxSeconds"])) == 29
    assert render(values).environment()["BATCH_MAX_SECONDS"] == "85"


@pytest.mark.helm
def test_longer_blobs_than_the_page_says_are_refused() -> None:
    with pytest.raises(Refused, match=r"config\.batchMaxSeconds: 89 and config\.gapTolerance \(2\) are more than 90 s"):
        render({"config": {"batchMaxSeconds": 89}})
