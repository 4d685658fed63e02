"""A spool's directory, for commands on it."""

from __future__ import annotations

from tests.support.spool_fixtures import directory, volume

__all__ = ["directory", "volume"]
