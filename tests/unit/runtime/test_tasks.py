"""Work that a stop ends, and tasks that end."""

from __future__ import annotations

import asyncio

import pytest

from worker.runtime.tasks import unless_stopped


async def test_work_that_ends_says_to_go_on() -> None:
    assert await unless_stopped(asyncio.Event(), asyncio.sleep(0))


@pytest.mark.parametrize("early", [True, False])
async def test_stop_ends_work_that_does_not_end(early: bool) -> None:
    stop, ended = asyncio.Event(), asyncio.Event()

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    if early:
        stop.set()
    else:
        asyncio.get_running_loop().call_soon(stop.set)
    assert not await unless_stopped(stop, work())
    assert ended.is_set() or early


async def test_stop_in_the_moment_of_the_end_counts() -> None:
    stop = asyncio.Event()

    async def work() -> None:
        stop.set()

    assert not await unless_stopped(stop, work())


@pytest.mark.parametrize("stopped", [True, False])
async def test_error_of_the_work_is_raised(stopped: bool) -> None:
    stop = asyncio.Event()

    async def work() -> None:
        if stopped:
            stop.set()
        raise ValueError("wrong")

    with pytest.raises(ValueError, match="wrong"):
        await unless_stopped(stop, work())
