"""A dashboard as one SVG page, laid out like Grafana does it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from html import escape
from itertools import pairwise
from typing import Any

from tests.deploy.panels import Curve, Shown

COLUMN, ROW, GAP = 50, 22, 6
"""Pixels of one step of Grafana's grid, and between panels."""

TITLE, LEGEND_LINE, LETTER = 24, 14, 5.9
COLOURS = ("#3274d9", "#e0752d", "#299c46", "#a352cc", "#c4162a", "#0aa6b7", "#b8860b", "#6e6e7a")
FONT = "font-family='DejaVu Sans, Verdana, sans-serif'"
MOST_NAMES = 12
"""Curves of a graph whose names leave it room."""

Box = tuple[float, float, float, float]
"""Left, top, width, height."""


def page(panels: Sequence[dict[str, Any]], shown: Iterable[Shown], start: float, end: float) -> str:
    """The SVG of all `panels` (rows included), with the curves of those that are `shown`, between two Unix times."""
    height = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in panels) * ROW
    size = f"viewBox='0 0 {24 * COLUMN} {height}' width='{24 * COLUMN}' height='{height}'"
    pieces = [
        f"<svg xmlns='http://www.w3.org/2000/svg' {size} {FONT}>",
        _rectangle((0, 0, 24 * COLUMN, height), "#eef0f3"),
    ]
    for panel in panels:
        if panel["type"] == "row":
            left, top, _, tall = _box(panel)
            pieces.append(_text(left, top + tall - 2, panel["title"], size=14, weight="bold"))
    for found in shown:
        pieces += _panel(found, start, end)
    return "\n".join([*pieces, "</svg>\n"])


def _panel(found: Shown, start: float, end: float) -> Iterator[str]:
    box = _box(found.panel)
    yield _rectangle(box, "white", corner=3)
    yield _text(box[0] + 8, box[1] + 16, found.panel["title"], size=11.5, weight="bold")
    if found.panel["type"] == "timeseries":
        yield from _graph(found, box, start, end)
    elif found.panel["type"] == "stat":
        yield _number(found, box)
    else:
        yield from _table(found, box)


def _number(found: Shown, box: Box) -> str:
    left, top, width, height = box
    defaults = found.panel["fieldConfig"]["defaults"]
    value = found.curves[0].series.points[-1][1] if found.curves else math.nan
    colour = _threshold(defaults.get("thresholds", {}).get("steps", []), value)
    words = worded(value, defaults["unit"])
    return _text(left + width / 2, top + height / 2 + 18, words, size=25, weight="bold", colour=colour, anchor="middle")


def _threshold(steps: Sequence[dict[str, Any]], value: float) -> str:
    reached = [step["color"] for step in steps if step["value"] is None or value >= step["value"]]
    return {"green": "#299c46", "orange": "#e0752d", "red": "#c4162a"}.get(reached[-1] if reached else "", "#3274d9")


def _table(found: Shown, box: Box) -> Iterator[str]:
    columns = sorted({name for curve in found.curves for name in curve.series.labels}, key=_column_order)
    rows = [[curve.series.labels.get(name, "") for name in columns] for curve in found.curves]
    widths = [LETTER * 1.1 * max(map(len, cells)) + 12 for cells in zip(columns, *rows, strict=True)]
    for line, cells in enumerate([columns, *rows]):
        for number, cell in enumerate(cells):
            place = box[0] + 8 + sum(widths[:number]), box[1] + TITLE + 16 + 17 * line
            yield _text(*place, cell, size=10, weight="normal" if line else "bold")


def _column_order(name: str) -> tuple[bool, str]:
    return name != "pod", name


def _graph(found: Shown, box: Box, start: float, end: float) -> Iterator[str]:
    curves = _named(found.curves)
    quiet = len(found.curves) - len(curves)
    names = [curve.name for curve in curves] + ([f"and {quiet} that stay 0"] if quiet else [])
    legend = list(_legend(names, box))
    left, top, width, height = box[0] + 52, box[1] + TITLE + 6, box[2] - 64, box[3] - TITLE - 30
    height -= LEGEND_LINE * (max((line for _, line, _ in legend), default=0) + 1)
    unit = found.panel["fieldConfig"]["defaults"]["unit"]
    peak = max((value for curve in curves for _, value in curve.series.points), default=0.0)
    step = _tick(peak, binary=unit == "bytes")
    ticks = max(1, math.ceil(peak / step))
    for tick in range(ticks + 1):
        level = top + height * (1 - tick / ticks)
        yield f"<path d='M{left} {level:.1f}h{width}' stroke='#e3e5e9'/>"
        yield _text(left - 5, level + 3.5, worded(tick * step, unit), size=9.5, colour="#666", anchor="end")
    yield from _times(left, top + height, width, end - start)

    def place(time: float, value: float) -> str:
        return f"{left + width * (time - start) / (end - start):.1f} {top + height * (1 - value / step / ticks):.1f}"

    for number, curve in enumerate(curves):
        yield _line(curve, COLOURS[number % len(COLOURS)], place)
    for number, (x, line, name) in enumerate(legend):
        y = top + height + 26 + LEGEND_LINE * line
        if number < len(curves):
            yield _rectangle((x, y - 5, 9, 3), COLOURS[number % len(COLOURS)])
        yield _text(x + 13, y, name, size=9.5)


