"""`audit`: is a conversation stored complete."""

from __future__ import annotations

import asyncio
from itertools import starmap
from typing import TYPE_CHECKING, Annotated, Any

import typer

from worker.cli import archives
from worker.cli.text import foreign, shown_bytes, shown_seconds

if TYPE_CHECKING:
    from rich.table import Table

    from worker.audit import Report
    from worker.settings import Settings

FAILED = 2
"""Exit code when the question could not be answered; 0 is complete and 1 is not, as with grep."""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("audit")(audit)


def audit(
    uid: archives.Uid,
    conversation: archives.Conversation,
    last_seq: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Number of the last chunk pushed without a session; else an end tells it, or the highest one seen.",
        ),
    ] = None,
    as_json: archives.Json = False,
) -> None:
    """Tell whether a conversation is stored complete. Exit code: 0 complete, 1 not, 2 could not tell.

    What is missing, doubled, still in Redis or in the dead letters is told by session and seq; without seq, gaps are
    told by time. With ENCRYPTION_SECRET only what blobs prove to hold counts, without it what they say.
    """
    from codec.errors import CodecError
    from worker import logs, settings
    from worker.errors import WorkerError

    logs.configure("warning", "console")
    try:
        with archives.retries_told():
            report = asyncio.run(_audit(settings.load(), uid, conversation, last_seq))
    except (WorkerError, CodecError) as error:
        typer.echo(f"audio-batch-worker: {error}", err=True)
        raise typer.Exit(FAILED) from error
    if as_json:
        archives.print_json(_facts(report))
    else:
        _print(report)
    raise typer.Exit(0 if report.complete else 1)


async def _audit(settings: Settings, uid: str, conversation_id: str, last_seq: int | None) -> Report:
    from worker.audit import audit, collect
    from worker.batch import Conversation
    from worker.stream.client import Client, connect
    from worker.stream.inspect import Inspector
    from worker.stream.keys import Keys

    store = archives.configured_store(settings)
    keys = Keys(settings.stream_prefix)
    try:
        async with Client(connect(settings.redis_url)) as client:
            partitions = await Inspector(client, keys).partitions(settings.partitions)
            conversation = Conversation(uid, conversation_id)
            evidence = await collect(client, keys, store, conversation, partitions=partitions, secrets=settings.secrets)
    finally:
        await store.close()
    return audit(evidence, gap_tolerance=settings.gap_tolerance, last_seq=last_seq)


def _facts(report: Report) -> dict[str, Any]:
    from codec.sessions import to_text
    from worker.batch import entry_ms

    evidence = report.evidence
    return {
        "complete": report.complete,
        "problems": list(report.problems()),
        "numbered": report.numbered,
        "authenticated": bool(evidence.secrets),
        "last_seq": report.last.get(""),
        "last": dict(report.last),
        "missing": to_text(report.missing) or "",
        "doubled": to_text(report.doubled) or "",
        "blobs": [
            {
                "name": blob.path,
                "start": blob.start,
                "end": blob.end,
                "chunks": blob.facts.chunks,
                "seqs": blob.facts.seqs,
            }
            for blob in evidence.blobs
        ],
        "unnumbered": [blob.path for blob in report.unnumbered],
        "in_redis": [
            {
                "entry": chunk.entry,
                "session": chunk.facts.session,
                "seq": chunk.facts.seq,
                "start": chunk.facts.start,
            }
            for chunk in report.waiting
        ],
        "dead_letters": [
            {
                "id": letter.name,
                "session": letter.chunk.session,
                "seq": letter.chunk.seq,
                "start": letter.chunk.start,
                "reason": letter.reason,
            }
            for letter in evidence.letters
        ],
        "seams": [{"start": seam.ended, "seconds": round(seam.seconds, 3)} for seam in report.seams],
        "absent": evidence.absent,
        "deleted": None if evidence.deleted is None else entry_ms(evidence.deleted) / 1000,
    }


def _print(report: Report) -> None:
    from rich.console import Console

    console = Console(highlight=False, soft_wrap=True)
    if report.evidence.blobs:
        console.print(_table(report))
    if report.complete:
        console.print(_proof(report), style="bold green")
    if not report.evidence.secrets and report.evidence.blobs:
        console.print("ENCRYPTION_SECRET is not set: what blobs say of themselves is believed", style="yellow")
    for problem in report.problems():
        console.print(problem, style="bold red", markup=False)


def _proof(report: Report) -> str:
    if report.numbered:
        return f"complete: {', '.join(starmap(_numbering, report.last.items()))}, each stored once"
    return "no gap in time; without seq this is all that can be told"


def _numbering(name: str, last: int) -> str:
    return f"{f'session {foreign(name)} ' if name else ''}seq 0-{last}"


def _table(report: Report) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for column in ("start (UTC)", "length", "chunks", "size", "seq", "file"):
        table.add_column(column, justify="right" if column in ("length", "chunks", "size") else "left", overflow="fold")
    seams = {seam.name: seam for seam in report.seams}
    for blob in report.evidence.blobs:
        if seam := seams.get(blob.path):
            what = "no audio" if seam.seconds > 0 else "audio over audio"
            table.add_row(f"[yellow]{what} for {shown_seconds(abs(seam.seconds))}[/]")
        table.add_row(
            archives.shown(blob.start),
            "?" if blob.duration is None else shown_seconds(blob.duration),
            "?" if blob.facts.chunks is None else str(blob.facts.chunks),
            shown_bytes(blob.info.size),
            foreign(blob.facts.seqs or "?"),
            f"{blob.name.stem}{blob.name.kind.extension}",
        )
    return table
