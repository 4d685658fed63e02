"""The interface of all stores."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping


@dataclass(frozen=True, slots=True)
class BlobInfo:
    """What a store knows of an object without reading it; `size` in bytes, `crc32c` of the stored bytes.

    `generation` changes whenever another object gets the name. `flaw` says why its metadata can't be read, and is empty
    if it can.
    """

    name: str
    size: int
    metadata: Mapping[str, str] = field(default_factory=dict)
    crc32c: int | None = None
    generation: str = ""
    flaw: str = ""


@runtime_checkable
class Store(Protocol):
    """A flat namespace of immutable objects. Repeating any call is safe.

    Names are relative to the optional prefix of STORE_URL. Every method raises `StoreError` when the store is
    unreachable or refuses. After a failed `create` the object may or may not exist; repeating the call tells.
    """

    async def create(self, name: str, data: bytes, metadata: Mapping[str, str]) -> None:
        """Store `data` under a new name; durable and verified (CRC32C) on return. Raises `ObjectExists`."""

    async def stat(self, name: str) -> BlobInfo | None:
        """Describe one object; None if there is none."""

    def list(self, prefix: str, *, after: str = "") -> AsyncIterator[BlobInfo]:
        """All objects whose name starts with `prefix` and comes after `after`, in name order, metadata included."""

    def folders(self, prefix: str) -> AsyncIterator[str]:
        """All folders directly below `prefix`, each with `prefix` before it and a slash after it, in name order.

        Nothing that is in them is listed. `prefix` is empty or ends with a slash.
        """

    async def read(self, name: str) -> bytes:
        """The whole object, its CRC32C checked. Raises `ObjectMissing`."""

    async def copy(self, source: str, target: str, metadata: Mapping[str, str] | None = None) -> None:
        """Copy inside the store, metadata kept or replaced; create-only. Raises `ObjectExists`, `ObjectMissing`."""

    async def delete(self, name: str, generation: str | None = None) -> bool:
        """Delete one object, or only this generation of it; False if there was none."""

    async def check(self) -> None:
        """Prove that the store exists and gives access. Raises `SettingsError` naming STORE_URL, or `StoreError`."""

    async def identity(self) -> str:
        """An id that tells this store from a later one under the same STORE_URL; empty if the store has no id."""

    async def close(self) -> None:
        """Release connections; idempotent."""
