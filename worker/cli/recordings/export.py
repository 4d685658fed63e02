"""`export`: writes a conversation to one audio file."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from worker.cli import archives, options, printing
from worker.cli.text import counted

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from worker.archive import Archive, Download, DownloadReport
    from worker.settings import Settings


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("export")(export)


def _output(path: Path) -> Path:
    if str(path) == "-":
        raise typer.BadParameter("recordings are not written to standard output: give the name of a file")
    return path


def export(
    uid: options.Uid,
    conversation: options.Conversation,
    output: Annotated[
        Path,
        typer.Option("-o", "--output", callback=_output, help="WAV, or bare samples if it ends with .pcm or .raw."),
    ],
    since: Annotated[str | None, typer.Option("--from", help="Unix seconds or ISO 8601 (UTC).")] = None,
    until: Annotated[str | None, typer.Option("--to", help="Where it ends, likewise.")] = None,
    at: Annotated[list[str] | None, typer.Option("--at", help="Only the blob of this timestamp; repeatable.")] = None,
    rate: Annotated[int | None, typer.Option(min=1000, max=192000, help="Hz; by default the highest found.")] = None,
    fill_gaps: Annotated[bool, typer.Option(help="Put silence where nothing was recorded.")] = True,
    trim_overlaps: Annotated[
        bool, typer.Option("--trim-overlaps", help="Trust the timestamps: cut what overlaps instead of shifting it.")
    ] = False,
    as_json: options.Json = False,
) -> None:
    """Write a conversation, or a part of it, into one audio file.

    Exits with 3 if some blobs could not be read: they are named, and the rest is written. Blobs that overlap another
    one and sound alike are named too; their audio is written once.
    """
    from worker.archive import MergeRules, Selection

    timestamps = None if at is None else [options.moment(text) for text in at]
    start, end = (None if text is None else options.moment(text) for text in (since, until))

    async def work(archive: Archive, settings: Settings) -> DownloadReport:
        selection = Selection(start, end, timestamps)
        rules = MergeRules(fill_gaps, trim_overlaps, settings.gap_tolerance)
        begin = partial(archive.download, uid, conversation, selection=selection, rules=rules, sample_rate=rate)
        return await _saved(archive, begin, output)

    report = archives.run_with_archive(work)
    if as_json:
        printing.print_json({"file": str(output), **report_facts(report)})
    else:
        typer.echo(f"{output}: {report.seconds:.2f} s at {report.sample_rate} Hz from {counted(report.blobs, 'blob')}")
        if report.trimmed:
            typer.echo(f"cut {report.trimmed:.3f} s of audio over audio, because the timestamps are exact", err=True)
    printing.finish(complete=report.complete)


async def _saved(archive: Archive, begin: Callable[..., Awaitable[Download]], output: Path) -> DownloadReport:
    with printing.progress("exporting") as progress, printing.told_if_stopped(lambda: _so_far(progress)):
        download = await begin(progress=progress)
        try:
            return await archive.save(download, output)
        finally:
            printing.describe_problems(download.report.problems)
            printing.describe_repeats(download.report.repeated)
            printing.describe_unknown(download.report.unknown)
            for timestamp in download.report.missing:
                printing.write(f"nothing is stored for the timestamp {timestamp:.3f}", err=True)


def _so_far(progress: printing.Bar) -> str:
    return f"{progress.done} of {progress.total} blobs were read; no file is written"


def report_facts(report: DownloadReport) -> dict[str, Any]:
    """A report for JSON."""
    return {
        "start": report.start,
        "seconds": report.seconds,
        "samples": report.samples,
        "sample_rate": report.sample_rate,
        "blobs": report.blobs,
        "silence_seconds": report.silence,
        "left_out_seconds": report.left_out,
        "shifted_seconds": report.shifted,
        "trimmed_seconds": report.trimmed,
        "problems": [printing.problem_facts(problem) for problem in report.problems],
        "repeated": [printing.repeat_facts(repeat) for repeat in report.repeated],
        "others": [printing.unknown_facts(other) for other in report.unknown],
        "missing": report.missing,
    }
