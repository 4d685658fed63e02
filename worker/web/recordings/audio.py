"""A conversation as one WAV that is never made: each request gets its bytes from the blobs that hold them."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from urllib.parse import quote

import structlog
from aiohttp import web

from codec.entry import BYTES_PER_SAMPLE
from worker.archive import SeekableRecording
from worker.audio.writing.wav import HEADER_BYTES, wav_header
from worker.model.ids import Conversation
from worker.web.access import WHO
from worker.web.recordings.opening import OPENED
from worker.web.recordings.ranges import ByteRange, Unsatisfiable, asked_range
from worker.web.recordings.timeline import moment_at
from worker.web.site import optional, parameter, site_of

log = structlog.get_logger()


def routes() -> list[web.RouteDef]:
    """The route of the audio; HEAD too."""
    return [web.get("/audio.wav", listen)]


async def listen(request: web.Request) -> web.StreamResponse:
    """The WAV, or the range of it that is asked for; `v` is the version of the time line."""
    conversation = Conversation(parameter(request, "uid"), parameter(request, "conversation"))
    recording = await request.app[OPENED].get(conversation, optional(request, "v"))
    size = HEADER_BYTES + recording.samples * BYTES_PER_SAMPLE
    try:
        wanted = asked_range(_believed_range(request, recording), size)
    except Unsatisfiable:
        raise web.HTTPRequestRangeNotSatisfiable(headers={"Content-Range": f"bytes */{size}"}) from None
    reply = web.StreamResponse(
        status=206 if wanted.partial else 200, headers=_headers(request, recording, size, wanted)
    )
    if request.method == "HEAD":
        await reply.prepare(request)
        return reply
    with site_of(request).limits.listeners.taken():
        await _send(request, reply, recording, wanted)
    return reply


def _believed_range(request: web.Request, recording: SeekableRecording) -> str | None:
    """The Range header, unless it is about another version of the file: RFC 9110, section 13.1.5."""
    condition = request.headers.get("If-Range")
    return request.headers.get("Range") if condition in (None, _tag(recording)) else None


def _headers(request: web.Request, recording: SeekableRecording, size: int, wanted: ByteRange) -> dict[str, str]:
    headers = {
        "Content-Type": "audio/wav",
        "Content-Length": str(wanted.last - wanted.first),
        "Accept-Ranges": "bytes",
        "ETag": _tag(recording),
    }
    if wanted.partial:
        headers["Content-Range"] = f"bytes {wanted.first}-{wanted.last - 1}/{size}"
    if request.query.get("download"):
        name = quote(f"{request.query['conversation']}.wav", safe="")
        headers["Content-Disposition"] = f"attachment; filename*=UTF-8''{name}"
    return headers


def _tag(recording: SeekableRecording) -> str:
    return f'"{recording.version}"'


async def _send(
    request: web.Request, reply: web.StreamResponse, recording: SeekableRecording, wanted: ByteRange
) -> None:
    sent = 0
    try:
        await reply.prepare(request)
        async with aclosing(wav_bytes(recording, wanted.first, wanted.last)) as blocks:
            async for block in blocks:
                await reply.write(block)
                sent += len(block)
        await reply.write_eof()
    except ConnectionError:
        pass  # the player has what it wanted, or seeks
    finally:
        _note(request, recording, wanted.first, wanted.first + sent)


def _note(request: web.Request, recording: SeekableRecording, first: int, last: int) -> None:
    if last <= max(first, HEADER_BYTES):
        return
    begin, end = ((max(each, HEADER_BYTES) - HEADER_BYTES) // BYTES_PER_SAMPLE for each in (first, last))
    log.info(
        "web.listened",
        who=request[WHO],
        uid=request.query["uid"],
        conversation_id=request.query["conversation"],
        start=round(moment_at(recording, begin), 3),
        end=round(moment_at(recording, end), 3),
    )


async def wav_bytes(recording: SeekableRecording, first: int, last: int) -> AsyncGenerator[bytes, None]:
    """The bytes of the WAV from `first` up to `last`."""
    header = wav_header(recording.sample_rate, recording.samples * BYTES_PER_SAMPLE)
    if first < HEADER_BYTES:
        yield header[first : min(last, HEADER_BYTES)]
    begin, end = max(first, HEADER_BYTES) - HEADER_BYTES, last - HEADER_BYTES
    if begin >= end:
        return
    skipped = begin % BYTES_PER_SAMPLE
    left = end - begin
    samples = recording.pcm(begin // BYTES_PER_SAMPLE, -(-end // BYTES_PER_SAMPLE))
    async with aclosing(samples) as blocks:
        async for block in blocks:
            part = block[skipped : skipped + left]
            skipped = 0
            left -= len(part)
            yield part
