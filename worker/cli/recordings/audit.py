"""`audit`: tells whether a conversation is stored complete."""

from __future__ import annotations

import asyncio
import traceback
from typing import TYPE_CHECKING, Annotated, Any

import typer

from worker.cli import archives, options, output, printing
from worker.cli.text import foreign, shown_bytes, shown_seconds

if TYPE_CHECKING:
    from rich.table import Table

    from codec.sessions import Numbers
    from worker.archive.audit import AuditReport
    from worker.archive.blobs.listing import Blob
    from worker.settings import Settings
    from worker.stream.inspection.conversation_view import ChunkFacts
    from worker.stream.inspection.dead_letters import DeadLetter

FAILED = 2
"""Exit code when the question can't be answered; 0 is complete and 1 is not, as with grep."""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("audit")(audit)


def audit(
    uid: options.Uid,
    conversation: options.Conversation,
    last_seq: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Number of the last chunk pushed without a session; else an end tells it, or the highest one seen.",
        ),
    ] = None,
    as_json: options.Json = False,
) -> None:
    """Tell whether a conversation is stored complete. Exit code: 0 complete, 1 not, 2 could not tell.

    What is missing, doubled, still in Redis or in the dead letters is told by session and seq; without seq, gaps are
    told by time. With ENCRYPTION_SECRET, a chunk in Redis counts as stored only if a blob proves to hold it; without,
    what blobs say is believed, as their seq always is. It can't be told if blobs don't say which seq they hold, or if
    nothing is known of the conversation.

    In JSON, "missing" and "doubled" are objects from session to numbers, as {"a1b2": "3-5,9"}. The session is "" for
    chunks without one, and follows "CONVERSATION/" for audio that was copied from another conversation.
    """
    from worker import settings
    from worker.errors import WorkerError
    from worker.runtime import logs

    logs.configure("warning", "console")
    try:
        with archives.retries_told():
            report = asyncio.run(_audit(settings.load(), uid, conversation, last_seq))
    except WorkerError as error:
        typer.echo(f"audio-batch-worker: {error}", err=True)
        raise typer.Exit(FAILED) from error
    except Exception as error:
        traceback.print_exc()  # Python's own exit code, 1, would say that the conversation is not complete
        raise typer.Exit(FAILED) from error
    printing.describe_unknown(report.evidence.unknown)
    try:
        _answer(report, as_json=as_json)
    except output.OutputFailed as error:
        typer.echo(f"audio-batch-worker: standard output can't be written: {error}", err=True)
        output.discard()
        raise typer.Exit(FAILED) from error
    raise typer.Exit(_exit_code(report))


def _answer(report: AuditReport, *, as_json: bool) -> None:
    if as_json:
        printing.print_json(_facts(report))
    else:
        _print(report)
    output.flush()


def _exit_code(report: AuditReport) -> int:
    from worker.archive.audit import AuditVerdict

    return {AuditVerdict.COMPLETE: 0, AuditVerdict.INCOMPLETE: 1, AuditVerdict.UNKNOWN: FAILED}[report.verdict]


async def _audit(settings: Settings, uid: str, conversation_id: str, last_seq: int | None) -> AuditReport:
    from worker.archive.audit import audit_conversation, collect
    from worker.model.ids import Conversation
    from worker.stream.client import Client
    from worker.stream.config import recorded_layouts
    from worker.stream.inspection.conversation_view import ConversationView
    from worker.stream.keys import Keys
    from worker.stream.servers.connecting import connect

    store = archives.configured_store(settings)
    keys = Keys(settings.stream_prefix)
    try:
        async with Client(connect(settings.redis.url)) as client:
            layouts = await recorded_layouts(client, keys, settings.partitions)
            views = [
                ConversationView(client, keys, partition, Conversation(uid, conversation_id))
                for partition in layouts.partitions_of(conversation_id)
            ]
            evidence = await collect(views, store, settings.secrets)
    finally:
        await store.close()
    return audit_conversation(evidence, gap_tolerance=settings.gap_tolerance, last_seq=last_seq)


