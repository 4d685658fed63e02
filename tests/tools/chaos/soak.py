"""Many sessions of speech in real time for as long as you like: does anything grow, wait or leak?"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from pathlib import Path

from codec.entry import Chunk, End, partition_of
from tests.support.oracle import T0
from tests.support.speech import speech
from tests.tools.chaos.conservation import World, world
from tests.tools.chaos.meter import Meter, metered
from tests.tools.chaos.trouble import Plan
from worker.runtime.cpu import cpu_limit

RATE = 16000
CHUNK_SECONDS = 5.0
BATCH_SECONDS = 60.0
MOST_AGE = BATCH_SECONDS + 10
MOST_CONNECTIONS = 32
"""More than in the middle, for in the end all sessions close together: 16 uploads and 16 done steps at once."""
MOST_GROWTH = 16.0
"""MiB by which the last third may exceed the middle one."""


async def soak(plan: Plan, directory: Path, *, sessions: int, minutes: float) -> tuple[list[str], list[str]]:
    """One worker, `sessions` conversations at real time; what is wrong, best nothing, and figures."""
    async with world(plan, directory) as there:
        limits = {"batch_max_seconds": BATCH_SECONDS, "batch_max_age": BATCH_SECONDS}
        member = await there.fleet.start("one", **limits, encode_threads=cpu_limit())
        async with metered(member.process) as meter:
            pushed = await _talk(there, sessions, minutes * 60)
            await there.quiet()
        await there.fleet.stop(member)
        wrong = [*await missing(there, pushed), *_leaks(meter), *there.fleet.wrong]
        audio = sum(pushed.values()) / RATE
        warnings = Counter(map(_complaint, member.process.lines)) - Counter({"": len(member.process.lines)})
        figures = [f"{sessions} sessions, {audio / 3600:.1f} hours of audio", f"warnings: {dict(warnings)}"]
        return wrong, [*figures, *meter.figures()]


def _complaint(line: str) -> str:
    event = json.loads(line) if line.startswith("{") else {}
    return f"{event['message']} {event.get('cause', '')}" if event.get("severity") in ("WARNING", "ERROR") else ""


async def _talk(there: World, sessions: int, seconds: float) -> Counter[str]:
    """Samples pushed per conversation."""
    pushed: Counter[str] = Counter()
    async with asyncio.TaskGroup() as group:
        for number in range(sessions):
            group.create_task(_session(there, f"session-{number}", CHUNK_SECONDS * number / sessions, seconds, pushed))
    return pushed


async def _session(there: World, name: str, begin: float, seconds: float, pushed: Counter[str]) -> None:
    loop = asyncio.get_running_loop()
    key = there.keys.stream(partition_of(name, there.plan.partitions))
    start = loop.time() + begin
    pcm = await asyncio.to_thread(speech, CHUNK_SECONDS, RATE, offset=begin)
    for number in range(int(seconds / CHUNK_SECONDS)):
        await asyncio.sleep(start + number * CHUNK_SECONDS - loop.time())
        chunk = Chunk("soak", name, T0 + number * CHUNK_SECONDS, pcm, RATE, seq=number)
        await there.client.xadd(key, dict(chunk.fields()))  # type: ignore[arg-type]
        pushed[name] += chunk.samples
    await there.client.xadd(key, dict(End("soak", name).fields()))  # type: ignore[arg-type]


async def missing(there: World, pushed: Counter[str]) -> list[str]:
    """Conversations of which not exactly the pushed samples are stored."""
    stored: Counter[str] = Counter()
    for name, found in (await there.bucket.objects()).items():
        stored[name.split("/")[2]] += int(found["metadata"]["samples"])
    return [
        f"{name}: {pushed[name]} samples pushed, {stored[name]} stored"
        for name in pushed | stored
        if pushed[name] != stored[name]
    ]


def _leaks(meter: Meter) -> list[str]:
    wrong = []
    if meter.growth > MOST_GROWTH:
        wrong.append(f"memory grew by {meter.growth:.0f} MiB from the middle third to the last")
    if max(meter.oldest) > MOST_AGE:
        wrong.append(f"audio waited for {max(meter.oldest):.0f} s")
    if meter.descriptors[-1] > meter.descriptors[len(meter.descriptors) // 3] + MOST_CONNECTIONS:
        wrong.append(f"{meter.descriptors[-1]} descriptors are open in the end")
    return wrong
