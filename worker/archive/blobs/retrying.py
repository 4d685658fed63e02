"""Retries requests to the store that a person or a backend waits for: a few times, then they fail."""

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
"""Short delays, because a person waits for the answer."""

PASSING = frozenset(
    {
        StoreCause.NETWORK,
        StoreCause.TIMEOUT,
        StoreCause.SERVER,
        StoreCause.THROTTLED,
        StoreCause.UNEXPECTED,
        StoreCause.CORRUPT,  # the transfer may also damage bytes
    }
)
"""Causes that may have passed at the next attempt."""


OF_ONE_OBJECT = frozenset(
    {
        StoreCause.PERMISSION,  # an IAM condition may concern some names only
        StoreCause.HELD,
        StoreCause.REQUEST,
        StoreCause.CORRUPT,
        StoreCause.UNEXPECTED,
        StoreCause.INCONSISTENT,
        StoreCause.NAME,
        StoreCause.DISK,
        StoreCause.EXISTS,
        StoreCause.MISSING,
    }
)
"""Causes that may concern one object, while the store answers for all others; the other causes concern the store."""


async def retry(request: Callable[[], Awaitable[T]]) -> T:
    """The answer to a request, which is retried while the cause of its failure may pass.

    Raises:
        StoreError: the store refuses it, or the last attempt failed too.
    """
    async for attempt in BACKOFF.attempts(_passing, most=ATTEMPTS):
        with attempt:
            return await request()
    raise AssertionError("unreachable: the last attempt raises")


PAGE = 1000
"""Objects per page, as many as Cloud Storage gives at once."""


async def pages(store: Store, prefix: str) -> AsyncGenerator[list[BlobInfo], None]:
    """All objects whose name starts with `prefix`, in name order; an interrupted listing resumes where it was.

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


async def folder_pages(store: Store, prefix: str) -> AsyncGenerator[list[str], None]:
    """The folders directly below `prefix`; an interrupted listing begins anew. Raises as `retry`."""
    folders, given = store.folders(prefix), 0

    async def following() -> list[str]:
        nonlocal folders
        try:
            return await _taken(folders, PAGE)
        except StoreError:
            folders = _without_first(store.folders(prefix), given)
            raise

    while page := await retry(following):
        given += len(page)
        yield page


async def _without_first(folders: AsyncIterator[str], count: int) -> AsyncIterator[str]:
    async for folder in folders:
        count -= 1
        if count < 0:
            yield folder


async def _taken(items: AsyncIterator[T], count: int) -> list[T]:
    taken: list[T] = []
    async for item in items:
        taken.append(item)
        if len(taken) == count:
            break
    return taken


def _passing(error: Exception) -> bool | float:
    if not isinstance(error, StoreError) or error.cause not in PASSING:
        return False
    return error.retry_after if error.retry_after is not None else True
