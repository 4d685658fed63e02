"""Keeps decoded blobs for listeners: a bounded number of bytes, and each blob is decoded once at a time."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable, Iterator
from contextlib import contextmanager

from codec.arguments import check_types


class AudioCache:
    """The PCM of blobs that were heard last, `most_bytes` at most; several conversations may share it.

    Raises:
        WrongType: `most_bytes` is not a whole number.
    """

    def __init__(self, most_bytes: int) -> None:
        check_types(int, most_bytes=most_bytes)
        self._most_bytes = most_bytes
        self._kept: OrderedDict[Hashable, bytes] = OrderedDict()
        self._made: dict[Hashable, asyncio.Task[bytes]] = {}
        self._listeners = 0
        self._calm = asyncio.Event()
        self._calm.set()
        self.held_bytes = 0

    async def get(self, key: Hashable, make: Callable[[], Awaitable[bytes]], *, keep: bool = True) -> bytes:
        """The PCM under a key, made if it is not there; those who ask meanwhile get the same. Failures are not kept.

        Without `keep`, what is made here is not put into the cache, and it is begun only when no listener waits.
        """
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key]
        if key not in self._made:
            self._made[key] = asyncio.ensure_future(self._making(key, make, keep=keep))
        return await asyncio.shield(self._made[key])  # another listener may wait for it too

    async def _making(self, key: Hashable, make: Callable[[], Awaitable[bytes]], *, keep: bool) -> bytes:
        try:
            if not keep:
                await self._calm.wait()
                return await make()
            with self._waiting():
                pcm = await make()
        finally:
            del self._made[key]
        self._keep(key, pcm)
        return pcm

    @contextmanager
    def _waiting(self) -> Iterator[None]:
        """A listener waits for what the block makes."""
        self._listeners += 1
        self._calm.clear()
        try:
            yield
        finally:
            self._listeners -= 1
            if not self._listeners:
                self._calm.set()

    def _keep(self, key: Hashable, pcm: bytes) -> None:
        self._kept[key] = pcm
        self.held_bytes += len(pcm)
        while self.held_bytes > self._most_bytes:
            _, oldest = self._kept.popitem(last=False)
            self.held_bytes -= len(oldest)
