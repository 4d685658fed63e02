"""A clock for what takes one as an argument."""

from __future__ import annotations


class Clock:
    """Seconds that pass when a test sets `now`."""

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now
