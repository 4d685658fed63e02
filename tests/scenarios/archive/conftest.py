"""Stores with an archive on them."""

from __future__ import annotations

from tests.support.archive_fixtures import (
    archive,
    environment,
    folder,
    gcs,
    local_folder,
    no_waiting_between_tries,
    store,
)

__all__ = ["archive", "environment", "folder", "gcs", "local_folder", "no_waiting_between_tries", "store"]
