"""The done events as they come, by server-sent events."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from aiohttp import web

from worker.errors import StreamError
from worker.stream.config import recorded_layouts
from worker.stream.inspection.done_events import DoneEvents, SeenEvent
from worker.stream.keys import Keys
from worker.web.operating.live import event_stream
from worker.web.site import Site, site_of

FIRST = 100
"""Events from before that are sent at first."""

LOOK_SECONDS = 1.0


def routes() -> list[web.RouteDef]:
    """The route of the events."""
    return [web.get("/api/events", follow_events)]


async def follow_events(request: web.Request) -> web.StreamResponse:
    """Server-sent events: lists of done events, the newest `FIRST` at first, or {"error": …}."""
    site = site_of(request)
    with site.limits.followers.taken():
        events = await _open(site)
        reply = await event_stream(request)
        await _send(reply, [_facts(seen) for seen in await events.newest(FIRST)])
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            try:
                found = await events.following()
            except StreamError as error:
                await _send(reply, {"error": str(error)})
            else:
                await _send(reply, [_facts(seen) for seen in found])


async def _open(site: Site) -> DoneEvents:
    client, keys = site.need_client(), Keys(site.settings.stream_prefix)
    layouts = await recorded_layouts(client, keys, site.settings.partitions)
    return DoneEvents(client, keys, layouts.total)


async def _send(reply: web.StreamResponse, document: Sequence[Any] | dict[str, str]) -> None:
    """One event; an empty one is a comment that shows that the connection lives."""
    text = f"data: {json.dumps(document)}\n\n" if document else ": nothing new\n\n"
    await reply.write(text.encode())


def _facts(seen: SeenEvent) -> dict[str, Any]:
    return {name: value for name, value in asdict(seen.event).items() if value is not None} | {
        "id": seen.id,
        "partition": seen.partition,
    }
