"""`ls`: lists users, or the blobs of a user or a conversation."""

from __future__ import annotations

from collections import defaultdict
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from worker.cli import archives, options, printing
from worker.cli.text import counted, foreign

if TYPE_CHECKING:
    from collections.abc import Mapping

    from worker.archive import Archive, Blob, Listing
    from worker.settings import Settings


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("ls")(ls)


def ls(
    uid: Annotated[
        str | None, typer.Option("--uid", callback=options.checked_id, help="Whose recordings; without it, all users.")
    ] = None,
    conversation: options.AnyConversation = None,
    as_json: options.Json = False,
) -> None:
    """List the users, or the blobs of a user or of one conversation in time order.

    The list of users costs one request per thousand users, and tells nothing of their recordings. That of blobs costs
    one request per thousand objects. Exits with 3 if the metadata of some blobs can't be read: they are named, and
    listed all the same.
    """
    if uid is None:
        if conversation is not None:
            raise typer.BadParameter("--conversation needs --uid")
        _list_users(as_json=as_json)
    else:
        _list_blobs(uid, conversation, as_json=as_json)


def _list_users(*, as_json: bool) -> None:
    async def work(archive: Archive, _: Settings) -> list[str]:
        found = []
        async for user in archive.users():
            found.append(user)
            if not as_json:
                printing.say(user)
        return found

    with printing.progress("listing"):
        users = archives.run_with_archive(work)
    if as_json:
        printing.print_json({"users": users})
    else:
        typer.echo(counted(len(users), "user"), err=True)


def _list_blobs(uid: str, conversation: str | None, *, as_json: bool) -> None:
    with printing.progress("listing"):
        listing, secrets = archives.run_with_archive(partial(_listing, uid, conversation))
    best = _best_alternatives(listing)
    if as_json:
        printing.print_json(
            {
                "blobs": [blob_facts(blob) | {"same_audio_as": best.get(blob.path)} for blob in listing.blobs],
                "others": [printing.unknown_facts(other) for other in listing.unknown],
            }
        )
    else:
        _print_table(listing, best)
    printing.describe_unknown(listing.unknown)
    printing.describe_missing_secrets(listing.blobs, secrets)
    flawed = [blob for blob in listing.blobs if blob.info.flaw]
    for blob in flawed:
        printing.say(f"listed without its metadata: {blob.path}: {blob.info.flaw}", err=True)
    printing.finish(complete=not flawed)


async def _listing(
    uid: str, conversation: str | None, archive: Archive, settings: Settings
) -> tuple[Listing, list[str]]:
    """The listing, and the secrets that can be read with."""
    return await archive.list(uid, conversation), settings.secrets


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


def _best_alternatives(listing: Listing) -> Mapping[str, str]:
    """The blobs whose audio is that of another blob, as between two steps of a conversion; each with the other one."""
    from worker.archive.blobs.alternatives import group_alternatives

    conversations: dict[str, list[Blob]] = defaultdict(list)
    for blob in listing.blobs:
        conversations[blob.name.conversation_id].append(blob)
    sources = [source for blobs in conversations.values() for source in group_alternatives(blobs)]
    return {
        other.path: source.alternatives[0].path
        for source in sources
        for other in source.alternatives
        if other is not source.alternatives[0]
    }


def _print_table(listing: Listing, best: Mapping[str, str]) -> None:
    columns = ("conversation", "start (UTC)", "seconds", "bytes", "codec", "protection", "file")
    table = printing.plain_table(*columns, right=("seconds", "bytes"))
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
    printing.print_table(table)
    once = [blob for blob in listing.blobs if blob.path not in best]
    seconds = sum(blob.duration or 0.0 for blob in once)
    size = sum(blob.info.size for blob in listing.blobs)
    again = f"; {len(best)} more with the same audio as one of them" if best else ""
    typer.echo(f"{counted(len(once), 'blob')}, {seconds:,.1f} s, {size:,} bytes{again}")