def _facts(report: AuditReport) -> dict[str, Any]:
    from worker.model.ids import entry_ms

    evidence = report.evidence
    return {
        "complete": report.complete,
        "verdict": report.verdict,
        "problems": list(report.problems()),
        "numbered": report.numbered,
        "authenticated": bool(evidence.secrets),
        "last_seq": report.last.get(""),
        "last": dict(report.last),
        "missing": _texts(report.missing),
        "doubled": _texts(report.doubled),
        "blobs": [_blob_facts(blob) for blob in evidence.blobs],
        "unnumbered": [blob.path for blob in report.unnumbered],
        "in_redis": _waiting_facts(report),
        "dead_letters": [_dead_letter_facts(letter) for letter in evidence.letters],
        "discontinuities": [{"start": one.ended, "seconds": round(one.seconds, 3)} for one in report.discontinuities],
        "absent": evidence.absent,
        "others": [printing.unknown_facts(other) for other in evidence.unknown],
        "deleted": None if evidence.deleted is None else entry_ms(evidence.deleted) / 1000,
    }


def _blob_facts(blob: Blob) -> dict[str, Any]:
    facts = {"chunks": blob.facts.chunks, "seqs": blob.facts.seqs}
    return {"name": blob.path, "start": blob.start, "end": blob.end, **facts}


def _waiting_facts(report: AuditReport) -> list[dict[str, Any]]:
    undecided = {chunk.entry for chunk in report.undecided}
    return [
        {"entry": chunk.entry, **_chunk_facts(chunk.facts), "provable": chunk.entry not in undecided}
        for chunk in report.waiting
    ]


def _dead_letter_facts(letter: DeadLetter) -> dict[str, Any]:
    return {"id": letter.name, **_chunk_facts(letter.chunk), "reason": letter.reason}


def _chunk_facts(chunk: ChunkFacts) -> dict[str, Any]:
    return {"session": chunk.session, "seq": chunk.seq, "start": chunk.start}


def _texts(numbers: Numbers) -> dict[str, str]:
    from codec.seqs import format_spans, merged

    return {name: format_spans(merged(spans)) for name, spans in numbers.items()}


def _print(report: AuditReport) -> None:
    console = printing.table_console()
    if report.evidence.blobs:
        printing.print_table(_table(report))
    if report.complete:
        console.print(foreign(_proof(report), "bold green"))
    if not report.evidence.secrets and report.evidence.blobs:
        console.print("ENCRYPTION_SECRET is not set: what blobs say of themselves is believed", style="yellow")
    for problem in report.problems():
        console.print(foreign(problem, "bold red"))


def _proof(report: AuditReport) -> str:
    from worker.archive.audit import named

    if report.numbered:
        numbers = ", ".join(f"{named(name)}seq 0-{last}" for name, last in report.last.items())
        return f"complete: {numbers}, each stored once"
    return "no gap in time; without seq this is all that can be told"


def _table(report: AuditReport) -> Table:
    columns = ("start (UTC)", "length", "chunks", "size", "seq", "file")
    table = printing.plain_table(*columns, right=("length", "chunks", "size"))
    discontinuities = {discontinuity.name: discontinuity for discontinuity in report.discontinuities}
    for blob in report.evidence.blobs:
        if discontinuity := discontinuities.get(blob.path):
            what = "no audio" if discontinuity.seconds > 0 else "audio over audio"
            table.add_row(f"[yellow]{what} for {shown_seconds(abs(discontinuity.seconds))}[/]")
        table.add_row(
            printing.format_time(blob.start),
            "?" if blob.duration is None else shown_seconds(blob.duration),
            "?" if blob.facts.chunks is None else str(blob.facts.chunks),
            shown_bytes(blob.info.size),
            foreign(blob.facts.seqs or "?"),
            f"{blob.name.stem}{blob.name.kind.extension}",
        )
    return table
