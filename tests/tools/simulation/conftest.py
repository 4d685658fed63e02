"""Simulated workers take their turns as real ones do: time costs nothing here."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def short_turns() -> None:
    """In place of the fixture for tests in real time."""
