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
"""Exit code of a command that did its work but for some blobs, which it names."""


def format_time(seconds: float) -> str:
    """A moment as people read it."""
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S")
    except (ValueError, OverflowError, OSError):
        return f"{seconds:.3f}"


def say(line: str, *, err: bool = False) -> None:
    """Print a line in which names of objects stand: anybody who writes to the bucket chooses those."""
    typer.echo(printable(line), err=err)


def print_json(document: object) -> None:
    """One document to standard output."""
    typer.echo(json.dumps(document, indent=2))


@contextmanager
def progress(what: str) -> Iterator[Callable[[int, int], None]]:
    """A bar on standard error, if a person watches; takes what is done and what there is, 0 if nobody knows."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total or None)


@asynccontextmanager
async def counted_progress(what: str, count: Callable[[], Awaitable[int]]) -> AsyncIterator[Callable[[int], None]]:
    """As `progress`, for work that begins before it is counted what there is; takes what is done."""
    total = 0

    async def counted() -> None:
        nonlocal total
        with suppress(StoreError):  # then the work itself will tell
            total = await count()

    with progress(what) as show:
        counting = asyncio.create_task(counted()) if sys.stderr.isatty() else None
        try:
            yield lambda done: show(done, total and max(total, done))  # what is done may be gone from the count
        finally:
            if counting is not None:
                counting.cancel()


def describe_problems(problems: Iterable[Problem], without: str = "skipped") -> None:
    """Say on standard error what could not be read; `without` is what was done where nothing replaced it."""
    for problem in problems:
        done, replaced = ("skipped", f"; {problem.instead} was used instead") if problem.instead else (without, "")
        say(f"{done} {problem.name}: {problem.reason}{replaced}", err=True)


def finish(*, complete: bool) -> NoReturn:
    """End the command with the exit code that says whether everything could be done."""
    raise typer.Exit(0 if complete else INCOMPLETE)
