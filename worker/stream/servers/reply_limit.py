"""Limits the size of replies: Redis' reply and its connection are dropped before they fill this process' memory.

Other programs write the streams. A page of a stream may have gigabytes, and its size shows only as it arrives.
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
    """The reply is larger than the caller's limit; the caller may ask for smaller parts."""


class _Allowance:
    """Bytes that may still arrive."""

    def __init__(self, size: int) -> None:
        self._size = self._left = size

    def spend(self, size: int) -> None:
        self._left -= size
        if self._left < 0:
            raise ReplyTooLarge(f"the reply is over {self._size} bytes")


_ALLOWANCE: ContextVar[_Allowance | None] = ContextVar("reply allowance", default=None)


@contextmanager
def at_most(size: int) -> Iterator[None]:
    """Limit the size of all replies in the block, together.

    Raises:
        ReplyTooLarge: the requests raise it; their connection is closed.
    """
    before = _ALLOWANCE.set(_Allowance(size))
    try:
        yield
    finally:
        _ALLOWANCE.reset(before)


class _Metered:
    """A stream reader that counts every byte."""

    def __init__(self, stream: asyncio.StreamReader) -> None:
        self._stream = stream

    async def read(self, size: int) -> bytes:
        data = await self._stream.read(size)
        if (allowance := _ALLOWANCE.get()) is not None:
            allowance.spend(len(data))
        return data

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


_Parser: Any = DefaultParser  # the library chooses it when it is loaded


class BoundedParser(_Parser):  # type: ignore[misc]  # see above
    """The library's own parser, on a metered stream."""

    def on_connect(self, connection: Any) -> None:
        """Begin with a new connection."""
        super().on_connect(connection)
        self._stream: Any = _Metered(self._stream)
