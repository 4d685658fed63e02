"""A spool's directory."""

from __future__ import annotations

from tests.support.spool_fixtures import directory

__all__ = ["directory"]
