"""What commands print: lines, JSON, times, progress, and the exit code."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NoReturn

import typer

from worker.cli.text import printable
from worker.errors import StoreError

if TYPE_CHECKING:
    from worker.archive import Problem


INCOMPLETE = 3
"""Exit code of a command that did its work except for some blobs, which it names."""


def format_time(seconds: float) -> str:
    """A moment (Unix seconds) as people read it, in UTC."""
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S")
    except (ValueError, OverflowError, OSError):
        return f"{seconds:.3f}"


def say(line: str, *, err: bool = False) -> None:
    """Print a line that has names of objects: every writer of the bucket can choose these."""
    typer.echo(printable(line), err=err)


def print_json(document: object, *, err: bool = False) -> None:
    """Print one document to standard output, or to standard error where that is taken."""
    typer.echo(json.dumps(document, indent=2), err=err)


@contextmanager
def progress(what: str, expected: int = 0) -> Iterator[Callable[[int, int], None]]:
    """A bar on standard error, if that is a terminal; takes the number of steps done and their total, 0 if unknown.

    `expected` is the total that it shows before the first step.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task(what, total=expected or None)
        yield lambda done, total: bar.update(task, completed=done, total=total or None)


@asynccontextmanager
async def counted_progress(what: str, count: Callable[[], Awaitable[int]]) -> AsyncIterator[Callable[[int], None]]:
    """As `progress`, for work that begins before its total is counted; takes the number of steps done."""
    total = 0

    async def counted() -> None:
        nonlocal total
        with suppress(StoreError):  # then the work itself reports it
            total = await count()

    with progress(what) as show:
        counting = asyncio.create_task(counted()) if sys.stderr.isatty() else None
        try:
            yield lambda done: show(done, total and max(total, done))  # the count may miss objects that are done
        finally:
            if counting is not None:
                counting.cancel()


def describe_problems(problems: Iterable[Problem], without: str = "skipped") -> None:
    """Name unread blobs on standard error; `without` says what was done with those that have no replacement."""
    for problem in problems:
        done, replaced = ("skipped", f"; {problem.instead} was used instead") if problem.instead else (without, "")
        say(f"{done} {problem.name}: {problem.reason}{replaced}", err=True)


def finish(*, complete: bool) -> NoReturn:
    """End the command with the exit code that says whether everything could be done."""
    raise typer.Exit(0 if complete else INCOMPLETE)
