"""Events that come many at once are one line with their number."""

from __future__ import annotations

import asyncio
from typing import Any

import structlog
from structlog.testing import capture_logs

from worker.runtime.digest import MOST_TALLIED, Digest

log = structlog.get_logger()


async def test_events_of_one_kind_are_one_line_with_the_details_of_the_first() -> None:
    digest = Digest()
    with capture_logs() as events:
        for number in range(64):
            digest.note(log.warning, "partitions.rewound", "foreign", first=number, sums={"partitions": 1})
        digest.note(log.warning, "partitions.rewound", "other", first=7, sums={"partitions": 1})
        assert events == []
        digest.flush()
    rewound = {"event": "partitions.rewound", "log_level": "warning"}
    assert events == [
        {**rewound, "first": 0, "partitions": 64, "times": 64},
        {**rewound, "first": 7, "partitions": 1, "times": 1},
    ]


async def test_a_tally_names_the_most_frequent_values() -> None:
    digest = Digest()
    reasons = {f"reason {number}": number for number in range(1, 100)}
    with capture_logs() as events:
        for reason, entries in reasons.items():
            digest.note(log.warning, "entries", tallies={"reasons": {reason: entries}}, sums={"entries": entries})
        digest.flush()
    (event,) = events
    assert event["entries"] == sum(reasons.values())
    most = range(99, 99 - MOST_TALLIED, -1)
    assert event["reasons"] == [{"value": f"reason {number}", "times": number} for number in most]


async def test_lines_come_soon_and_then_at_a_bounded_rate() -> None:
    digest, said = Digest(hold=0.0, rest=3600.0), asyncio.Event()
    lines: list[Any] = []

    def say(_event: str, times: int) -> None:
        lines.append(times)
        said.set()

    digest.note(say, "event")
    async with asyncio.timeout(10):
        await said.wait()
    for _ in range(1000):
        digest.note(say, "event")
    assert lines == [1]
    digest.flush()
    assert lines == [1, 1000]


async def test_a_kind_that_is_quiet_again_is_held_shortly_again() -> None:
    digest = Digest(hold=0.0, rest=0.0)
    lines: list[int] = []
    for _ in range(3):
        said = asyncio.Event()

        def say(_event: str, times: int, said: asyncio.Event = said) -> None:
            lines.append(times)
            said.set()

        digest.note(say, "event")
        async with asyncio.timeout(10):
            await said.wait()
    assert lines == [1, 1, 1]
    digest.flush()
    assert lines == [1, 1, 1]


def test_without_an_event_loop_each_event_is_logged_at_once() -> None:
    with capture_logs() as events:
        Digest().note(log.info, "event", detail=1)
    assert events == [{"event": "event", "log_level": "info", "detail": 1, "times": 1}]
