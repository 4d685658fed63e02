"""Replies of Redis that are given up, with their connection, before they fill this process' memory.

What lies in a stream was written by others: a page of it may be gigabytes, and its size shows only as it comes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from redis.asyncio.connection import DefaultParser
from redis.exceptions import ConnectionError as BrokenConnection


class ReplyTooLarge(BrokenConnection):
    """What was asked for is larger than whoever asked can hold; it may be asked for in smaller parts."""


class _Allowance:
    """Bytes that may still come."""

    def __init__(self, size: int) -> None:
        self._size = self._left = size

    def spend(self, size: int) -> None:
        self._left -= size
        if self._left < 0:
            raise ReplyTooLarge(f"the reply is over {self._size} bytes")


_ALLOWANCE: ContextVar[_Allowance | None] = ContextVar("reply allowance", default=None)


@contextmanager
def at_most(size: int) -> Iterator[None]:
    """Bound the replies of all requests in the block, together.

    Raises:
        ReplyTooLarge: by the requests; their connection is closed.
    """
    before = _ALLOWANCE.set(_Allowance(size))
    try:
        yield
    finally:
        _ALLOWANCE.reset(before)


class _Metered:
    """A stream of which every byte is counted."""

    def __init__(self, stream: asyncio.StreamReader) -> None:
        self._stream = stream

    async def read(self, size: int) -> bytes:
        data = await self._stream.read(size)
        if (allowance := _ALLOWANCE.get()) is not None:
            allowance.spend(len(data))
        return data

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


_Parser: Any = DefaultParser  # a choice that the library makes when it is loaded


class BoundedParser(_Parser):  # type: ignore[misc]  # see above
    """The library's own, on a stream that is metered."""

    def on_connect(self, connection: Any) -> None:
        """Begin with a new connection."""
        super().on_connect(connection)
        self._stream: Any = _Metered(self._stream)
