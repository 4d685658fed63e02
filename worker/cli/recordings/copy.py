"""`copy`: merges conversations."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from worker.cli import archives, options, printing

if TYPE_CHECKING:
    from worker.archive import Archive, CopyReport
    from worker.settings import Settings


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("copy")(copy)


def copy(
    uid: options.Uid,
    sources: Annotated[
        list[str], typer.Option("--from", callback=options.checked_id, help="A conversation to copy; repeatable.")
    ],
    target: Annotated[
        str, typer.Option("--to", callback=options.checked_id, help="The conversation that gets the copies.")
    ],
    dry_run: options.DryRun = False,
    as_json: options.Json = False,
) -> None:
    """Copy all blobs of some conversations into another one, inside the store; the sources stay.

    Doing it again copies only what is missing. Exits with 3 if some blobs could not be copied.
    """

    async def work(archive: Archive, _: Settings) -> CopyReport:
        with printing.progress("copying") as progress, printing.told_if_stopped(lambda: _so_far(progress)):
            return await archive.copy(uid, sources, target, dry_run=dry_run, progress=progress)

    report = archives.run_with_archive(work)
    printing.describe_problems(report.problems)
    printing.describe_unknown(report.unknown, "not copied, no blob: ")
    if as_json:
        printing.print_json(_described(report, dry_run=dry_run))
    else:
        _print(report, dry_run=dry_run)
    printing.finish(complete=not report.problems)


def _so_far(progress: printing.Bar) -> str:
    return f"{progress.done} of {progress.total} blobs are copied; the same command copies the rest"


def _described(report: CopyReport, *, dry_run: bool) -> dict[str, object]:
    return {
        "dry_run": dry_run,
        "copies": [
            {"source": copy.blob.path, "target": str(copy.target), "exists": copy.exists, "renamed": copy.renamed}
            for copy in report.copies
        ],
        "problems": [{"name": problem.name, "reason": problem.reason} for problem in report.problems],
        "others": [other.name for other in report.unknown],
    }


def _print(report: CopyReport, *, dry_run: bool) -> None:
    for copy in report.copies:
        if copy.renamed:
            printing.say(f"{copy.blob.path} becomes {copy.target}: its place is taken")
    present = sum(copy.exists for copy in report.copies)
    did = "would be copied" if dry_run else "copied"
    typer.echo(f"{len(report.copies) - present - len(report.problems)} blobs {did}, {present} were there already")