def _line(curve: Curve, colour: str, place: Callable[[float, float], str]) -> str:
    """Broken where there is no value for longer than usual; a lone value is a dot."""
    points = curve.series.points
    steps = sorted(later - earlier for (earlier, _), (later, _) in pairwise(points))
    usual = steps[0] * 1.5 if steps else 0.0
    path, before = "", -math.inf
    for time, value in points:
        path += f"{'L' if time - before <= usual else 'M'}{place(time, value)}"
        if time - before > usual:
            path += "h0"
        before = time
    ends = "stroke-linecap='round' stroke-linejoin='round'"
    return f"<path d='{path}' fill='none' stroke='{colour}' stroke-width='1.6' {ends}/>"


def _named(curves: Sequence[Curve]) -> Sequence[Curve]:
    """All curves, or where their names would take the place of the graph, those that are not 0 all the time."""
    lively = [curve for curve in curves if any(value for _, value in curve.series.points)]
    return curves if len(curves) <= MOST_NAMES or not lively else lively


def _legend(names: Sequence[str], box: Box) -> Iterator[tuple[float, int, str]]:
    """Where each name goes: its left, its line, and itself."""
    x, line = box[0] + 10, 0
    for name in names:
        width = 13 + LETTER * len(name) + 12
        if x > box[0] + 10 and x + width > box[0] + box[2]:
            x, line = box[0] + 10, line + 1
        yield x, line, name
        x += width


def _times(left: float, bottom: float, width: float, seconds: float) -> Iterator[str]:
    step = _tick(seconds)
    for tick in range(int(seconds / step) + 1):
        x = left + width * tick * step / seconds
        yield _text(x, bottom + 13, f"{tick * step:g} s", size=9.5, colour="#666", anchor="middle")


def _tick(peak: float, *, binary: bool = False) -> float:
    """A round distance between lines, so that there are about four below `peak`."""
    if peak <= 0:
        return 1.0
    base = 1024 ** max(0, int(math.log(peak, 1024))) if binary else 1.0
    rough = peak / base / 4
    magnitude = 10 ** math.floor(math.log10(rough))
    return float(
        base * magnitude * next(factor for factor in (1, 2, 2.5, 5, 10) if factor * magnitude >= rough * 0.999)
    )


def worded(value: float, unit: str) -> str:
    """A value as people read it, in one of the dashboard's units."""
    if math.isnan(value):
        return "no data"
    if unit == "percentunit":
        return f"{100 * value:.3g} %"
    if unit == "s":
        return f"{1000 * value:.3g} ms" if 0 < value < 1 else f"{value:.3g} s"
    if unit == "bytes":
        power = min(3, int(math.log(value, 1024))) if value >= 1 else 0
        return f"{value / 1024**power:.3g} {('B', 'KiB', 'MiB', 'GiB')[power]}"
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def _box(panel: dict[str, Any]) -> Box:
    grid = panel["gridPos"]
    left, top, width, height = grid["x"] * COLUMN, grid["y"] * ROW, grid["w"] * COLUMN, grid["h"] * ROW
    return left + GAP / 2, top + GAP / 2, width - GAP, height - GAP


def _rectangle(box: Box, colour: str, corner: int = 0) -> str:
    left, top, width, height = box
    return (
        f"<rect x='{left:.1f}' y='{top:.1f}' width='{width:.1f}' height='{height:.1f}' rx='{corner}' fill='{colour}'/>"
    )


def _text(
    x: float, y: float, words: str, *, size: float, colour: str = "#222", weight: str = "normal", anchor: str = "start"
) -> str:
    style = f"font-size='{size}' fill='{colour}' font-weight='{weight}' text-anchor='{anchor}'"
    return f"<text x='{x:.1f}' y='{y:.1f}' {style}>{escape(words)}</text>"
