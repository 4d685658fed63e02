"""The store is away while 200 sessions push, and workers are killed meanwhile: where does the audio wait?"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from codec.entry import Chunk, End, partition_of
from tests.support.oracle import T0
from tests.support.speech import speech
from tests.tools.chaos.conservation import World, become_quiet, world
from tests.tools.chaos.soak import missing
from tests.tools.chaos.trouble import Plan

RATE = 16000
WAVES = 16
CHUNKS_PER_WAVE = 4
CHUNK_SECONDS = 1.0
AWAY = range(2, 12)
"""Waves during which the store refuses everything; workers are killed in the middle and at the end of it."""
WAVE_SECONDS = 4.0
"""Of real time: the sessions push at the pace of microphones, which two cores can encode."""
FOR_EVER = 10**9


async def outage(plan: Plan, directory: Path, *, sessions: int, spooled: bool) -> tuple[list[str], list[str]]:
    """One outage with a spool or without; what is wrong, best nothing, and figures."""
    spool = directory / "spool"
    changes: dict[str, object] = {"batch_max_seconds": CHUNKS_PER_WAVE * CHUNK_SECONDS, "batch_max_age": 10.0}
    if spooled:
        spool.mkdir()
        changes |= {"spool_dir": spool, "spool_mode": "outage", "spool_after": 1.0}
    async with world(plan, directory) as there:
        for _ in range(2):
            await there.fleet.start("one", **changes)
        pushed, used = await _push_through(there, sessions, lambda: there.fleet.start("one", **changes))
        await there.quiet()
        await emptied(spool)
        await asyncio.gather(*(there.fleet.stop(member) for member in there.fleet.running))
        wrong = [*await missing(there, pushed), *there.fleet.wrong]
        wave = sessions * CHUNKS_PER_WAVE * CHUNK_SECONDS * RATE * 2
        if spooled and used[AWAY[-1]] > used[AWAY[4]] + 3 * wave:
            wrong.append("the memory of Redis grew on although there is a spool")
        objects = await there.bucket.objects()
        return wrong, [
            f"{sessions} sessions, {sum(pushed.values()) / RATE / 60:.0f} minutes of audio, {len(objects)} objects",
            f"{there.fleet.counts['killed']} workers killed",
            f"MiB in Redis after each wave: {' '.join(f'{size / 2**20:.0f}' for size in used)}",
            f"the store was away in waves {AWAY[0]} to {AWAY[-1]}; a wave is {wave / 2**20:.0f} MiB of PCM",
        ]


async def _push_through(there: World, sessions: int, restart: Callable[[], object]) -> tuple[Counter[str], list[int]]:
    """Samples pushed per conversation, and what Redis held after each wave."""
    pushed: Counter[str] = Counter()
    used: list[int] = []
    pcm = speech(CHUNK_SECONDS, RATE)
    for wave in range(WAVES):
        if wave == AWAY[0]:
            await there.bucket.fail("insert.*", status=503, times=FOR_EVER)
        if wave in (AWAY[len(AWAY) // 2], AWAY[-1]):
            await there.fleet.kill(there.fleet.running[0])
            await restart()  # type: ignore[misc]
        if wave == AWAY[-1] + 1:
            await there.bucket.clear_faults()
        due = asyncio.get_running_loop().time() + WAVE_SECONDS
        for number in range(sessions):
            await _say(there, f"session-{number}", wave, pcm, pushed)
        await asyncio.sleep(due - asyncio.get_running_loop().time())
        used.append(int((await there.client.info("memory"))["used_memory_dataset"]))
    for number in range(sessions):
        name = f"session-{number}"
        await there.client.xadd(_key(there, name), dict(End("outage", name).fields()))  # type: ignore[arg-type]
    return pushed, used


async def _say(there: World, name: str, wave: int, pcm: bytes, pushed: Counter[str]) -> None:
    async with there.client.pipeline(transaction=False) as pipe:
        for place in range(wave * CHUNKS_PER_WAVE, (wave + 1) * CHUNKS_PER_WAVE):
            chunk = Chunk("outage", name, T0 + place * CHUNK_SECONDS, pcm, RATE, seq=place)
            pipe.xadd(_key(there, name), dict(chunk.fields()))  # type: ignore[arg-type]
            pushed[name] += chunk.samples
        await pipe.execute()


def _key(there: World, name: str) -> str:
    return there.keys.stream(partition_of(name, there.plan.partitions))


async def emptied(spool: Path) -> None:
    """Wait until nothing waits in a spool, while less and less does. Raises `TimeoutError`."""
    await become_quiet(lambda: asyncio.to_thread(_waiting, spool))


def _waiting(spool: Path) -> int:
    return sum(1 for pattern in ("*.spooled", "*.uploading") for _ in spool.rglob(pattern))
