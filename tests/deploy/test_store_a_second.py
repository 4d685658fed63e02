"""The script of `helm test`, run against a real worker."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from tests.deploy.chart import CHART
from tests.support.process import Process, environment

if TYPE_CHECKING:
    from collections.abc import Callable

    from worker.settings import Settings

SCRIPT = (CHART / "files" / "store-a-second.sh").read_text()


async def run_script(settings: Settings, **variables: str) -> tuple[int | None, str]:
    """As the chart's test pod runs it."""
    path = f"{Path(sys.prefix) / 'bin'}{os.pathsep}{os.environ['PATH']}"
    script = await asyncio.create_subprocess_exec(
        "/bin/sh",
        "-euc",
        SCRIPT,
        env={**os.environ, **environment(settings), **variables, "PATH": path},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    printed, _ = await script.communicate()
    return script.returncode, printed.decode()


async def test_a_second_of_audio_is_pushed_stored_found_and_removed(
    settings: Callable[..., Settings], tmp_path: Path
) -> None:
    async with Process(environment(settings()), "run"):
        status, printed = await run_script(settings())

    assert status == 0, printed
    assert printed.endswith("Pushed, stored, found and removed a second of audio.\n")
    left = {path.relative_to(tmp_path / "store").parts[0] for path in (tmp_path / "store").rglob("*") if path.is_file()}
    assert left == {".metadata", "deleted"}


async def test_without_a_worker_it_fails_and_says_where_to_look(settings: Callable[..., Settings]) -> None:
    status, printed = await run_script(settings(), TIMEOUT_SECONDS="1")

    assert status == 1
    assert "Not stored within 1 s. Look at: audio-batch-worker status" in printed
    assert "Once found, remove it: audio-batch-worker rm --uid helm-test --conversation helm-test-" in printed
