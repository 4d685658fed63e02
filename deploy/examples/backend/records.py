"""The backend's database: which blobs there are, and up to where events were read, in one transaction."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Self

TABLES = """
CREATE TABLE IF NOT EXISTS blobs (
    object TEXT PRIMARY KEY, uid TEXT, conversation_id TEXT, start REAL, samples INTEGER, sample_rate INTEGER
);
CREATE TABLE IF NOT EXISTS positions (partition INTEGER PRIMARY KEY, id TEXT);
"""
NEW_BLOB = """
INSERT OR IGNORE INTO blobs VALUES (:object, :uid, :conversation_id, :start, :samples, :sample_rate)
"""
NEW_POSITION = "INSERT OR REPLACE INTO positions VALUES (:partition, :id)"


class Handled(NamedTuple):
    """An event and its position."""

    partition: int
    id: str
    fields: Mapping[str, Any]


class Records:
    """The database in one file."""

    def __init__(self, path: Path) -> None:
        self._database = sqlite3.connect(path)
        self._database.executescript(TABLES)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._database.close()

    def positions(self) -> dict[int, str]:
        """Partition → id of the last event that is recorded."""
        return dict(self._database.execute("SELECT partition, id FROM positions"))

    def record(self, events: Iterable[Handled]) -> None:
        """Add blobs and move positions, all or nothing. A blob that comes again changes nothing."""
        with self._database:
            for event in events:
                self._database.execute(NEW_BLOB, event.fields)
                self._database.execute(NEW_POSITION, {"partition": event.partition, "id": event.id})
