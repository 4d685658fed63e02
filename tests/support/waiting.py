"""Waits that end: each says what it has waited for, and work beside a test ends with it."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from worker.runtime.tasks import end

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine


@asynccontextmanager
async def within(seconds: float, what: Callable[[], str]) -> AsyncIterator[None]:
    """Fail when the block takes longer, with what it has waited for; `what` is asked then."""
    limit = asyncio.timeout(seconds)
    try:
        async with limit:
            yield
    except TimeoutError:
        if not limit.expired():
            raise
        raise AssertionError(f"not within {seconds:.0f} s: {what()}") from None


@asynccontextmanager
async def beside(*work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Work that goes on for ever, until the block is left; its failure is the block's.

    Being asked once is not enough for work that calls the Redis library: Python 3.11's `asyncio.wait_for`, which sends
    its commands, swallows a cancellation that comes when the command has just gone out. A TaskGroup alone would then
    wait for ever.
    """
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(one) for one in work]
        try:
            yield
        finally:
            await end(tasks)
