"""The file system's side of the file store: create-only, atomic and synced writes of a blob with its metadata.

The order of the steps makes a kill or a power cut harmless: contents are synced under a temporary name first; the
metadata gets its name before the blob; the blob's name, a hard link, is the commit. Metadata without a blob is ignored.
"""

from __future__ import annotations

import fcntl
import os
import stat
import uuid
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, NamedTuple

from worker.errors import StoreError
from worker.model.causes import StoreCause
from worker.stores.tree_paths import JOINT, name_of, path_of

if TYPE_CHECKING:
    from collections.abc import Iterator

METADATA = ".metadata"
TEMPORARY = f"{METADATA}/.tmp"
LOCK = f"{METADATA}/.lock"
MARKER = f"{METADATA}/.store"
RESERVED = (METADATA, ".tmp", ".lock", ".store")  # as the first part of a name these would collide with the files above
LARGEST_METADATA = 1024 * 1024  # bytes of a metadata file: 8 KiB of custom metadata are the most that a bucket takes
TEMPORARY_MAX_AGE = 3600.0  # seconds; the file of a write in progress is far younger


class Found(NamedTuple):
    """A blob's size in bytes, and a generation that no later blob of its name has."""

    size: int
    generation: str


class Tree:
    """Files under one directory, by object name; methods block.

    They raise `OSError`, and `StoreError` for names that a file can't have or that would leave the directory.
    """

    def __init__(self, root: Path) -> None:
        self._given = root

    @property
    def root(self) -> Path:
        """The directory, without symbolic links."""
        return self._given.resolve()

    def marker(self) -> str:
        """The random id that `mark` has given this directory; empty if it has none."""
        return (_read(self.root / MARKER) or b"").decode(errors="replace").strip()

    def mark(self) -> str:
        """The directory's id, which it gets now if it has none; another directory at the same path has another id."""
        with self._written(uuid.uuid4().hex.encode()) as new, self._locked():
            if not self.marker():
                self._place(new, self.root / MARKER)
        return self.marker()

    def add(self, name: str, data: bytes, described: bytes) -> bool:
        """Store a blob and its metadata; False if the name is taken. Either way the named blob is durable on return."""
        blob, metadata = self._paths(name)
        with self._written(data) as new_blob, self._written(described) as new_metadata, self._locked():
            taken = _is_blob(blob)
            if not taken:
                self._place(new_metadata, metadata)
                _make(blob.parent)
                os.link(new_blob, blob)
            # A taken name may also come from a process that died before this step.
            self._sync_directories(blob)
        return not taken

    def read(self, name: str) -> bytes | None:
        """The blob's bytes; None if there is no such blob."""
        return _read(self._paths(name)[0])

    def read_metadata(self, name: str) -> bytes | None:
        """The metadata's bytes; None if there are none.

        A file that is too large is not read: it is `StoreError`, cause "corrupt".
        """
        path = self._paths(name)[1]
        status = _status(path)
        if status is not None and status.st_size > LARGEST_METADATA:
            text = f"{METADATA}/{name}.json has {status.st_size} bytes, more than any metadata"
            raise StoreError(text, cause=StoreCause.CORRUPT)
        return _read(path)

    def found(self, name: str) -> Found | None:
        """What the file system says of a blob; None if there is no such blob."""
        return _found(self._paths(name)[0])

    def remove(self, name: str, generation: str | None = None) -> bool:
        """Remove a blob, its metadata, and the directories this leaves empty; False if there was no such blob.

        With a `generation` only this generation of the blob is removed.
        """
        blob, metadata = self._paths(name)
        with self._locked():
            if generation is not None and ((there := _found(blob)) is None or there.generation != generation):
                return False
            found = _unlink(blob)
            if found:
                _sync(blob.parent)
            _unlink(metadata)
            self._prune(blob.parent, self.root)
            self._prune(metadata.parent, self.root / METADATA)
        return found

    def prepare(self) -> None:
        """Make the directory, prove that it can be written to, and remove unfinished files of killed processes."""
        with self._written(b"") as just_now, self._locked():
            now = just_now.stat().st_mtime  # on the volume's clock, which also dates the other files
            for path in (self.root / TEMPORARY).iterdir():
                with suppress(FileNotFoundError):
                    if now - path.stat().st_mtime > TEMPORARY_MAX_AGE:
                        path.unlink()

    def _paths(self, name: str) -> tuple[Path, Path]:
        parts = name.split("/")
        wrong = any(part in ("", ".", "..") for part in parts) or parts[0] in RESERVED or JOINT in name
        if wrong or not _encodable(name):
            raise StoreError(f"{name!r} cannot be a file's name", cause=StoreCause.NAME)
        root = self.root
        paths = root / path_of(name), root / METADATA / path_of(f"{name}.json")
        if any(path.parent.resolve() != path.parent for path in paths):
            raise StoreError(f"{name!r} leads through a symbolic link", cause=StoreCause.NAME)
        return paths

    @contextmanager
    def _written(self, content: bytes) -> Iterator[Path]:
        directory = self.root / TEMPORARY
        _make(directory)
        path = directory / uuid.uuid4().hex
        try:
            with path.open("xb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            yield path
        finally:
            path.unlink(missing_ok=True)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        # Keeps two writers of one name from mixing their metadata, and `remove` from pruning a directory just made.
        # The kernel releases the lock when its process dies.
        lock = self.root / LOCK
        _make(lock.parent)  # missing where only other programs have put blobs
        with lock.open("ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def _place(self, new: Path, path: Path) -> None:
        _make(path.parent)
        new.replace(path)
        self._sync_directories(path)

    def _sync_directories(self, path: Path) -> None:
        root = self.root
        for directory in path.parents:
            _sync(directory)
            if directory == root:
                return

    def _prune(self, directory: Path, top: Path) -> None:
        with suppress(OSError):  # not empty, or not there
            while directory != top:
                directory.rmdir()
                directory = directory.parent


def blob_names(root: Path, prefix: str) -> list[str]:
    """Names of all blobs that start with `prefix`, in the order of their UTF-8 bytes, as Cloud Storage lists them."""
    # Walk the smallest directory that can hold them.
    above = PurePosixPath(path_of(prefix.rpartition("/")[0]))
    if above.is_absolute() or ".." in above.parts or above.parts[:1] in [(name,) for name in RESERVED]:
        return []
    names = []
    for directory, inner, files in os.walk(root / above, onerror=_unless_gone):
        if Path(directory) == root:
            inner[:] = [name for name in inner if name not in RESERVED]
        inside = Path(directory).relative_to(root)
        names += [name_of(str(inside / name)) for name in files]
    # Python compares code points, whose order is that of their UTF-8 bytes.
    return sorted(name for name in names if name.startswith(prefix))


def folder_names(root: Path, prefix: str) -> list[str]:
    """Names of all directories that `prefix` holds, with `prefix` and a slash, in the order of their UTF-8 bytes."""
    top = root / path_of(prefix)
    return sorted(f"{prefix}{name}/" for name in _part_names(top, ""))


def _part_names(directory: Path, piece: str) -> Iterator[str]:
    """The names of one part of objects' names; a long part is several directories, see `paths`."""
    try:
        inner = sorted(entry.name for entry in os.scandir(directory) if entry.is_dir(follow_symlinks=False))
    except (FileNotFoundError, NotADirectoryError):
        return
    for name in inner:
        if name.endswith("\\"):
            yield from _part_names(directory / name, piece + name.strip("\\"))
        elif name.startswith("\\") == bool(piece) and name not in RESERVED:
            yield piece + name.strip("\\")


def _encodable(name: str) -> bool:
    try:
        return b"\0" not in os.fsencode(name)  # files of other programs may have names that are not UTF-8
    except UnicodeEncodeError:
        return False


def _unless_gone(error: OSError) -> None:
    if not isinstance(error, (FileNotFoundError, NotADirectoryError)):
        raise error


def _make(directory: Path) -> None:
    if not directory.is_dir():
        _make(directory.parent)
        directory.mkdir(exist_ok=True)
        _sync(directory.parent)


def _status(path: Path) -> os.stat_result | None:
    try:
        return path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return None


def _found(path: Path) -> Found | None:
    status = _status(path)
    if status is None or not stat.S_ISREG(status.st_mode):
        return None
    return Found(status.st_size, f"{status.st_ino}-{status.st_mtime_ns}")


def _is_blob(path: Path) -> bool:
    """Whether a blob has the name. Raises `StoreError` if something else has it, because no write can succeed then."""
    found = _status(path)
    if found is not None and not stat.S_ISREG(found.st_mode):
        raise StoreError(f"{path} is not a file but has a blob's name: move it away", cause=StoreCause.NAME)
    return found is not None


def _read(path: Path) -> bytes | None:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    except (FileNotFoundError, NotADirectoryError):
        return None
    with os.fdopen(descriptor, "rb") as file:
        return file.read()


def _unlink(path: Path) -> bool:
    try:
        path.unlink()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
