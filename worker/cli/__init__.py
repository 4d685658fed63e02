"""The command line: one module per group of commands; `commands` names them all."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from codec.errors import LibopusMissing
from worker import __version__
from worker.cli import output
from worker.cli.commands import Commands
from worker.cli.text import printable
from worker.errors import SettingsError, WorkerError
from worker.runtime.extras import extra_imports

INTERRUPTED = 130
"""Exit code of a command that Ctrl-C has ended, as shells have it."""

READER_GONE = 141
"""Exit code of a command whose output is not read to its end, as shells have it for SIGPIPE."""

app = typer.Typer(
    cls=Commands,
    name="audio-batch-worker",
    help="PCM chunks on Redis streams become encrypted Opus blobs in Google Cloud Storage, exactly once.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(shown: bool) -> None:
    if shown:
        typer.echo(f"{__version__}\n{_libopus()}")
        raise typer.Exit


def _libopus() -> str:
    """Which libopus encodes here, and where it comes from."""
    from codec.libopus import BUNDLED_DISTRIBUTION, library

    try:
        found = library()
    except LibopusMissing as error:
        return str(error)
    origin = (
        f"the Python package {BUNDLED_DISTRIBUTION} ({found.build} build)"
        if found.origin == "bundled"
        else f"the system: {found.path}"
    )
    return f"{found.version}, from {origin}"


@app.callback()
def _options(
    _version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version, and that of libopus."
        ),
    ] = False,
    env_file: Annotated[
        Path | None,
        typer.Option("--env-file", metavar="FILE", help="Take settings that are not set from a file of NAME=value."),
    ] = None,
) -> None:
    if env_file is not None:
        from worker.settings.env_file import add_env_file

        add_env_file(env_file, os.environ)


def main() -> None:
    """Run a command; a wrong setting ends with exit code 2, any other expected failure with 1; a line on each fault."""
    output.prepare()
    try:
        try:
            _run()
        finally:
            output.flush()
    except output.ReaderGone:
        output.discard()
        sys.exit(READER_GONE)
    except output.OutputFailed as error:
        output.discard()
        sys.exit(_complain(f"standard output can't be written: {error}", 1))


def _run() -> None:
    try:
        with extra_imports():
            app()
    except SettingsError as error:
        sys.exit(_complain(str(error), 2))
    except WorkerError as error:
        sys.exit(_complain(str(error), 1))
    except KeyboardInterrupt:  # before or after the command itself, which ends with this code too
        sys.exit(INTERRUPTED)


def _complain(message: str, code: int) -> int:
    for line in message.splitlines():
        typer.echo(f"audio-batch-worker: {printable(line)}", err=True)
    return code
