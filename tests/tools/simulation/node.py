"""One worker as the outside sees it: it runs, is paused, or is dead for ever."""

from __future__ import annotations

import asyncio
from contextvars import ContextVar
from typing import Any

current: ContextVar[Node | None] = ContextVar("current", default=None)
"""The worker whose task is running."""


class Node:
    """Holds all tasks of one worker. A dead or paused one reaches nothing outside, and so has no effect."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.stop = asyncio.Event()
        self.alive = True
        self.tasks: set[asyncio.Task[Any]] = set()
        self._running = asyncio.Event()
        self._running.set()
        self._paused_until = 0.0
        self.interruptions = 0

    @property
    def paused(self) -> bool:
        return not self._running.is_set()

    def adopt(self, task: asyncio.Task[Any]) -> None:
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    def crash(self) -> None:
        """As SIGKILL, in the middle of something."""
        self.interruptions += 1
        self.kill()

    def kill(self) -> None:
        """No task of it reaches anything again. Cancelling is only to get rid of them."""
        self.alive = False
        self._running.set()
        for task in list(self.tasks):
            task.cancel()

    def pause(self, seconds: float) -> None:
        """As SIGSTOP, and SIGCONT `seconds` later."""
        self.interruptions += 1
        loop = asyncio.get_running_loop()
        self._running.clear()
        self._paused_until = max(self._paused_until, loop.time() + seconds)
        loop.call_later(seconds, self._resume)

    async def awake(self) -> None:
        """Go on when the worker runs."""
        await self._running.wait()
        if not self.alive:
            raise asyncio.CancelledError

    def _resume(self) -> None:
        if asyncio.get_running_loop().time() >= self._paused_until - 1e-6:
            self._running.set()
