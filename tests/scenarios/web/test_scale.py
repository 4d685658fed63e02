"""A day of audio on the page: its time line at once, little memory for four listeners."""

from __future__ import annotations

import asyncio
import json
import os
import sys

import pytest

from tests.support.paths import ROOT


@pytest.mark.slow
async def test_a_day_is_heard_by_four_in_flat_memory() -> None:
    """How soon it is seen and heard is for `python -m tests.support.day_on_the_page` to print: times depend on
    the machine."""
    command = sys.executable, "-m", "tests.support.day_on_the_page"
    environment = os.environ | {"MALLOC_ARENA_MAX": "2"}  # as in the image
    process = await asyncio.create_subprocess_exec(*command, cwd=ROOT, env=environment, stdout=asyncio.subprocess.PIPE)
    output, _ = await process.communicate()
    measured = json.loads(output.splitlines()[-1])

    assert measured["blobs"] == 24 * 60
    assert measured["resident_mb"] < 180  # the program and its own four clients; the page alone has 130
    assert measured["time_line_cpu_s"] < 1
