"""Telling a person how far work has come."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[int, int], None]
"""Takes how many steps are done, and how many there are, 0 if nobody knows."""


def unseen(done: int, total: int) -> None:
    """Nobody watches the progress."""
