"""Requests to the store that a person or a backend waits for: repeated a few times, then given up."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from typing import TypeVar

from worker.errors import StoreError
from worker.model.causes import StoreCause
from worker.runtime.timing import Backoff
from worker.stores.base import BlobInfo, Store

T = TypeVar("T")

ATTEMPTS = 5
BACKOFF = Backoff(0.1, 5.0, jitter=1.0)
"""A person waits for the answer."""

PASSING = frozenset(
    {
        StoreCause.NETWORK,
        StoreCause.TIMEOUT,
        StoreCause.SERVER,
        StoreCause.THROTTLED,
        StoreCause.UNEXPECTED,
        StoreCause.CORRUPT,  # bytes also get damaged on their way
    }
)
"""Causes that may be gone at the next try."""


async def retry(request: Callable[[], Awaitable[T]]) -> T:
    """The answer to a request, tried again while the store is only out of order.

    Raises:
        StoreError: it refuses, or is still out of order after the last try.
    """
    async for attempt in BACKOFF.attempts(_passing, most=ATTEMPTS):
        with attempt:
            return await request()
    raise AssertionError("unreachable: the last attempt raises")


PAGE = 1000
"""Objects that are listed between two answers, as many as Cloud Storage gives at once."""


async def pages(store: Store, prefix: str) -> AsyncGenerator[list[BlobInfo], None]:
    """All objects whose name starts with `prefix`, in name order; a listing that breaks off goes on where it was.

    Raises:
        StoreError: as `retry`.
    """
    infos, after = store.list(prefix), ""

    async def following() -> list[BlobInfo]:
        nonlocal infos
        try:
            return await _taken(infos, PAGE)
        except StoreError:
            infos = store.list(prefix, after=after)
            raise

    while page := await retry(following):
        after = page[-1].name
        yield page


async def _taken(infos: AsyncIterator[BlobInfo], count: int) -> list[BlobInfo]:
    taken: list[BlobInfo] = []
    async for info in infos:
        taken.append(info)
        if len(taken) == count:
            break
    return taken


def _passing(error: Exception) -> bool | float:
    if not isinstance(error, StoreError) or error.cause not in PASSING:
        return False
    return error.retry_after if error.retry_after is not None else True
