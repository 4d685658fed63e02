"""Report what a spool directory holds, to people and to other programs; this changes nothing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from worker.errors import SpoolDamaged
from worker.model.ids import entry_ms
from worker.spool.names import WAITING, FileState, SpoolFile
from worker.spool.record import HEAD, RecordHeader, header_bytes, read_record, read_record_header
from worker.spool.volume import Volume


@dataclass(frozen=True, slots=True)
class Summary:
    """Blobs by state, bytes of all of them, and Redis' time in ms at which the oldest audio that waits was pushed."""

    blobs: dict[str, int] = field(default_factory=dict)
    bytes: int = 0
    oldest_ms: int | None = None

    @property
    def waiting(self) -> int:
        """Blobs that are not in the store yet."""
        return sum(self.blobs.get(state, 0) for state in WAITING)


@dataclass(frozen=True, slots=True)
class SpoolItem:
    """One file; `header` and `damage` are None if the file has none, or was not checked for it."""

    file: SpoolFile
    header: RecordHeader | None = None
    damage: str | None = None


def summary(directory: Path) -> Summary:
    """Count the blobs by their file names alone; an absent directory is empty. Blocks. Raises OSError."""
    if not directory.is_dir():
        return Summary(dict.fromkeys(map(str, FileState), 0))
    listing = Volume(directory).scan()
    blobs = {str(state): sum(file.state is state for file in listing.files) for state in FileState}
    waiting = [entry_ms(file.stem.first) for file in listing.files if file.state in WAITING]
    return Summary(blobs, listing.bytes, min(waiting, default=None))


def summary_if_there(directory: Path | None) -> Summary | None:
    """The same; None without a spool, or if its volume is not available. Blocks."""
    if directory is None:
        return None
    try:
        return summary(directory)
    except OSError:
        return None


def items(directory: Path) -> Iterator[SpoolItem]:
    """Every file with its header, oldest audio first. Blocks. Raises OSError."""
    volume = Volume(directory)
    for file in volume.scan().files:
        try:
            header, _ = read_record_header(_beginning(volume, file))
        except FileNotFoundError:
            continue
        except SpoolDamaged as error:
            yield SpoolItem(file, damage=str(error))
        else:
            yield SpoolItem(file, header)


def verified_items(directory: Path) -> Iterator[SpoolItem]:
    """Every file, read whole and checked. Blocks. Raises OSError."""
    volume = Volume(directory)
    for file in volume.scan().files:
        try:
            record = read_record(volume.read(file), file.stem)
        except FileNotFoundError:
            continue
        except SpoolDamaged as error:
            yield SpoolItem(file, damage=str(error))
        else:
            yield SpoolItem(file, record.header)


def _beginning(volume: Volume, file: SpoolFile) -> bytes:
    return volume.read(file, header_bytes(volume.read(file, HEAD.size)))
