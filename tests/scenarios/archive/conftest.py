"""Stores with an archive on them, and a spool's directory."""

from __future__ import annotations

from tests.support.archive_fixtures import archive, gcs, no_waiting_between_tries, shelf, store

__all__ = ["archive", "gcs", "no_waiting_between_tries", "shelf", "store"]
