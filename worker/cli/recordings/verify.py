"""`verify`: reads stored recordings back."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from worker.cli import archives, options, printing

if TYPE_CHECKING:
    from worker.archive import Archive, BlobVerdict
    from worker.archive.upkeep.continuity import Discontinuity
    from worker.settings import Settings


@dataclass(slots=True)
class VerificationTally:
    """What a verification found so far."""

    intact: int = 0
    known: int = 0
    seconds: float = 0.0
    damaged: list[BlobVerdict] = field(default_factory=list)
    discontinuities: list[Discontinuity] = field(default_factory=list)
    unknown: printing.FirstFew = field(default_factory=lambda: printing.FirstFew(""))

    @property
    def seen(self) -> int:
        """The number of objects so far."""
        return self.intact + len(self.damaged)

    def summary(self) -> str:
        """One line."""
        again = f" ({self.known} of them in an earlier run)" if self.known else ""
        return f"{self.intact} objects are intact{again}, {self.seconds:,.0f} s; {len(self.damaged)} are not"

    def count(self, verdict: BlobVerdict) -> None:
        """Take note of an object."""
        if verdict.reason is not None:
            self.damaged.append(verdict)
            self._tell(verdict, verdict.reason)
            return
        self.intact += 1
        self.known += verdict.known
        self.seconds += verdict.seconds

    def _tell(self, verdict: BlobVerdict, reason: str) -> None:
        from worker.archive import UnknownObject

        if verdict.is_blob:
            printing.say(f"{verdict.name}: {reason}", err=True)
        else:
            self.unknown.tell(UnknownObject(verdict.name, verdict.fingerprint.size, reason))


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("verify")(verify)


def verify(
    uid: Annotated[
        str | None,
        typer.Option("--uid", callback=options.checked_id, help="Whose recordings; all that are stored without it."),
    ] = None,
    conversation: options.AnyConversation = None,
    report: Annotated[
        Path | None, typer.Option("--report", help="A file with a line per object; an interrupted run goes on there.")
    ] = None,
    as_json: options.Json = False,
) -> None:
    """Read everything back: checksums, encryption, containers, lengths, and how well blobs follow each other.

    Exits with 3 if anything is damaged. Gaps and overlaps are only told.
    """
    if conversation is not None and uid is None:
        raise typer.BadParameter("--conversation needs --uid")

    async def work(archive: Archive, _: Settings) -> VerificationTally:
        return await _verified(archive, uid, conversation, report)

    tally = archives.run_with_archive(work)
    tally.unknown.tell_rest()
    if as_json:
        printing.print_json(_described(tally))
    else:
        for discontinuity in tally.discontinuities:
            kind = "gap" if discontinuity.seconds > 0 else "overlap"
            printing.say(f"{discontinuity.name}: {kind} of {abs(discontinuity.seconds):.1f} s before it")
        typer.echo(tally.summary())
    printing.finish(complete=not tally.damaged)


async def _verified(
    archive: Archive, uid: str | None, conversation: str | None, report: Path | None
) -> VerificationTally:
    from worker.archive.upkeep import verification_report
    from worker.archive.upkeep.continuity import Continuity

    tally, continuity = VerificationTally(), Continuity()
    known = verification_report.intact(report) if report is not None else {}
    goes_on = "" if report is None else "; the same command goes on"
    async with printing.counted_progress("verifying", lambda: archive.count(uid, conversation)) as progress:
        with (
            printing.told_if_stopped(lambda: tally.summary() + goes_on),
            verification_report.appending(report) if report else nullcontext() as note,
        ):
            async for verdict in archive.verify(uid, conversation, known=known):
                if note is not None and not verdict.known:
                    note(verdict)
                tally.count(verdict)
                tally.discontinuities += continuity.add(verdict.name, verdict.extent, readable=verdict.readable)
                progress(tally.seen)
    tally.discontinuities += continuity.finish()
    return tally


def _described(tally: VerificationTally) -> dict[str, object]:
    return {
        "intact": tally.intact,
        "known": tally.known,
        "seconds": tally.seconds,
        "damaged": [{"name": verdict.name, "reason": verdict.reason} for verdict in tally.damaged],
        "discontinuities": [
            {"name": discontinuity.name, "seconds": discontinuity.seconds} for discontinuity in tally.discontinuities
        ],
    }
