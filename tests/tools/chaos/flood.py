"""Masses of bad entries among good ones, and a crowd of conversations that say one thing each."""

from __future__ import annotations

import asyncio
from pathlib import Path
from random import Random
from typing import Any

from codec.entry import partition_of
from tests.support.hostile import hostile
from tests.tools.chaos.conservation import World, world
from tests.tools.chaos.meter import MIB, metered
from tests.tools.chaos.talks import SAMPLES, Talk
from tests.tools.chaos.trouble import Plan
from worker.batching.encoder import ENCODER_STATE_BYTES

CROWD = "crowd"
PIPELINE = 500
MOST_FOR_GARBAGE = 16.0
"""MiB beyond the first look while only bad entries come, however many."""

MOST_GROWTH = 48.0
"""MiB beyond the first look, and beyond what the worker's own account allows each open conversation."""

LOOK_SECONDS = 0.1


async def flood(plan: Plan, directory: Path, *, bad: int, crowd: int) -> tuple[list[str], list[str]]:
    """Push both while conversations go on; what is wrong, best nothing, and figures."""
    async with world(plan, directory) as there:
        stop = asyncio.Event()
        member = await there.fleet.start("one")
        async with metered(member.process) as meter:
            talking = asyncio.create_task(there.pusher.run(plan.talks, stop, interval=plan.interval, gaps=False))
            began = asyncio.get_running_loop().time()
            await _push_bad(there, bad)
            await _until_dead_lettered(there, bad)
            garbage = max(meter.memory)
            await _push_crowd(there, crowd)
            stop.set()
            await talking
            await there.quiet()
            took = asyncio.get_running_loop().time() - began
        await there.fleet.stop(member)
        wrong = [*await _dead_lettered(there, bad), *await _stored_crowd(there, crowd), *await there.account()]
        if garbage - meter.memory[0] > MOST_FOR_GARBAGE:
            wrong.append(f"memory grew from {meter.memory[0]:.0f} to {garbage:.0f} MiB with bad entries alone")
        if max(meter.memory) - meter.memory[0] > MOST_GROWTH + crowd * ENCODER_STATE_BYTES / MIB:
            wrong.append(f"memory grew from {meter.memory[0]:.0f} to {max(meter.memory):.0f} MiB")
        figures = [
            f"{bad} bad entries, {crowd} conversations of one chunk in {took:.0f} s",
            f"memory with bad entries alone: {meter.memory[0]:.0f} at first, {garbage:.0f} at most MiB",
        ]
        return wrong, [*figures, *meter.figures()]


async def _push_bad(there: World, count: int) -> None:
    random = Random(there.plan.seed)
    for first in range(0, count, PIPELINE):
        async with there.client.pipeline(transaction=False) as pipe:
            for number in range(first, min(first + PIPELINE, count)):
                pipe.xadd(there.keys.stream(number % there.plan.partitions), dict(hostile(random)))  # type: ignore[arg-type]
            await pipe.execute()


async def _push_crowd(there: World, count: int) -> None:
    for first in range(0, count, PIPELINE):
        async with there.client.pipeline(transaction=False) as pipe:
            for number in range(first, min(first + PIPELINE, count)):
                chunk = Talk(CROWD, f"{number}", "enhanced").next(0.0)
                key = there.keys.stream(partition_of(chunk.conversation_id, there.plan.partitions))
                pipe.xadd(key, dict(chunk.fields()))  # type: ignore[arg-type]
            await pipe.execute()


async def _until_dead_lettered(there: World, count: int) -> None:
    """Wait until the bad entries are dealt with: what stays in memory then is theirs."""
    dead = [there.keys.dead(partition) for partition in range(there.plan.partitions)]
    while sum([await there.client.xlen(key) for key in dead]) < count:  # noqa: ASYNC110 -- Redis sets no event
        await asyncio.sleep(LOOK_SECONDS)


async def _dead_lettered(there: World, count: int) -> list[str]:
    """Whether every bad entry is a dead letter with a reason; they are dropped then, for the account knows none."""
    letters = 0
    for partition in range(there.plan.partitions):
        found: Any = await there.client.xrange(there.keys.dead(partition))
        letters += sum(bool(fields[b"reason"]) for _, fields in found)
        await there.client.delete(there.keys.dead(partition))
    return [] if letters == count else [f"{letters} dead letters instead of {count}"]


async def _stored_crowd(there: World, count: int) -> list[str]:
    objects = await there.bucket.objects()
    folders = [name.split("/")[2] for name in objects if name.startswith(f"chunks/{CROWD}/")]
    samples = [int(found["metadata"]["samples"]) for name, found in objects.items() if f"/{CROWD}/" in name]
    wrong = [] if sorted(folders) == sorted(map(str, range(count))) else [f"{len(folders)} objects of {count} talks"]
    return wrong if sum(samples) == count * SAMPLES else [*wrong, f"the crowd has {sum(samples)} samples"]
