"""Ends background tasks reliably."""

from __future__ import annotations

import asyncio
from collections.abc import Collection

ASK_AGAIN_SECONDS = 0.5


async def end(tasks: Collection[asyncio.Task[None]]) -> None:
    """Cancel tasks and wait until they have ended.

    Tasks that still run are cancelled again. A library may swallow a cancellation that comes while it gives a
    connection back (redis-py does at times), and a loop around it would then never end.
    """
    while running := [task for task in tasks if not task.done()]:
        for task in running:
            task.cancel()
        await asyncio.wait(running, timeout=ASK_AGAIN_SECONDS)
