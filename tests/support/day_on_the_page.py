"""A day of audio on the page, from a store that is 20 ms away: prints how soon it is seen and heard, and the memory.

A program of its own, because the peak of a process's memory can't be reset. `python -m tests.support.day_on_the_page`
takes real speech.
"""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import aiohttp

from tests.support.day_of_audio import MINUTES, SECRET, DistantStore, minute, peak_mb
from worker.archive import Archive
from worker.settings import Settings
from worker.web.access import ENTER, Access
from worker.web.server import WebServer
from worker.web.sessions import Sessions
from worker.web.site import PageOptions, Site

LISTENERS = 4
SEEKS = 12
HEARD_BYTES = 64 * 1024
"""Two seconds of audio: a player begins with less."""

MINUTE_BYTES = 60 * 32000
FILE = "/audio.wav?uid=user&conversation=talk"


def resident_mb() -> float:
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmRSS")]
    return int(line.split()[1]) / 1024


async def first_sound(http: aiohttp.ClientSession, second: float) -> float:
    """Seconds until the first two seconds from a place on are there."""
    began = time.monotonic()
    first = 44 + round(second) * 32000
    async with http.get(FILE, headers={"Range": f"bytes={first}-"}) as reply:
        await reply.content.readexactly(HEARD_BYTES)
        took = time.monotonic() - began
        reply.close()
    return took


async def listen(http: aiohttp.ClientSession, minute_of_day: int) -> None:
    """Three minutes at full speed: faster than any player."""
    first = 44 + minute_of_day * MINUTE_BYTES
    async with http.get(FILE, headers={"Range": f"bytes={first}-{first + 3 * MINUTE_BYTES}"}) as reply:
        async for _ in reply.content.iter_chunked(1 << 16):
            pass


async def measure() -> dict[str, Any]:
    data, facts, extension = minute("speech")
    store = DistantStore(data, facts.to_mapping(), extension)  # type: ignore[abstract]  # it only reads
    site = Site(Settings(), PageOptions(), store, Archive(store, [SECRET]), None, time.monotonic)
    keys: list[str] = []
    access = Access(Sessions(time.monotonic), keys.append)
    async with WebServer(site, access) as server:
        access.open()
        jar = aiohttp.CookieJar(unsafe=True)
        async with aiohttp.ClientSession(f"http://127.0.0.1:{server.port}", cookie_jar=jar) as http:
            await http.get(f"{ENTER}?key={keys[-1]}")
            return await _measured(http)


async def _measured(http: aiohttp.ClientSession) -> dict[str, Any]:
    began, busy = time.monotonic(), time.process_time()
    async with http.get("/api/conversation?uid=user&conversation=talk") as reply:
        blobs = len((await reply.json())["blobs"])
    time_line, time_line_cpu = time.monotonic() - began, time.process_time() - busy
    busy = time.process_time()
    seeks = [await first_sound(http, (number * 7919) % MINUTES * 60 + 31) for number in range(SEEKS)]
    seek_cpu = (time.process_time() - busy) / SEEKS
    await asyncio.gather(*(listen(http, 100 * number) for number in range(LISTENERS)))
    return {
        "blobs": blobs,
        "time_line_s": round(time_line, 3),
        "time_line_cpu_s": round(time_line_cpu, 3),
        "first_sound_cpu_s": round(seek_cpu, 3),
        "first_sound_s": [round(each, 3) for each in sorted(seeks)],
        "resident_mb": round(resident_mb()),
        "peak_mb": round(peak_mb()),
    }


if __name__ == "__main__":
    print(json.dumps(asyncio.run(measure())))  # noqa: T201 -- for the one who started it
