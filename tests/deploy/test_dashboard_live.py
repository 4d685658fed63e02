"""The dashboard under a real Prometheus that scrapes real workers."""

from __future__ import annotations

from collections.abc import Callable
from html import escape
from pathlib import Path

import pytest

from tests.deploy.drawing import page
from tests.deploy.eventful import eventful
from tests.deploy.panels import DASHBOARD, PANELS, shown

pytestmark = [pytest.mark.helm, pytest.mark.prometheus]


async def test_every_query_of_every_panel_has_data_and_can_be_drawn(
    tmp_path: Path, figures: Callable[[str], None]
) -> None:
    async with eventful(tmp_path) as recording:
        panels = [await shown(panel, recording) for panel in PANELS]

    picture = page(DASHBOARD["panels"], panels, recording.start, recording.end)
    empty = [
        f"{found.panel['title']}: {target['expr']}"
        for found in panels
        for target, curves in zip(found.panel["targets"], found.queries, strict=True)
        if not curves
    ]
    curves = sum(len(found.curves) for found in panels)
    figures(f"{len(panels)} panels show {curves} curves and values of {recording.end - recording.start:.0f} s")
    assert empty == []
    assert all(f">{escape(found.panel['title'])}</text>" in picture for found in panels)
    assert ">no data</text>" not in picture
