"""Blobs as files in a directory, each with its metadata in a JSON file under `.metadata`."""

from __future__ import annotations

import asyncio
import errno
import json
from bisect import bisect_right
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import google_crc32c

from worker.errors import ObjectExists, ObjectMissing, SettingsError, StoreError
from worker.model.causes import StoreCause
from worker.stores.base import BlobInfo
from worker.stores.tree import METADATA, Found, Tree, blob_names, folder_names

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
    from pathlib import Path

T = TypeVar("T")

LIST_PAGE = 500  # objects described per trip to a thread
CAUSES = {
    errno.ENOSPC: StoreCause.FULL,
    errno.EDQUOT: StoreCause.FULL,
    errno.EACCES: StoreCause.PERMISSION,
    errno.EPERM: StoreCause.PERMISSION,
    errno.EROFS: StoreCause.PERMISSION,
    errno.EEXIST: StoreCause.NAME,
    errno.ENAMETOOLONG: StoreCause.NAME,
    errno.ENOTDIR: StoreCause.NAME,
    errno.EISDIR: StoreCause.NAME,
    errno.ELOOP: StoreCause.NAME,
}


class FileStore:
    """A `worker.stores.base.Store` in one directory that several processes of a machine may share.

    A blob is at `root/<name>`, `{"metadata": …, "crc32c": …, "size": …}` at `root/.metadata/<name>.json`. An object
    exists from the moment its blob has its name; by then its metadata is there and both are synced.

    `root/.metadata/.store` holds the directory's random id. Without it the store would go on unnoticed below the mount
    point of a volume that is gone. A directory that has no id gets one before it is written to.

    Args:
        root: the directory; made when it is written to or checked.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._tree = Tree(root)
        self._id = ""

    async def create(self, name: str, data: bytes, metadata: Mapping[str, str]) -> None:
        """See `Store.create`."""
        await self._run(f"storing {name}", lambda: self._create(name, data, metadata), mark=True)

    async def stat(self, name: str) -> BlobInfo | None:
        """See `Store.stat`."""
        return await self._run(f"looking up {name}", lambda: self._describe(name))

    async def list(self, prefix: str, *, after: str = "") -> AsyncIterator[BlobInfo]:
        """See `Store.list`; an object made or deleted meanwhile may be in it or not."""
        names = await self._run(f"listing {prefix}", lambda: blob_names(self._tree.root, prefix))
        for start in range(bisect_right(names, after), len(names), LIST_PAGE):
            page = partial(self._describe_all, names[start : start + LIST_PAGE])
            for info in await self._run(f"listing {prefix}", page):
                yield info

    async def folders(self, prefix: str) -> AsyncIterator[str]:
        """See `Store.folders`; a folder without any object may be in it."""
        doing = f"listing the folders of {prefix}"
        for name in await self._run(doing, lambda: folder_names(self._tree.root, prefix)):
            yield name

    async def read(self, name: str) -> bytes:
        """See `Store.read`."""
        return await self._run(f"reading {name}", lambda: self._read(name))

    async def copy(self, source: str, target: str, metadata: Mapping[str, str] | None = None) -> None:
        """See `Store.copy`."""
        await self._run(f"copying {source} to {target}", lambda: self._copy(source, target, metadata), mark=True)

    async def delete(self, name: str, generation: str | None = None) -> bool:
        """See `Store.delete`; directories that it leaves empty go too."""
        return await self._run(f"deleting {name}", lambda: self._tree.remove(name, generation))

    async def check(self) -> None:
        """See `Store.check`: makes the directory, writes to it, and removes unfinished files of killed processes."""
        try:
            await self._run(f"opening {self._root}", self._tree.prepare, mark=True)
        except StoreError as error:
            if error.cause in (StoreCause.FULL, StoreCause.UNMOUNTED):
                raise
            raise SettingsError(f"STORE_URL: {error}; name a directory that this user can write to") from error

    async def identity(self) -> str:
        """See `Store.identity`; empty if nothing was ever written here."""
        return await self._run(f"opening {self._root}", self._tree.marker)

    async def close(self) -> None:
        """See `Store.close`; there is nothing to release."""

    async def _run(self, doing: str, work: Callable[[], T], *, mark: bool = False) -> T:
        def recognised() -> T:
            if not self._recognised(mark=mark):
                text = f"{doing}: {self._root} is not the directory that it was: is the volume mounted?"
                raise StoreError(text, cause=StoreCause.UNMOUNTED)
            return work()

        with _translated(doing):
            return await asyncio.to_thread(recognised)

    def _recognised(self, *, mark: bool) -> bool:
        """Whether this is the directory that the first request met; `mark` gives it an id if it has none yet."""
        known = self._id  # read before the marker, which another thread may be making
        found = self._tree.marker()
        if known:
            return found == known
        if found or mark:
            self._id = found or self._tree.mark()
        return True

    def _create(self, name: str, data: bytes, metadata: Mapping[str, str]) -> None:
        described = {"metadata": dict(metadata), "crc32c": google_crc32c.value(data), "size": len(data)}
        if not self._tree.add(name, data, json.dumps(described).encode()):
            raise ObjectExists(name)

    def _describe(self, name: str) -> BlobInfo | None:
        found = self._tree.found(name)
        return None if found is None else _info(name, found, self._described(name))

    def _describe_all(self, names: Iterable[str]) -> Iterable[BlobInfo]:
        return tuple(info for name in names if (info := self._describe_anyway(name)) is not None)

    def _describe_anyway(self, name: str) -> BlobInfo | None:
        """As `_describe`, but damaged metadata must not hide objects; reading the blob raises the error."""
        try:
            return self._describe(name)
        except (StoreError, OSError) as error:
            found = self._tree.found(name)
            return None if found is None else replace(_info(name, found, NOTHING_KNOWN), flaw=str(error))

    def _described(self, name: str) -> _Described:
        return _parsed(name, self._tree.read_metadata(name))

    def _read(self, name: str) -> bytes:
        data = self._tree.read(name)
        if data is None:
            raise ObjectMissing(name)
        if self._described(name).crc32c not in (None, google_crc32c.value(data)):
            raise StoreError(f"reading {name}: its bytes do not fit its CRC32C", cause=StoreCause.CORRUPT)
        return data

    def _copy(self, source: str, target: str, metadata: Mapping[str, str] | None) -> None:
        data = self._read(source)
        if metadata is None:
            metadata = self._described(source).metadata
        self._create(target, data, metadata)


class _Described(NamedTuple):
    """The content of a metadata file."""

    metadata: Mapping[str, str]
    crc32c: int | None


NOTHING_KNOWN = _Described({}, None)


def _info(name: str, found: Found, described: _Described) -> BlobInfo:
    return BlobInfo(name, found.size, described.metadata, described.crc32c, found.generation)


def _parsed(name: str, described: bytes | None) -> _Described:
    # Another program put a blob without a metadata file there: it is still readable.
    try:
        fields = json.loads(described or b"{}")
        metadata, crc32c = fields.get("metadata", {}), fields.get("crc32c")
    except (ValueError, AttributeError, RecursionError) as error:
        raise _unknown(name) from error
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise _unknown(name)
    if crc32c is not None and type(crc32c) is not int:
        raise _unknown(name)
    return _Described(metadata, crc32c)


def _unknown(name: str) -> StoreError:
    return StoreError(f"{METADATA}/{name}.json is not what this program writes", cause=StoreCause.CORRUPT)


@contextmanager
def _translated(doing: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        cause = CAUSES.get(error.errno or 0, StoreCause.DISK)
        raise StoreError(f"{doing}: {error.strerror or error}", cause=cause) from error
