"""Requests to the store that a person or a backend waits for: repeated a few times, then given up."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

import stamina

from worker.errors import StoreError

T = TypeVar("T")

ATTEMPTS = 5
LONGEST_WAIT = 5.0
"""Seconds between two tries at most."""

PASSING = frozenset({"network", "timeout", "server", "throttled", "unexpected", "corrupt"})
"""Causes that may be gone at the next try; `corrupt` because bytes also get damaged on their way."""


async def patiently(request: Callable[[], Awaitable[T]]) -> T:
    """The answer to a request, tried again while the store is only out of order.

    Raises:
        StoreError: it refuses, or is still out of order after the last try.
    """
    async for attempt in stamina.retry_context(_passing, attempts=ATTEMPTS, timeout=None, wait_max=LONGEST_WAIT):
        with attempt:
            return await request()
    raise AssertionError("unreachable: the last attempt raises")


def _passing(error: Exception) -> bool | float:
    if not isinstance(error, StoreError) or error.cause not in PASSING:
        return False
    return error.retry_after if error.retry_after is not None else True
