"""Reports to a person how far work has come."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[int, int], None]
"""Takes the number of steps that are done, and their total number, 0 if it is unknown."""


def unseen(done: int, total: int) -> None:
    """Report nothing."""
