"""`ls`: lists the blobs of a user or a conversation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer

from worker.cli import archives, options, printing
from worker.cli.text import counted, foreign

if TYPE_CHECKING:
    from worker.archive import Blob, Listing


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("ls")(ls)


def ls(uid: options.Uid, conversation: options.AnyConversation = None, as_json: options.Json = False) -> None:
    """List the blobs of a user or of one conversation, in time order."""
    with printing.progress("listing"):
        listing = archives.run_with_archive(lambda archive, _: archive.list(uid, conversation))
    if as_json:
        printing.print_json(
            {
                "blobs": [blob_facts(blob) for blob in listing.blobs],
                "others": [{"name": o.name, "size": o.size, "reason": o.reason} for o in listing.unknown],
            }
        )
        return
    _print_table(listing)
    for other in listing.unknown:
        printing.say(f"no blob: {other.name}: {other.reason}", err=True)


def blob_facts(blob: Blob) -> dict[str, Any]:
    """A blob's facts for JSON; times in Unix seconds, `duration` null where only reading tells it."""
    return {
        "name": blob.path,
        "conversation_id": blob.name.conversation_id,
        "kind": blob.name.kind.extension,
        "start": blob.start,
        "last_chunk": blob.name.end,
        "end": blob.end,
        "duration": blob.duration,
        "size": blob.info.size,
        "codec": blob.codec,
        "sample_rate": blob.sample_rate,
        "protection": "enhanced" if blob.name.kind.encrypted else "standard",
        "metadata": dict(blob.info.metadata),
    }


def _print_table(listing: Listing) -> None:
    from rich.table import Table

    table = Table(box=None)
    for heading in ("conversation", "start (UTC)", "seconds", "bytes", "codec", "protection", "file"):
        table.add_column(heading, no_wrap=True, justify="right" if heading in ("seconds", "bytes") else "left")
    for blob in listing.blobs:
        table.add_row(
            foreign(blob.name.conversation_id),
            printing.format_time(blob.start),
            "?" if blob.duration is None else f"{blob.duration:.2f}",
            f"{blob.info.size:,}",
            blob.codec,
            "enhanced" if blob.name.kind.encrypted else "standard",
            f"{blob.name.stem}{blob.name.kind.extension}",
        )
    printing.table_console().print(table)
    seconds = sum(blob.duration or 0.0 for blob in listing.blobs)
    size = sum(blob.info.size for blob in listing.blobs)
    typer.echo(f"{counted(len(listing.blobs), 'blob')}, {seconds:,.1f} s, {size:,} bytes")
