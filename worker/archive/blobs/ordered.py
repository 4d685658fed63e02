"""Bounded parallelism that keeps the order: results come in the order of their items."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable, Iterable
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def _weightless(_: object) -> int:
    return 0


async def ordered(
    items: Iterable[T] | AsyncIterable[T],
    work: Callable[[T], Awaitable[R]],
    *,
    limit: int,
    weight: Callable[[T], int] = _weightless,
    budget: int = 0,
) -> AsyncGenerator[R, None]:
    """Results of `work` in the order of the items, of which at most `limit` are under way or wait to be taken.

    The sum of their weights stays within `budget` (0: without limit), except for a single item that is heavier. Close
    the iterator (see `contextlib.aclosing`) to cancel the work under way.
    """
    waiting: deque[tuple[asyncio.Task[R], int]] = deque()
    held = 0
    try:
        async for item in _each(items):
            heaviness = weight(item)
            while waiting and (len(waiting) >= limit or held + heaviness > budget > 0):
                held -= waiting[0][1]
                yield await _first(waiting)
            waiting.append((asyncio.ensure_future(_started(work, item)), heaviness))
            held += heaviness
        while waiting:
            yield await _first(waiting)
    finally:
        await _cancelled([task for task, _ in waiting])


async def _each(items: Iterable[T] | AsyncIterable[T]) -> AsyncGenerator[T, None]:
    if isinstance(items, AsyncIterable):
        async for item in items:
            yield item
    else:
        for item in items:
            yield item


async def _started(work: Callable[[T], Awaitable[R]], item: T) -> R:
    return await work(item)


async def _first(waiting: deque[tuple[asyncio.Task[R], int]]) -> R:
    # It is removed only when it is done, so that a cancellation here still cancels it.
    result = await waiting[0][0]
    waiting.popleft()
    return result


async def _cancelled(tasks: Iterable[asyncio.Task[R]]) -> None:
    pending = list(tasks)
    for task in pending:
        task.cancel()
    await asyncio.gather(*pending, return_exceptions=True)
