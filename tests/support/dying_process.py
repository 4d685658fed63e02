"""Workers in processes of their own, to be killed."""

from __future__ import annotations

import asyncio
import os
import sys
from asyncio.subprocess import DEVNULL, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tests.support.paths import ROOT
from tests.support.process import environment
from worker.settings import Settings


@asynccontextmanager
async def dying_process(settings: Settings, *failure: str, drain: bool = False) -> AsyncIterator[Process]:
    """A worker that is killed when the block is left, if it has not died before; for `failure` see the program."""
    worker = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.support.dying_process_main", *failure),
        cwd=ROOT,
        env=_environment(settings, drain=drain),
        stderr=DEVNULL if "write" in failure else None,  # pytest's file for it could not grow either
    )
    try:
        yield worker
    finally:
        if worker.returncode is None:
            worker.kill()
        await worker.wait()


def _environment(settings: Settings, *, drain: bool) -> dict[str, str]:
    variables = {"PATH": os.environ["PATH"], **environment(settings)}
    variables["PYTHONDONTWRITEBYTECODE"] = (
        "1"  # a compiled module that a dying process left half-written would outlive it
    )
    return variables | ({"DRAIN": "1"} if drain else {})
