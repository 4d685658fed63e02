"""The question before something is removed for good."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

Yes = Annotated[bool, typer.Option("--yes", help="Don't ask.")]

REFUSED = 2


def at_terminal() -> bool:
    """Whether a person can answer."""
    return sys.stdin.isatty()


def must_be_answerable(what: str, *, yes: bool) -> None:
    """End with exit code 2 and a sentence if there is no terminal to ask on: a script has to say --yes."""
    if not yes and not at_terminal():
        typer.echo(f"audio-batch-worker: {what}; nothing is removed without --yes, as this is not a terminal", err=True)
        raise typer.Exit(REFUSED)


def confirm(question: str, *, yes: bool) -> None:
    """Ask a person on the terminal, unless `yes`; end with exit code 1 if the answer is not yes."""
    if not yes:
        must_be_answerable(question, yes=yes)
        typer.confirm(question, abort=True, err=True)
