"""Shows what was measured: tables for people, one JSON document for programs."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.table import Table

from codec.libopus import library
from tests.tools.bench.figures import Figure, Grid, Section
from worker import __version__

VERDICTS = {"reached": "[green]reached[/]", "missed": "[red]missed[/]", "": ""}


def machine() -> dict[str, str | int]:
    """Where it was measured."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    models = [line.partition(": ")[2] for line in lines if line.startswith("model name")]
    return {
        "worker": __version__,
        "libopus": library().version,
        "python": platform.python_version(),
        "cpu": models[0] if models else platform.machine(),
        "cores": os.cpu_count() or 1,
        "load": f"{os.getloadavg()[0]:.2f}",
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def as_json(sections: Iterable[Section]) -> str:
    """Everything, the single runs included."""
    return json.dumps({"machine": machine(), "sections": [section.facts() for section in sections]}, indent=2)


def show(section: Section, console: Console) -> None:
    """One section's tables and notes."""
    if section.figures:
        console.print(_figures(section))
    for grid in section.grids:
        console.print(_grid(grid))
    for note in section.notes:
        console.print(f"  {note}", style="dim", highlight=False)


def _figures(section: Section) -> Table:
    table = Table(title=section.title, title_justify="left")
    for name in ("figure", "value", "median", "spread", "target", ""):
        table.add_column(name, justify="left" if name == "figure" else "right", no_wrap=name != "figure")
    for figure in section.figures:
        table.add_row(*_row(figure))
    return table


def _row(figure: Figure) -> tuple[str, ...]:
    runs, target = figure.runs, figure.target
    several = runs is not None and len(runs.values) > 1
    return (
        f"{figure.name}\n[dim]{figure.note}[/]" if figure.note else figure.name,
        f"{_number(figure.value)} {figure.unit}".strip(),
        _number(runs.middle) if runs and several else "",
        f"+{runs.noise:.0%}" if runs and several else "",
        f"{target.kind} {target.value:g}" if target else "",
        VERDICTS[figure.verdict],
    )


def _grid(grid: Grid) -> Table:
    table = Table(title=grid.title, title_justify="left")
    for name, form in grid.columns:
        table.add_column(name, justify="right" if form else "left")
    for row in grid.texts():
        table.add_row(*row)
    return table


def _number(value: float) -> str:
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.3f}"
