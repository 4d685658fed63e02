"""`make dashboard-picture`: the dashboard of a run in which everything happens, as an SVG for the chart."""

from __future__ import annotations

import asyncio
import sys
import tempfile
from pathlib import Path

from tests.deploy.chart import CHART
from tests.deploy.drawing import page
from tests.deploy.eventful import Recording, eventful
from tests.deploy.panels import DASHBOARD, PANELS, shown

PACE_SECONDS = 6.0


async def picture(recording: Recording) -> str:
    """The whole dashboard of that run."""
    found = [await shown(panel, recording) for panel in PANELS]
    return page(DASHBOARD["panels"], found, recording.start, recording.end)


async def record() -> str:
    """Live through the run and draw it."""
    with tempfile.TemporaryDirectory() as directory:
        async with eventful(Path(directory), pace=PACE_SECONDS) as recording:
            return await picture(recording)


if __name__ == "__main__":
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else CHART / "dashboard.svg"
    target.write_text(asyncio.run(record()))
