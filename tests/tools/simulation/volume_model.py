"""A model of the spool's volume: files in a dictionary, behind an edge where the work on them fails."""

from __future__ import annotations

import errno
from collections.abc import Callable
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import TypeVar, cast

from tests.tools.simulation.faults import Edge
from tests.tools.simulation.node import Node
from worker.assembly import Spooling
from worker.spool.names import WAITING, FileState, SpoolFile, Stem, parse_spool_name
from worker.spool.volume import Volume, VolumeListing

T = TypeVar("T")


class ModelVolume:
    """In the place of a `Volume`; one for all workers. `share` is how much of the next write is done."""

    directory = Path("/simulated")

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._files: dict[str, tuple[bytes, float]] = {}
        self._tokens = count()
        self.share = 1.0

    def waiting(self) -> list[str]:
        """Files whose audio is in the spool and may be nowhere else."""
        return [file.name for file in self.scan().files if file.state in WAITING]

    def prepare(self) -> None:
        """It is there."""

    def scan(self) -> VolumeListing:
        files = [file for name in self._files if (file := parse_spool_name(name)) is not None]
        return VolumeListing(sorted(files, key=lambda file: file.order), [])

    def write(self, stem: Stem, content: bytes) -> None:
        file = SpoolFile(stem, FileState.WRITING, f"{next(self._tokens):x}")
        self._files[file.name] = content[: int(self.share * len(content))], self._now()
        if self.share == 1:
            self.publish(file)

    def publish(self, file: SpoolFile) -> None:
        self._rename(file, FileState.SPOOLED)

    def claim(self, file: SpoolFile) -> SpoolFile | None:
        if file.name not in self._files:
            return None
        self.touch(file)
        return self._rename(file, FileState.UPLOADING)

    def touch(self, file: SpoolFile) -> None:
        if file.name in self._files:
            self._files[file.name] = self._files[file.name][0], self._now()

    def release(self, file: SpoolFile) -> None:
        if file.name in self._files:
            self._rename(file, FileState.SPOOLED)

    def finish(self, file: SpoolFile) -> None:
        if file.name in self._files:
            self.remove(self._rename(file, FileState.DONE))

    def remove(self, file: SpoolFile) -> None:
        self._files.pop(file.name, None)

    def read(self, file: SpoolFile, limit: int = -1) -> bytes:
        if file.name not in self._files:
            raise FileNotFoundError(errno.ENOENT, file.name)
        content = self._files[file.name][0]
        return content if limit < 0 else content[:limit]

    def sync(self) -> None:
        """All is durable."""

    def ages(self, files: list[SpoolFile]) -> dict[SpoolFile, float]:
        return {file: self._now() - self._files[file.name][1] for file in files if file.name in self._files}

    def _rename(self, file: SpoolFile, state: FileState) -> SpoolFile:
        renamed = replace(file, state=state, token="")
        if file.name not in self._files:
            raise FileNotFoundError(errno.ENOENT, file.name)
        self._files[renamed.name] = self._files.pop(file.name)
        return renamed


def move_to_model(spooling: Spooling, volume: ModelVolume, node: Node, edge: Edge) -> None:
    """Let a worker's spool use the model, across an edge, instead of a directory and threads."""

    async def run(work: Callable[[], T]) -> T:
        def act(share: float) -> T:
            volume.share = share
            return work()

        return await edge.cross(node, lambda: f"volume {_name(work)}", act, _error)

    spooling.spool.volume = spooling.drainer._volume = cast("Volume", volume)
    spooling.spool.run = run  # type: ignore[method-assign]


def _name(work: object) -> str:
    return getattr(getattr(work, "func", work), "__qualname__", "?").rpartition(".")[2]


def _error(fate: str) -> Exception:
    return OSError(errno.EIO, f"the volume: {fate}")
