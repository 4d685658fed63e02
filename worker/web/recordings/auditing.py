"""Whether a conversation is stored complete, and what of it is not in the store, with its place in time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from aiohttp import web

from codec.sessions import from_text
from worker.archive.audit import AuditReport, audit_conversation, collect
from worker.model.ids import Conversation
from worker.stream.config import recorded_layouts
from worker.stream.inspection.conversation_view import ChunkFacts, ConversationView
from worker.stream.keys import Keys
from worker.web.replies import json_reply
from worker.web.site import parameter, site_of

if TYPE_CHECKING:
    from codec.seqs import Span
    from worker.web.site import Site


def routes() -> list[web.RouteDef]:
    """The route of the audit."""
    return [web.get("/api/audit", show_audit)]


async def show_audit(request: web.Request) -> web.Response:
    """The verdict in words, and marks for the time line; times in Unix seconds."""
    conversation = Conversation(parameter(request, "uid"), parameter(request, "conversation"))
    if site_of(request).client is None:
        return json_reply({"unavailable": "REDIS_URL is not set"})
    with site_of(request).limits.searches.taken():
        report = await _report(site_of(request), conversation)
    evidence = report.evidence
    return json_reply(
        {
            "verdict": report.verdict,
            "numbered": report.numbered,
            "authenticated": bool(evidence.secrets),
            "problems": list(report.problems()),
            "waiting": [_chunk(chunk.facts) for chunk in report.waiting],
            "letters": [
                _chunk(letter.chunk) | {"name": letter.name, "reason": letter.reason} for letter in evidence.letters
            ],
            "missing": list(_missing(report)),
            "discontinuities": [{"start": each.ended, "seconds": each.seconds} for each in report.discontinuities],
        }
    )


async def _report(site: Site, conversation: Conversation) -> AuditReport:
    client, settings, keys = site.need_client(), site.settings, Keys(site.settings.stream_prefix)
    layouts = await recorded_layouts(client, keys, settings.partitions)
    views = [
        ConversationView(client, keys, partition, conversation)
        for partition in layouts.partitions_of(conversation.conversation_id)
    ]
    evidence = await collect(views, site.need_store(), settings.secrets)
    return audit_conversation(evidence, gap_tolerance=settings.gap_tolerance)


def _chunk(facts: ChunkFacts) -> dict[str, Any]:
    return {"start": facts.start, "end": facts.end, "seq": facts.seq, "session": facts.session}


def _missing(report: AuditReport) -> Iterator[dict[str, Any]]:
    """Missing numbers, each span with the end of the blob that has the numbers before it."""
    for numbering, spans in report.missing.items():
        for span in spans:
            yield {"session": numbering, "seqs": str(span), "after": _end_before(report, numbering, span)}


def _end_before(report: AuditReport, numbering: str, missing: Span) -> float | None:
    """The Unix seconds at which the audio before missing numbers ends; None if no blob tells."""
    session = numbering.rpartition("/")[2]
    ends = [
        (span.last, blob.end)
        for blob in report.evidence.blobs
        for span in (from_text(blob.facts.seqs) or {}).get(session, ())
        if span.last < missing.first
    ]
    return max(ends, default=(0, None))[1]
