"""The waveform of a conversation: peaks of one blob per line of JSON, as they are computed, the shown part first."""

from __future__ import annotations

import asyncio
import base64
import json
from collections import OrderedDict
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from functools import partial
from typing import TYPE_CHECKING

from aiohttp import web

from worker.archive.blobs.ordered import ordered
from worker.audio.peaks import peaks
from worker.model.ids import Conversation
from worker.web.recordings.opening import OPENED
from worker.web.site import number, optional, parameter, site_of

if TYPE_CHECKING:
    from worker.archive import SeekableRecording

AHEAD = 2
"""Blobs that are decoded at once for one waveform."""

FARTHEST = 10**9
PEAKS = web.AppKey["PeakCache"]("peaks")


class PeakCache:
    """Peaks of blobs that were drawn last, `most_bytes` at most."""

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._kept: OrderedDict[tuple[str, int], bytes] = OrderedDict()
        self._held = 0

    def get(self, key: tuple[str, int]) -> bytes | None:
        """The peaks under a key, if they are there."""
        return self._kept.get(key)

    def put(self, key: tuple[str, int], found: bytes) -> None:
        """Keep peaks."""
        if key in self._kept:
            return
        self._kept[key] = found
        self._held += len(found)
        while self._held > self._most_bytes:
            self._held -= len(self._kept.popitem(last=False)[1])


def routes() -> list[web.RouteDef]:
    """The route of the waveform."""
    return [web.get("/api/waveform", draw)]


async def draw(request: web.Request) -> web.StreamResponse:
    """Lines {"blob": its number, "peaks": Base64, 20 levels per second}; `from` and `to` are shown seconds."""
    conversation = Conversation(parameter(request, "uid"), parameter(request, "conversation"))
    recording = await request.app[OPENED].get(conversation, optional(request, "v"))
    since, until = number(request, "from", 0, FARTHEST), number(request, "to", FARTHEST, FARTHEST)
    reply = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
    with site_of(request).limits.waveforms.taken():
        await reply.prepare(request)
        async with aclosing(_lines(recording, in_view_first(recording, since, until), request.app[PEAKS])) as lines:
            async for line in lines:
                await reply.write(line)
        await reply.write_eof()
    return reply


def in_view_first(recording: SeekableRecording, since: float, until: float) -> list[int]:
    """Numbers of the blobs: those that are shown, then those nearest to them."""
    middle, rate = (since + min(until, recording.samples / recording.sample_rate)) / 2, recording.sample_rate

    def distance(number: int) -> tuple[bool, float]:
        blob = recording.placed[number]
        is_shown = blob.first / rate < until and blob.last / rate > since
        return (False, number) if is_shown else (True, abs((blob.first + blob.last) / 2 / rate - middle))

    return sorted(range(len(recording.placed)), key=distance)


async def _lines(recording: SeekableRecording, numbers: Sequence[int], cache: PeakCache) -> AsyncGenerator[bytes, None]:
    async with aclosing(ordered(numbers, partial(_peaks, recording, cache), limit=AHEAD)) as found:
        place = 0
        async for levels in found:
            line = {"blob": numbers[place], "peaks": base64.b64encode(levels).decode()}
            place += 1
            yield json.dumps(line).encode() + b"\n"


async def _peaks(recording: SeekableRecording, cache: PeakCache, number: int) -> bytes:
    key = recording.version, number
    found = cache.get(key)
    if found is None:
        pcm = await recording.audio(recording.placed[number], keep=False)
        found = await asyncio.to_thread(peaks, pcm, recording.sample_rate)
        cache.put(key, found)
    return found
