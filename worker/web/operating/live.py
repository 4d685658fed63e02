"""The overview of now, sent by server-sent events, with the last minutes as lines."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING, Any

from aiohttp import web

from worker.errors import StreamError
from worker.operations.diagnosis import concerns
from worker.operations.looks import Looks
from worker.operations.overview_facts import overview_facts
from worker.runtime.tasks import end
from worker.spool import summary_if_there
from worker.stream.inspection.overview import Overview
from worker.web.site import SITE, site_of

if TYPE_CHECKING:
    from worker.web.site import Site

LOOK_SECONDS = 2.0
REMEMBERED = 150
"""Looks that are drawn as lines: five minutes."""


class Live:
    """Looks at Redis while people watch, once for all of them."""

    def __init__(self, site: Site, look_seconds: float = LOOK_SECONDS) -> None:
        self._site = site
        self._look_seconds = look_seconds
        self._looks: Looks | None = None
        self._history: deque[list[float | None]] = deque(maxlen=REMEMBERED)
        self._watchers = 0
        self._task: asyncio.Task[None] | None = None
        self._news = asyncio.Condition()
        self._latest = b""

    @property
    def is_looking(self) -> bool:
        """Whether it asks Redis now and then."""
        return self._task is not None

    async def watch(self) -> AsyncIterator[bytes]:
        """Every look from now on, as a document of JSON."""
        self._watchers += 1
        if self._task is not None and self._latest:
            yield self._latest
        if self._task is None:
            self._task = asyncio.create_task(self._looking(), name="web.looking")
        try:
            while not self._task.done():
                async with self._news:
                    await self._news.wait()
                yield self._latest
            self._task.result()  # it ends only by a failure that nothing foresaw
        finally:
            self._watchers -= 1
            if not self._watchers:
                await self.close()

    async def close(self) -> None:
        """Stop looking."""
        task, self._task = self._task, None
        if task is not None:
            await end([task])

    async def _looking(self) -> None:
        try:
            while True:
                self._latest = json.dumps(await self._look(), separators=(",", ":")).encode()
                await self._tell()
                await asyncio.sleep(self._look_seconds)
        finally:
            await self._tell()

    async def _tell(self) -> None:
        async with self._news:
            self._news.notify_all()

    async def _look(self) -> dict[str, Any]:
        try:
            self._looks = self._looks or Looks(self._site.need_client(), self._site.settings)
            overview = await self._looks.look()
        except StreamError as error:
            return {"error": str(error)}
        spool = await asyncio.to_thread(summary_if_there, self._site.settings.spool_dir)
        self._history.append(_point(overview))
        found = concerns(overview, self._site.settings.batch_max_age, spool)
        facts = overview_facts(overview, found, spool)
        facts["partitions"] = [_partition(view) for view in facts["partitions"]]
        return facts | {"history": list(self._history), "allow_replay": self._site.page.allow_replay}


LIVE = web.AppKey("live", Live)


def routes() -> list[web.RouteDef]:
    """The route of the live overview."""
    return [web.get("/api/now", follow_overview)]


async def running(app: web.Application) -> AsyncIterator[None]:
    """Stops looking at the end of the server. For `cleanup_ctx`."""
    app[LIVE] = Live(app[SITE])
    yield
    await app[LIVE].close()


async def follow_overview(request: web.Request) -> web.StreamResponse:
    """Server-sent events: one overview each."""
    with site_of(request).limits.followers.taken():
        reply = await event_stream(request)
        async for document in request.app[LIVE].watch():
            await reply.write(b"data: " + document + b"\n\n")
        return reply


async def event_stream(request: web.Request) -> web.StreamResponse:
    """An answer that sends events, https://html.spec.whatwg.org/multipage/server-sent-events.html."""
    reply = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await reply.prepare(request)
    return reply


def _point(overview: Overview) -> list[float | None]:
    """One look in the lines: time in ms, entries, age of the oldest in ms, stored blobs, memory of Redis in bytes."""
    stored = sum(view.stored for view in overview.partitions)
    return [overview.now_ms, overview.entries, overview.oldest_age_ms, stored, overview.server.memory]


def _partition(view: dict[str, Any]) -> dict[str, Any]:
    """What the picture of partitions shows."""
    shown: Sequence[str] = ("number", "owner", "entries", "oldest", "sealed_batches", "dead", "lost", "stored")
    return {name: view[name] for name in shown}
