"""`rm`: deletes recordings, in the store and on their way there."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from worker.cli import archives, confirming, options, printing
from worker.cli.text import counted, printable
from worker.errors import StreamError

if TYPE_CHECKING:
    from worker.archive import Archive, Deletion
    from worker.settings import Settings
    from worker.stream.tombstones import Tombstones


NOT_TOLD = "REDIS_URL is not set: audio that is still on its way will be stored; if there is none, say --store-only"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("rm")(rm)


def rm(
    uid: options.Uid,
    conversation: options.AnyConversation = None,
    at: Annotated[
        list[str] | None, typer.Option("--at", help="Only the blobs that start at this timestamp; repeatable.")
    ] = None,
    store_only: Annotated[
        bool, typer.Option("--store-only", help="Do not tell Redis: no worker has audio of them any more.")
    ] = False,
    dry_run: options.DryRun = False,
    yes: confirming.Yes = False,
    as_json: options.Json = False,
) -> None:
    """Delete a conversation, or a user with all conversations, and make sure that nothing is left or comes back.

    Redis is told first, so that chunks on their way are not stored, then the store, so that nothing else brings them
    back. Exits with 3 if something is left or may come back, and says why. Asks before it deletes a whole user.
    """
    if at is not None and conversation is None:
        raise typer.BadParameter("--at needs --conversation")
    sure = yes or dry_run or conversation is not None
    confirming.must_be_answerable(f"this deletes all recordings of the user {printable(uid)}", yes=sure)

    needed = at is None and not store_only and not dry_run

    async def work(archive: Archive, settings: Settings) -> Deletion:
        if at is not None and conversation is not None:
            timestamps = [options.moment(text) for text in at]
            return await archive.delete_chunks(uid, conversation, timestamps, dry_run=dry_run)
        if not sure:
            confirming.confirm(await _question(archive, uid), yes=False)
        async with _tombstones(settings, needed=needed) as tombstones:
            with printing.progress("deleting") as progress, printing.told_if_stopped(lambda: _so_far(progress)):
                return await archive.delete(
                    uid, conversation, tombstones=tombstones, dry_run=dry_run, progress=progress
                )

    deletion = archives.run_with_archive(work)
    if as_json:
        printing.print_json(_described(deletion, dry_run=dry_run))
    else:
        _print(deletion, dry_run=dry_run)
    printing.finish(complete=deletion.complete and (not needed or deletion.partitions is not None))


def _so_far(progress: printing.Bar) -> str:
    return f"{counted(progress.done, 'object')} deleted; the same command deletes the rest"


async def _question(archive: Archive, uid: str) -> str:
    """What the deletion of the whole user would delete."""
    found = await archive.delete(uid, tombstones=None, dry_run=True)
    conversations = {"/".join(name.split("/")[2:3]) for name in found.names}
    stored = f"{counted(len(found.names), 'object')} of {counted(len(conversations), 'conversation')}"
    return f"Delete {stored} of the user {printable(uid)}, and what is still on its way, for good?"


@asynccontextmanager
async def _tombstones(settings: Settings, *, needed: bool) -> AsyncIterator[Tombstones | None]:
    """The tombstones to record; None if that is not needed, or if REDIS_URL is not set and Redis does not answer."""
    from worker.stream.tombstones import open_tombstones

    async with AsyncExitStack() as stack:
        tombstones = None
        if needed:
            redis = open_tombstones(settings.redis.url, settings.stream_prefix, settings.stated_partitions)
            try:
                tombstones = await stack.enter_async_context(redis)
            except StreamError as error:
                if "redis_url" in settings.model_fields_set:
                    raise StreamError(f"nothing is deleted: {error}; if no worker is left, say --store-only") from error
                typer.echo(NOT_TOLD, err=True)
        yield tombstones


def _described(deletion: Deletion, *, dry_run: bool) -> dict[str, object]:
    return {
        "dry_run": dry_run,
        "deleted": deletion.names,
        "bytes": deletion.bytes,
        "left": [{"name": left.name, "reason": left.reason} for left in deletion.left],
        "absent": deletion.absent,
        "redis_told": deletion.partitions is not None,
        "dead_letters": deletion.dead_letters,
        "replicas": deletion.replicas,
        "unconfirmed_replicas": deletion.unconfirmed_replicas,
    }


def _print(deletion: Deletion, *, dry_run: bool) -> None:
    for name in deletion.names:
        printing.say(name)
    for timestamp in deletion.absent:
        typer.echo(f"no blob starts at {timestamp:.3f}", err=True)
    for left in deletion.left:
        printing.say(f"not deleted: {left.name}: {left.reason}", err=True)
    if deletion.unconfirmed_replicas:
        typer.echo(_unconfirmed(deletion), err=True)
    did = "would be deleted" if dry_run else "deleted"
    typer.echo(f"{counted(len(deletion.names), 'object')}, {deletion.bytes:,} bytes {did}", err=True)


def _unconfirmed(deletion: Deletion) -> str:
    return (
        f"{deletion.unconfirmed_replicas} of {deletion.replicas} replicas have not confirmed the deletion: "
        "a failover now may bring back what is still on its way"
    )
