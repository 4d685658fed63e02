"""An event loop in virtual time: it jumps to the next timer instead of waiting, and its order never varies."""

from __future__ import annotations

import asyncio
import contextvars
import itertools
import selectors
from collections.abc import Callable, Coroutine, Generator
from typing import Any, TypeVar, TypeVarTuple, Unpack

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


HOT_TURNS = 20_000
"""Turns of the loop without any time passing, after which it will never pass."""


class Deadlock(Exception):
    """Nothing is left that could ever happen, and the run is not over."""


class HotLoop(Exception):
    """Something repeats itself without ever waiting."""


class NumberedTask(asyncio.Task[T]):
    """A task whose place in a set does not depend on its address, so that sets of tasks have the same order again."""

    def __init__(
        self,
        number: int,
        coro: Coroutine[Any, Any, T],
        loop: asyncio.AbstractEventLoop,
        context: contextvars.Context | None,
        **options: Any,  # noqa: ANN401
    ) -> None:
        self._number = number
        super().__init__(coro, loop=loop, context=context, **options)

    def __hash__(self) -> int:
        return self._number


class _VirtualSelector(selectors.SelectSelector):
    """Passes the time that the loop would have waited, at once."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0
        self._turns = 0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise Deadlock("nothing can happen any more")
        self._turns = 0 if timeout > 0 else self._turns + 1
        if self._turns > HOT_TURNS:
            raise HotLoop("something repeats itself without ever waiting")
        self.now += max(timeout, 0.0)
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """Use it as any event loop; no threads, sockets or signals.

    `on_task` is told about every new task and its context.
    """

    def __init__(self) -> None:
        self._virtual = _VirtualSelector()
        self._numbers = itertools.count(1)
        self.on_task: Callable[[asyncio.Task[Any], contextvars.Context], None] = lambda *_: None
        super().__init__(self._virtual)
        self.set_task_factory(self._new_task)

    def time(self) -> float:
        return self._virtual.now

    def call_soon_threadsafe(
        self,
        callback: Callable[[Unpack[Ts]], object],
        *args: *Ts,
        context: contextvars.Context | None = None,
    ) -> asyncio.Handle:
        return self.call_soon(callback, *args, context=context)

    def _new_task(
        self,
        _: asyncio.AbstractEventLoop,
        coro: Coroutine[Any, Any, T] | Generator[Any, None, T],
        context: contextvars.Context | None = None,
        **options: Any,  # noqa: ANN401 -- of newer Pythons: name, eager_start
    ) -> NumberedTask[T]:
        assert not isinstance(coro, Generator)
        task = NumberedTask(next(self._numbers), coro, self, context, **options)
        self.on_task(task, context or contextvars.copy_context())
        return task
