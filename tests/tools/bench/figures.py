"""Measured figures: how several runs become one, how they are held against targets, how they are shown."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any, Literal


@dataclass(frozen=True, slots=True)
class Spread:
    """What several runs of one measurement gave. The least is the truest: other work on the machine only adds."""

    values: tuple[float, ...]

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Of at least one run.

        Raises:
            ValueError: there was none.
        """
        if not values:
            raise ValueError("nothing was measured")
        return cls(tuple(values))

    @property
    def least(self) -> float:
        """The lowest run."""
        return min(self.values)

    @property
    def middle(self) -> float:
        """The median run."""
        return median(self.values)

    @property
    def noise(self) -> float:
        """How far the highest run is above the lowest, as a share of it."""
        return max(self.values) / self.least - 1 if self.least else 0.0


def percentile(values: Sequence[float], share: float) -> float:
    """The least value that at least `share` (0..1) of all values do not exceed.

    Raises:
        ValueError: there is no value.
    """
    if not values:
        raise ValueError("nothing was measured")
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


@dataclass(frozen=True, slots=True)
class Target:
    """What a figure must reach."""

    kind: Literal["at most", "at least", "exactly"]
    value: float

    def holds(self, value: float) -> bool:
        """Whether the figure reaches it; "exactly" means to two decimals."""
        if self.kind == "exactly":
            return round(value, 2) == self.value
        return value <= self.value if self.kind == "at most" else value >= self.value


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured number with its unit; `runs` are the single runs behind it, `note` what a reader has to know."""

    name: str
    value: float
    unit: str = ""
    target: Target | None = None
    runs: Spread | None = None
    note: str = ""

    @property
    def verdict(self) -> str:
        """Empty without a target."""
        if self.target is None:
            return ""
        return "reached" if self.target.holds(self.value) else "missed"

    def facts(self) -> dict[str, Any]:
        """For --json."""
        facts: dict[str, Any] = {"name": self.name, "value": self.value, "unit": self.unit}
        if self.target is not None:
            facts |= {"target": f"{self.target.kind} {self.target.value:g}", "verdict": self.verdict}
        if self.runs is not None:
            facts |= {"least": self.runs.least, "median": self.runs.middle, "runs": list(self.runs.values)}
        return facts | ({"note": self.note} if self.note else {})


@dataclass(frozen=True, slots=True)
class Grid:
    """A table of its own: cells are texts, or numbers that are shown with the column's format, like ".2f"."""

    title: str
    columns: tuple[tuple[str, str], ...]
    rows: list[tuple[str | float, ...]]

    def texts(self) -> list[list[str]]:
        """Every cell as it is shown."""
        formats = [form for _, form in self.columns]
        return [
            [cell if isinstance(cell, str) else format(cell, form) for cell, form in zip(row, formats, strict=True)]
            for row in self.rows
        ]

    def facts(self) -> dict[str, Any]:
        """For --json."""
        names = [name for name, _ in self.columns]
        return {"title": self.title, "rows": [dict(zip(names, row, strict=True)) for row in self.rows]}


@dataclass(slots=True)
class Section:
    """What one part of the bench found; `notes` say what could not be measured, and why."""

    title: str
    figures: list[Figure] = field(default_factory=list)
    grids: list[Grid] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def value(self, name: str) -> float | None:
        """A figure's value by its name."""
        return next((figure.value for figure in self.figures if figure.name == name), None)

    def facts(self) -> dict[str, Any]:
        """For --json."""
        return {
            "title": self.title,
            "figures": [figure.facts() for figure in self.figures],
            "tables": [grid.facts() for grid in self.grids],
            "notes": self.notes,
        }


def at_most(value: float) -> Target:
    """A ceiling."""
    return Target("at most", value)


def at_least(value: float) -> Target:
    """A floor."""
    return Target("at least", value)


def exactly(value: float) -> Target:
    """Neither more nor less."""
    return Target("exactly", value)
