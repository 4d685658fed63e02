"""Fixtures of stored conversations, for commands."""

from __future__ import annotations

from tests.support.archive_fixtures import local_folder

__all__ = ["local_folder"]
