"""`make page-pictures`: the page in a run with a real worker, as pictures for its README."""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from redis.asyncio import Redis

from tests.support.browser import Browser
from tests.support.paths import ROOT
from tests.support.process import Process, environment
from tests.support.redis_server import RedisServer
from tests.support.secret import TEST_SECRET
from tests.support.waiting import within
from tests.support.web_page import WebPage, web_page
from worker.demo.recordings import recorded
from worker.producer import Producer
from worker.settings import Settings

if TYPE_CHECKING:
    from tests.support.browser import Window

PLACE = ROOT / ".github"
WIDTH, HEIGHT = 1280, 900
UID = "alice"
PATIENCE = 40.0
OPEN_SECONDS = 25
"""Seconds of a conversation that still goes on."""

VIEWS = {
    "page-conversation": (f"/conversation?uid={UID}&conversation=audio-book", "light"),
    "page-now": ("/", "dark"),
}


async def push_conversations(redis_url: str) -> None:
    """Three that have ended, and one that goes on."""
    start = float(int(time.time()) - 130)
    async with Producer(redis_url) as producer:
        for recording in recorded():
            for seconds, pcm in recording.chunks():
                pause = 8 if seconds >= 60 else 0
                whose, rate = (UID, recording.conversation_id), recording.sample_rate
                await producer.push(*whose, start + seconds + pause, pcm, sample_rate=rate)
            await producer.end(UID, recording.conversation_id)
        for seconds, pcm in recorded()[0].chunks():
            if seconds < OPEN_SECONDS:
                await producer.push(UID, "still going on", start + 105 + seconds, pcm)


async def announced(redis: Redis) -> int:
    """Blobs that are stored."""
    return sum([await redis.xlen(key) async for key in redis.scan_iter(match="pcm:*:done")])


async def until_stored(redis: Redis, blobs: int, worker: Process) -> None:
    async with within(PATIENCE, lambda: f"{blobs} blobs are stored: {worker.lines[-5:]}"):
        while await announced(redis) < blobs:  # noqa: ASYNC110 -- another process stores them
            await asyncio.sleep(0.1)


async def take(page: WebPage, window: Window, place: Path) -> None:
    await window.go(page.link)
    await window.until("location.pathname === '/' && document.querySelectorAll('.lines polyline').length")
    for name, (path, scheme) in VIEWS.items():
        await window.prefer(scheme)
        await window.go(page.url + path)
        await window.until("document.querySelector('.note')")
        await asyncio.sleep(4)  # the waveform is drawn, the lines have some points
        (place / f"{name}.webp").write_bytes(await window.picture())


async def main(place: Path) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        server, browser = RedisServer(Path(temporary), appendonly="yes"), Browser(Path(temporary))
        store = Path(temporary) / "store"
        store.mkdir()
        server.start()
        values: dict[str, Any] = {"redis_url": server.url, "store_url": store.as_uri()}
        settings = Settings.model_validate(values | {"encryption_secret": TEST_SECRET, "http_port": 0})
        try:
            async with Process(environment(settings), "run") as worker, Redis.from_url(server.url) as redis:
                await worker.said("worker.started")
                await push_conversations(server.url)
                await redis.xadd("pcm:{7}", {"uid": UID, "conversation_id": "old client", "pcm": b"\0\0"})
                await until_stored(redis, 6, worker)
                async with web_page(settings) as page, browser.window(WIDTH, HEIGHT) as window:
                    await take(page, window, place)
        finally:
            browser.close()
            server.kill()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]) if len(sys.argv) > 1 else PLACE))
