"""A directory of blobs for commands, and a spool's."""

from __future__ import annotations

from tests.support.archive_fixtures import environment, gcs, local_folder, no_waiting_between_tries
from tests.support.spool_fixtures import directory, volume

__all__ = ["directory", "environment", "gcs", "local_folder", "no_waiting_between_tries", "volume"]
