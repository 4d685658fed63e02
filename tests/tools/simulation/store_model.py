"""A model of the store: immutable objects in a dictionary, behind an edge where requests fail."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field

import google_crc32c

from tests.tools.simulation.faults import Edge
from tests.tools.simulation.node import Node
from worker.errors import ObjectExists, ObjectMissing, StoreError
from worker.model.causes import StoreCause
from worker.stores.base import BlobInfo


@dataclass(slots=True)
class Bucket:
    """What is stored; `overwritten` names objects that were replaced.

    `foreign` are objects that no worker has made: name → generation.
    """

    objects: dict[str, tuple[bytes, BlobInfo]] = field(default_factory=dict)
    overwritten: list[str] = field(default_factory=list)
    create_only: bool = True
    created: int = 0
    foreign: dict[str, str] = field(default_factory=dict)

    def create(self, name: str, data: bytes, metadata: Mapping[str, str]) -> bool:
        if name in self.objects:
            if self.create_only:
                return False
            self.overwritten.append(name)
        self._put(name, data, metadata)
        return True

    def put_foreign(self, name: str, data: bytes, metadata: Mapping[str, str]) -> None:
        """Somebody else makes an object, if the name is free."""
        if name not in self.objects:
            self.foreign[name] = self._put(name, data, metadata)

    def is_foreign(self, info: BlobInfo) -> bool:
        """Whether somebody else has made it."""
        return self.foreign.get(info.name) == info.generation

    def _put(self, name: str, data: bytes, metadata: Mapping[str, str]) -> str:
        self.created += 1
        crc32c, generation = google_crc32c.value(data), str(self.created)
        self.objects[name] = (data, BlobInfo(name, len(data), dict(metadata), crc32c, generation))
        return generation

    def delete(self, name: str, generation: str | None) -> bool:
        found = self.stat(name)
        if found is None or generation not in (None, found.generation):
            return False
        del self.objects[name]
        return True

    def stat(self, name: str) -> BlobInfo | None:
        found = self.objects.get(name)
        return found and found[1]

    def list(self, prefix: str) -> list[BlobInfo]:
        return sorted((info for name, (_, info) in self.objects.items() if name.startswith(prefix)), key=_name)


class ModelStore:
    """One worker's `Store`."""

    def __init__(self, node: Node, bucket: Bucket, edge: Edge) -> None:
        self._node = node
        self._bucket = bucket
        self._edge = edge

    async def create(self, name: str, data: bytes, metadata: Mapping[str, str]) -> None:
        done = await self._edge.cross(
            self._node,
            lambda: f"create {name}",
            lambda share: share == 1 and self._bucket.create(name, data, metadata),
            _error,
        )
        if not done:
            raise ObjectExists(name)

    async def stat(self, name: str) -> BlobInfo | None:
        return await self._edge.cross(self._node, lambda: f"stat {name}", lambda _: self._bucket.stat(name), _error)

    async def list(self, prefix: str, *, after: str = "") -> AsyncIterator[BlobInfo]:
        for info in await self._edge.cross(
            self._node, lambda: f"list {prefix}", lambda _: self._bucket.list(prefix), _error
        ):
            if info.name > after:
                yield info

    async def folders(self, prefix: str) -> AsyncIterator[str]:
        async for info in self.list(prefix):
            yield info.name  # no worker asks for them

    async def delete(self, name: str, generation: str | None = None) -> bool:
        return await self._edge.cross(
            self._node, lambda: f"delete {name}", lambda _: self._bucket.delete(name, generation), _error
        )

    async def read(self, name: str) -> bytes:
        found = await self._edge.cross(
            self._node, lambda: f"read {name}", lambda _: self._bucket.objects.get(name), _error
        )
        if found is None:
            raise ObjectMissing(name)
        return found[0]

    async def copy(self, source: str, target: str, metadata: Mapping[str, str] | None = None) -> None:
        raise NotImplementedError(source, target, metadata)

    async def check(self) -> None:
        """It exists."""

    async def identity(self) -> str:
        return ""

    async def close(self) -> None:
        """Nothing is open."""


def _error(fate: str) -> Exception:
    return StoreError(f"the store: {fate}", cause=StoreCause.NETWORK)


def _name(info: BlobInfo) -> str:
    return info.name
