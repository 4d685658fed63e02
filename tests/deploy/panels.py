"""The dashboard's panels, and what they show of a recorded run."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tests.deploy.chart import CHART, NAMESPACE, RELEASE
from tests.deploy.eventful import Recording
from tests.deploy.prometheus import RATE_WINDOW, Series

DASHBOARD: dict[str, Any] = json.loads((CHART / "files" / "dashboard.json").read_text())
PANELS: list[dict[str, Any]] = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
STEPS = 150
"""Points of a curve, at most."""


@dataclass(frozen=True, slots=True)
class Curve:
    """A series under the name that the panel gives it."""

    name: str
    series: Series


@dataclass(frozen=True, slots=True)
class Shown:
    """A panel with its data: the curves of each of its queries."""

    panel: dict[str, Any]
    queries: Sequence[Sequence[Curve]]

    @property
    def curves(self) -> list[Curve]:
        """Those of all its queries."""
        return [curve for curves in self.queries for curve in curves]


def filled(query: str, rate_interval: str = "1m", whole: str = "1h") -> str:
    """A query with Grafana's variables replaced; an hour, which the costs are averaged over, becomes `whole`."""
    replaced = {
        "$namespace": NAMESPACE,
        "$job": RELEASE,
        "$__rate_interval": rate_interval,
        "$__range": whole,
        "[1h]": f"[{whole}]",
    }
    for name, value in replaced.items():
        query = query.replace(name, value)
    return query


async def shown(panel: dict[str, Any], recording: Recording) -> Shown:
    """Evaluate a panel's queries: curves over the run for a graph, values at its end for the others."""
    return Shown(panel, [await _curves(panel, target, recording) for target in panel["targets"]])


async def _curves(panel: dict[str, Any], target: dict[str, Any], recording: Recording) -> list[Curve]:
    seconds = recording.end - recording.start
    query = filled(target["expr"], RATE_WINDOW, f"{round(seconds)}s")
    if panel["type"] == "timeseries":
        step = max(1.0, seconds / STEPS)
        found = await recording.prometheus.during(query, recording.start, recording.end, step)
    else:
        found = await recording.prometheus.at(query, recording.end)
    return [Curve(_name(target["legendFormat"], series), series) for series in found]


def _name(legend: str, series: Series) -> str:
    return re.sub(r"{{(\w+)}}", lambda label: series.labels.get(label[1], ""), legend)
