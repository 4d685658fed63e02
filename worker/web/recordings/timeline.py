"""The time line of a conversation: where each blob lies, what is silent, left out, repeated or can't be read."""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING, Any

from aiohttp import web

from worker.archive import SeekableRecording
from worker.model.ids import Conversation
from worker.web.recordings.opening import OPENED
from worker.web.replies import json_reply
from worker.web.site import parameter

if TYPE_CHECKING:
    from worker.archive.playback.seeking.placing import PlacedBlob


def routes() -> list[web.RouteDef]:
    """The route of the time line."""
    return [web.get("/api/conversation", show_time_line)]


async def show_time_line(request: web.Request) -> web.Response:
    """The time line as it is now."""
    conversation = Conversation(parameter(request, "uid"), parameter(request, "conversation"))
    recording = await request.app[OPENED].get(conversation)
    return json_reply(
        {
            "uid": conversation.uid,
            "conversation": conversation.conversation_id,
            "version": recording.version,
            "start": recording.start,
            "seconds": recording.samples / recording.sample_rate,
            "sample_rate": recording.sample_rate,
            "bytes": sum(blob.span.blob.info.size for blob in recording.placed),
            "blobs": [_facts(blob, recording) for blob in recording.placed],
            "repeated": [{"name": repeat.name, "inside": repeat.inside} for repeat in recording.repeated],
            "unknown": [{"name": other.name, "reason": other.reason} for other in recording.unknown],
            "problems": [
                {"name": problem.name, "reason": problem.reason, "instead": problem.instead}
                for problem in recording.unreadable.values()
            ],
        }
    )


def moment_at(recording: SeekableRecording, sample: int) -> float:
    """The Unix seconds at which a sample was recorded, by the blob that holds it or comes before it."""
    placed = recording.placed
    if not placed:
        return 0.0
    blob = placed[max(0, bisect_right([each.first for each in placed], sample) - 1)]
    return blob.span.start + blob.cut_seconds + (sample - blob.first) / recording.sample_rate


def _facts(placed: PlacedBlob, recording: SeekableRecording) -> dict[str, Any]:
    """Times in seconds: `at` in the recording, `start` in Unix time."""
    blob, rate = placed.span.blob, recording.sample_rate
    return {
        "at": placed.first / rate,
        "seconds": placed.samples / rate,
        "start": placed.span.start + placed.cut_seconds,
        "file": f"{blob.name.stem}{blob.name.kind.extension}",
        "name": blob.path,
        "bytes": blob.info.size,
        "codec": blob.codec,
        "sample_rate": blob.sample_rate,
        "protection": "enhanced" if blob.name.kind.encrypted else "standard",
        "trigger": blob.facts.trigger,
        "chunks": blob.facts.chunks,
        "seqs": blob.facts.seqs,
        "silence": placed.silence / rate,
        "left_out": placed.left_out,
        "cut": placed.cut_seconds,
        "overlap": max(0.0, placed.first / rate - (placed.span.start - (recording.start or 0.0))),
        "others": [other.path for other in placed.source.alternatives if other is not blob],
    }
