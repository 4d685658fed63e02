"""`export`: writes a conversation to one audio file."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from worker.audio.writing.formats import AudioFormat, promised_format
from worker.audio.writing.output import STANDARD_OUTPUT, writing
from worker.cli import archives, options, printing
from worker.cli.text import counted

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from worker.archive import Archive, Download, DownloadReport
    from worker.settings import Settings


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("export")(export)


def export(
    uid: options.Uid,
    conversation: options.Conversation,
    output: Annotated[
        Path,
        typer.Option(
            "-o", "--output", help="Ends with .wav, .flac, .mp3, .ogg, .opus, .pcm or .raw; - is standard output."
        ),
    ],
    since: Annotated[str | None, typer.Option("--from", help="Unix seconds or ISO 8601 (UTC).")] = None,
    until: Annotated[str | None, typer.Option("--to", help="Where it ends, likewise.")] = None,
    at: Annotated[list[str] | None, typer.Option("--at", help="Only the blob of this timestamp; repeatable.")] = None,
    rate: Annotated[int | None, typer.Option(min=1000, max=192000, help="Hz; by default the highest found.")] = None,
    fill_gaps: Annotated[bool, typer.Option(help="Put silence where nothing was recorded.")] = True,
    trim_overlaps: Annotated[
        bool, typer.Option("--trim-overlaps", help="Trust the timestamps: cut what overlaps instead of shifting it.")
    ] = False,
    form: Annotated[
        AudioFormat | None, typer.Option("--format", help="By default what the name ends with, else WAV.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is there.")] = False,
    as_json: options.Json = False,
) -> None:
    """Write a conversation, or a part of it, into one audio file.

    Ogg Opus holds the stored packets as they are, without loss: each blob is a link of a chained Ogg. WAV, FLAC and MP3
    are one piece for any player. With `-o -` all messages, and the JSON, go to standard error.

    Exits with 3 if some blobs could not be read: they are named, and the rest is written. Blobs that overlap another
    one and sound alike are named too; their audio is written once.
    """
    from worker.archive import MergeRules, Selection

    chosen = _checked_format(output, form, rate, force=force)
    timestamps = None if at is None else [options.moment(text) for text in at]
    start, end = (None if text is None else options.moment(text) for text in (since, until))

    async def work(archive: Archive, settings: Settings) -> DownloadReport:
        selection = Selection(start, end, timestamps)
        rules = MergeRules(fill_gaps, trim_overlaps, settings.gap_tolerance)
        begin = partial(archive.download, uid, conversation, selection=selection, rules=rules, sample_rate=rate)
        return await _saved(archive, begin, output, chosen)

    _tell(output, archives.run_with_archive(work), as_json=as_json)


def _checked_format(output: Path, form: AudioFormat | None, rate: int | None, *, force: bool) -> AudioFormat:
    """The format to write; refuses what would be overwritten, or can't be written, before anything is read."""
    chosen = form or promised_format(output)
    if str(output) == STANDARD_OUTPUT:
        if sys.stdout.isatty():
            raise typer.BadParameter("a terminal can't show audio: pipe it into a program, or give the name of a file")
    elif not force:
        with writing(output):
            there = output.is_file()
        if there:
            raise typer.BadParameter(f"{output} is there already: give another name, or --force to replace it")
    if chosen is AudioFormat.OPUS and rate is not None:
        raise typer.BadParameter("Ogg Opus keeps the stored packets, which have their rate: leave --rate out")
    return chosen


def _tell(output: Path, report: DownloadReport, *, as_json: bool) -> None:
    to_stderr = str(output) == STANDARD_OUTPUT
    name = "standard output" if to_stderr else str(output)
    if report.encoded:
        typer.echo(f"{counted(report.encoded, 'blob')} of PCM had to be encoded as Opus", err=True)
    if as_json:
        printing.print_json({"file": name, **report_facts(report)}, err=to_stderr)
    else:
        what = f"{report.seconds:.2f} s at {report.sample_rate} Hz from {counted(report.blobs, 'blob')}"
        typer.echo(f"{name}: {what}", err=to_stderr)
        if report.trimmed:
            typer.echo(f"cut {report.trimmed:.3f} s of audio over audio, because the timestamps are exact", err=True)
    printing.finish(complete=report.complete)


async def _saved(
    archive: Archive, begin: Callable[..., Awaitable[Download]], output: Path, form: AudioFormat
) -> DownloadReport:
    with printing.progress("exporting") as progress, printing.told_if_stopped(lambda: _so_far(progress)):
        download = await begin(progress=progress)
        try:
            return await archive.save(download, output, form)
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
        "encoded_blobs": report.encoded,
    }
