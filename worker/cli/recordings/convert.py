"""`convert`: turns old PCM blobs into Opus."""

from __future__ import annotations

import json
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from worker.cli import archives, options, printing

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractAsyncContextManager

    from worker.archive import Archive, Conversion
    from worker.settings import Settings


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("convert")(convert)


def convert(
    uid: Annotated[str | None, typer.Option("--uid", callback=options.checked_id, help="Whose recordings.")] = None,
    conversation: options.AnyConversation = None,
    everything: Annotated[bool, typer.Option("--all", help="Of all users; in place of --uid.")] = False,
    do_it: Annotated[
        bool, typer.Option("--yes", help="Convert and delete the old blobs; without it they are only listed.")
    ] = False,
    as_json: options.Json = False,
) -> None:
    """Turn old PCM blobs into Opus, a thirteenth of the size.

    Each new blob is read back and compared before the old one is deleted. May be stopped and run again at any time.
    Exits with 3 if some blobs had to be kept. With --json it prints a line per blob.
    """
    from worker.archive import Encoding

    if (uid is None) != everything or (conversation is not None and uid is None):
        raise typer.BadParameter("give --uid, with or without --conversation, or --all")

    async def work(archive: Archive, settings: Settings) -> ConversionTally:
        if do_it:
            settings.require_storage()
        opus, others = settings.encoding.opus, printing.FirstFew()
        encoding = Encoding(settings.secret, opus.complexity, opus.bitrate, opus.application)
        conversions = archive.convert(encoding, uid, conversation, dry_run=not do_it, on_unknown=others.tell)
        tally = ConversionTally()
        with printing.told_if_stopped(lambda: f"{tally.summary(do_it=do_it)}; the same command goes on"):
            async with _progress(archive, uid, conversation) as progress, aclosing(conversions) as converted:
                async for conversion in converted:
                    tally.count(conversion)
                    _tell(conversion, as_json=as_json)
                    progress(tally.changed + tally.kept)
        others.tell_rest()
        return tally

    tally = archives.run_with_archive(work)
    if not as_json:
        typer.echo(tally.summary(do_it=do_it))
    printing.finish(complete=not tally.kept)


def _progress(
    archive: Archive, uid: str | None, conversation: str | None
) -> AbstractAsyncContextManager[Callable[[int], None]]:
    return printing.counted_progress("converting", lambda: archive.count(uid, conversation, codec="pcm"))


@dataclass(slots=True)
class ConversionTally:
    """What a conversion did, or would do, so far; in blobs and bytes."""

    changed: int = 0
    kept: int = 0
    before: int = 0
    after: int = 0

    def count(self, conversion: Conversion) -> None:
        """Take note of a blob."""
        if conversion.reason:
            self.kept += 1
            return
        self.changed += 1
        self.before += conversion.blob.info.size
        self.after += conversion.size

    def summary(self, *, do_it: bool) -> str:
        """One line."""
        kept = f", {self.kept} kept" if self.kept else ""
        if do_it:
            return f"{self.changed} blobs converted: {self.before:,} bytes became {self.after:,}{kept}"
        return f"{self.changed} blobs of {self.before:,} bytes would be converted{kept}: say --yes to do it"


def _tell(conversion: Conversion, *, as_json: bool) -> None:
    if as_json:
        printing.write(json.dumps(_described(conversion)))
    elif conversion.reason:
        printing.say(f"kept {conversion.blob.path}: {conversion.reason}", err=True)
    else:
        printing.say(f"{conversion.blob.path} → {conversion.target}")


def _described(conversion: Conversion) -> dict[str, object]:
    return {
        "source": conversion.blob.path,
        "target": conversion.target,
        "outcome": conversion.outcome.value,
        "reason": conversion.reason or None,
        "bytes_before": conversion.blob.info.size,
        "bytes_after": conversion.size or None,
    }
