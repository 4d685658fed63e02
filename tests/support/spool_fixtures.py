"""Fixtures with a spool's directory; a folder's conftest.py imports those that its tests need."""

from __future__ import annotations

from pathlib import Path

import pytest

from worker.spool.volume import Volume


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Where the spool is; it exists."""
    path = tmp_path / "spool"
    path.mkdir()
    return path


@pytest.fixture
def volume(directory: Path) -> Volume:
    return Volume(directory)
