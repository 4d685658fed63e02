"""The growth of Redis' memory: told only after a minute, and not misled by the minute of a batch."""

from __future__ import annotations

import math

from worker.operations.trend import LEAST, WINDOW, MemoryTrend

MB = 1_000_000


def test_nothing_is_told_before_a_minute() -> None:
    trend = MemoryTrend()
    for second in range(0, int(LEAST), 2):
        trend.add(second, second * MB)
        assert (trend.growth, trend.seconds) == (0, 0)


def test_steady_growth_is_told() -> None:
    trend = MemoryTrend()
    for second in range(0, 200, 2):
        trend.add(second, 100 * MB + second * MB)
    assert (trend.growth, trend.seconds) == (MB, 198)


def test_the_rise_and_fall_of_every_minute_is_no_growth() -> None:
    trend = MemoryTrend()
    for second in range(0, 900, 2):
        trend.add(second, 100 * MB + int(50 * MB * (1 + math.sin(second / 60 * 2 * math.pi))))
    assert abs(trend.growth) < 0.2 * MB
    assert trend.seconds == WINDOW


def test_only_the_last_minutes_count() -> None:
    trend = MemoryTrend()
    for second in range(0, 2000, 2):
        trend.add(second, min(second, 1000) * MB)
    assert trend.growth == 0
