"""The spool's files: written, claimed and removed by atomic steps that hold on NFS too. All methods block.

A file's state is its extension, and a state changes by a rename. Files have no locks: two workers that hold the same
blob only do the same work twice.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from worker.spool.names import FileState, SpoolFile, Stem, parse_spool_name

CLOCK = ".clock"
"""File that all workers touch to learn the volume's time."""


@dataclass(frozen=True, slots=True)
class VolumeListing:
    """The content of a directory: the spool's files, oldest audio first, and the names of other files."""

    files: list[SpoolFile]
    unknown: list[str]

    @property
    def bytes(self) -> int:
        """The size of all the spool's files."""
        return sum(file.stem.size for file in self.files)


class Volume:
    """One directory that any number of workers share.

    Args:
        directory: made by `prepare`.
        now: the time in seconds by which files are dated; by default that of the volume, not of the pod's clock.
    """

    def __init__(self, directory: Path, now: Callable[[], float] | None = None) -> None:
        self.directory = directory
        self._now = now or self._volume_time

    def prepare(self) -> None:
        """Make the directory and prove that it can be written to."""
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._volume_time()

    def scan(self) -> VolumeListing:
        """List the directory."""
        with os.scandir(self.directory) as found:
            names = [entry.name for entry in found]
        files = {name: file for name in names if (file := parse_spool_name(name)) is not None}
        unknown = [name for name in names if name not in files and not name.startswith(".")]
        return VolumeListing(sorted(files.values(), key=lambda file: file.order), unknown)

    def write(self, stem: Stem, content: bytes) -> None:
        """Write a blob; it is durable and spooled on return. A write that fails leaves nothing behind."""
        file = SpoolFile(stem, FileState.WRITING, secrets.token_hex(8))
        path = self._path(file)
        try:
            with open(path, "xb", opener=_private) as opened:
                opened.write(content)
                opened.flush()
                os.fsync(opened.fileno())
            self.publish(file)
        except OSError:
            with suppress(OSError):
                path.unlink(missing_ok=True)
            raise

    def publish(self, file: SpoolFile) -> None:
        """Make a complete file spooled, durably."""
        self._rename(file, FileState.SPOOLED)
        self._sync()

    def claim(self, file: SpoolFile) -> SpoolFile | None:
        """Take a spooled blob to upload it; None if another worker was faster."""
        with suppress(FileNotFoundError):
            os.utime(self._path(file))  # before it is claimed, or others would find a claim as old as the blob
            return self._rename(file, FileState.UPLOADING)
        return None

    def touch(self, file: SpoolFile) -> None:
        """Show that the upload goes on."""
        with suppress(FileNotFoundError):
            os.utime(self._path(file))

    def release(self, file: SpoolFile) -> None:
        """Give a claimed blob back, our own or that of a dead worker."""
        with suppress(FileNotFoundError):
            self._rename(file, FileState.SPOOLED)

    def finish(self, file: SpoolFile) -> None:
        """Remove a claimed blob that is in the store."""
        with suppress(FileNotFoundError):
            done = self._rename(file, FileState.DONE)
            self._sync()
            self.remove(done)

    def remove(self, file: SpoolFile) -> None:
        """Remove a file."""
        self._path(file).unlink(missing_ok=True)

    def read(self, file: SpoolFile, limit: int = -1) -> bytes:
        """A file's content, or its first `limit` bytes. Raises FileNotFoundError."""
        with self._path(file).open("rb") as opened:
            return opened.read(limit)

    def sync(self) -> None:
        """Make the renames of other workers durable."""
        self._sync()

    def ages(self, files: list[SpoolFile]) -> dict[SpoolFile, float]:
        """Seconds since each file was written or touched; those that are gone are left out."""
        if not files:
            return {}
        now = self._now()
        dated = {file: self._touched(file) for file in files}
        return {file: now - touched for file, touched in dated.items() if touched is not None}

    def _rename(self, file: SpoolFile, state: FileState) -> SpoolFile:
        renamed = replace(file, state=state, token="")
        self._path(file).rename(self._path(renamed))
        return renamed

    def _touched(self, file: SpoolFile) -> float | None:
        try:
            descriptor = os.open(self._path(file), os.O_RDONLY)  # NFS asks its server then; a stat may be a minute old
        except FileNotFoundError:
            return None
        try:
            return os.fstat(descriptor).st_mtime
        finally:
            os.close(descriptor)

    def _volume_time(self) -> float:
        descriptor = os.open(self.directory / CLOCK, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            os.utime(descriptor)
            return os.fstat(descriptor).st_mtime
        finally:
            os.close(descriptor)

    def _sync(self) -> None:
        descriptor = os.open(self.directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def _path(self, file: SpoolFile) -> Path:
        return self.directory / file.name


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
