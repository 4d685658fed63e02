"""Stores with an archive on them, whose requests are repeated at once."""

from __future__ import annotations

import pytest

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


@pytest.fixture(autouse=True)
def never_waiting(no_waiting_between_tries: None) -> None:
    """For all tests of the archive."""
