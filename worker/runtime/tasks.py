"""Ends tasks reliably."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Coroutine
from typing import Any

ASK_AGAIN_SECONDS = 0.5


async def end(tasks: Collection[asyncio.Task[Any]]) -> None:
    """Cancel tasks and wait until they have ended.

    Tasks that still run are cancelled again. A library may swallow a cancellation that comes while it gives a
    connection back (redis-py does at times), and a loop around it would then never end.
    """
    while running := [task for task in tasks if not task.done()]:
        for task in running:
            task.cancel()
        await asyncio.wait(running, timeout=ASK_AGAIN_SECONDS)


async def unless_stopped(stop: asyncio.Event, work: Coroutine[Any, Any, None]) -> bool:
    """Do some work, and end it when `stop` is set; returns whether to go on, because `stop` is not set.

    An error of the work is raised, also if `stop` is set at the same time.
    """
    working, stopping = asyncio.ensure_future(work), asyncio.ensure_future(_wait(stop))
    try:
        await asyncio.wait([working, stopping], return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            working.result()
        return not stop.is_set()
    finally:
        await end([working, stopping])


async def _wait(stop: asyncio.Event) -> None:
    await stop.wait()
