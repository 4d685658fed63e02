"""`files`: lists the playable files that a conversation consists of."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from worker.cli import archives, options, printing
from worker.cli.text import counted

if TYPE_CHECKING:
    from worker.archive import Archive, AudioFile, AudioFiles
    from worker.settings import Settings


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("files")(files)


def files(
    uid: options.Uid,
    conversation: options.Conversation,
    gap: Annotated[float, typer.Option(min=0, help="Seconds from start to start after which a new file begins.")] = 90,
    as_json: options.Json = False,
) -> None:
    """Group a conversation's blobs into playable files, with their exact durations.

    Exits with 3 if some blobs don't tell how long they are: they are named, and listed all the same. Blobs that overlap
    another one and sound alike are named too, and are in no file.
    """

    async def work(archive: Archive, settings: Settings) -> tuple[AudioFiles, list[str]]:
        with printing.progress("measuring") as progress:
            found = await archive.audio_files(
                uid, conversation, gap=gap, gap_tolerance=settings.gap_tolerance, progress=progress
            )
        return found, settings.secrets

    found, secrets = archives.run_with_archive(work)
    printing.describe_problems(found.problems, without="listed without its exact length:")
    printing.describe_repeats(found.repeated)
    printing.describe_unknown(found.unknown)
    printing.describe_missing_secrets([blob for file in found.files for blob in file.blobs], secrets)
    if as_json:
        printing.print_json(_facts(found))
    else:
        _print(found)
    printing.finish(complete=not found.problems)


def _print(found: AudioFiles) -> None:
    for file in found.files:
        typer.echo(f"{printing.format_time(file.start)}  {file.duration:10.2f} s  {counted(len(file.blobs), 'blob')}")
    seconds = sum(file.duration for file in found.files)
    typer.echo(f"{counted(len(found.files), 'file')}, {seconds:.1f} s")


def _facts(found: AudioFiles) -> dict[str, Any]:
    return {
        "files": [file_facts(file) for file in found.files],
        "problems": [printing.problem_facts(problem) for problem in found.problems],
        "repeated": [printing.repeat_facts(repeat) for repeat in found.repeated],
        "others": [printing.unknown_facts(other) for other in found.unknown],
    }


def file_facts(file: AudioFile) -> dict[str, Any]:
    """A file for JSON."""
    return {
        "start": file.start,
        "duration": file.duration,
        "timestamps": list(file.timestamps),
        "blobs": [blob.path for blob in file.blobs],
    }
