from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest

from tests.support.waiting import beside, within

SOON = 5.0


async def forever() -> None:
    await asyncio.Event().wait()


async def stubborn(swallowed: int) -> None:
    """Take no notice of the first cancellations, as a loop around the Redis library may."""
    for _ in range(swallowed):
        with suppress(asyncio.CancelledError):
            await forever()
    await asyncio.sleep(SOON)
    raise AssertionError("it was not asked again to end")


async def fail(text: str) -> None:
    await asyncio.sleep(0)  # by then everything else has begun
    raise ValueError(text)


@pytest.mark.slow
async def test_work_beside_a_block_ends_with_it_although_it_swallows_cancellations() -> None:
    async with beside(stubborn(swallowed=2), forever()):
        await asyncio.sleep(0)


@pytest.mark.slow
async def test_a_failing_block_is_told_although_work_beside_it_swallows_cancellations() -> None:
    with pytest.raises(ExceptionGroup) as raised:
        async with beside(stubborn(swallowed=2)):
            await fail("the block")
    assert [str(error) for error in raised.value.exceptions] == ["the block"]


@pytest.mark.slow
async def test_failing_work_ends_the_block_and_all_other_work() -> None:
    with pytest.raises(ExceptionGroup) as raised:
        async with beside(fail("the work"), stubborn(swallowed=2)):
            await forever()
    assert [str(error) for error in raised.value.exceptions] == ["the work"]


async def test_what_takes_too_long_is_named_as_it_is_then() -> None:
    seen = ["nothing"]
    asyncio.get_running_loop().call_soon(seen.append, "something")
    with pytest.raises(AssertionError, match="not within 0 s: news after something"):
        async with within(0.01, lambda: f"news after {seen[-1]}"):
            await forever()


async def test_a_time_out_inside_a_block_stays_its_own() -> None:
    with pytest.raises(TimeoutError, match="somebody else's"):
        async with within(SOON, lambda: "something"):
            raise TimeoutError("somebody else's")
