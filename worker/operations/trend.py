"""How fast Redis' memory grows, from measurements of its use: a straight line through the last minutes."""

from __future__ import annotations

from collections import deque
from statistics import linear_regression

WINDOW = 300.0
"""Seconds that the line covers: memory rises and falls with every minute of audio that is stored."""

LEAST = 60.0
"""Seconds of measurements without which nothing can be told."""


class MemoryTrend:
    """The bytes that Redis has used over the last minutes, and by how much they grow."""

    def __init__(self) -> None:
        self._samples: deque[tuple[float, int]] = deque()

    def add(self, now: float, used: int) -> None:
        """Note the bytes used at monotonic time `now`."""
        self._samples.append((now, used))
        while now - self._samples[0][0] > WINDOW:
            self._samples.popleft()

    def restart(self) -> None:
        """Forget all measurements: another server answers."""
        self._samples.clear()

    @property
    def seconds(self) -> int:
        """Over how many seconds it was measured; 0 if that is too short to tell."""
        measured = self._samples[-1][0] - self._samples[0][0] if self._samples else 0.0
        return int(measured) if measured >= LEAST else 0

    @property
    def growth(self) -> int:
        """Bytes per second by which the use has grown; negative if it shrinks, 0 if it can't be told."""
        if not self.seconds:
            return 0
        times, used = zip(*self._samples, strict=True)
        return round(linear_regression(times, used).slope)
