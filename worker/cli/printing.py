"""What commands print: lines, JSON, times, progress, and the exit code."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Container, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NoReturn

import typer

from worker.cli.text import printable
from worker.errors import StoreError

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress
    from rich.table import Table

    from worker.archive import Blob, Problem, Repeat, UnknownObject

_bars: list[Progress] = []
"""The bar that is shown in a terminal."""

INCOMPLETE = 3
"""Exit code of a command that did its work except for some blobs, which it names."""

FEW = 5
"""Objects that are no blobs and are named one by one: another program may have put thousands there."""

WIDEST = 10_000
"""Characters of a line in a table, more than any escaped name: names that people copy are never cut or folded."""


def format_time(seconds: float) -> str:
    """A moment (Unix seconds) as people read it, in UTC."""
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S")
    except (ValueError, OverflowError, OSError):
        return f"{seconds:.3f}"


def say(line: str, *, err: bool = False) -> None:
    """Print a line that has names of objects: every writer of the bucket can choose these."""
    write(printable(line), err=err)


def write(line: str, *, err: bool = False) -> None:
    """Print a line in the stream's own encoding; a bar that is shown in the same terminal makes room for it."""
    with _bar_away(stdout=not err):
        print(line, file=sys.stderr if err else sys.stdout, flush=True)


def print_json(document: object, *, err: bool = False) -> None:
    """Print one document to standard output, or to standard error where that is taken."""
    typer.echo(json.dumps(document, indent=2), err=err)


def table_console(*, stderr: bool = False) -> Console:
    """A console that leaves rows and sentences to the terminal's own line breaks."""
    from rich.console import Console

    return Console(stderr=stderr, highlight=False, width=WIDEST)


def plain_table(*columns: str, right: Container[str] = ()) -> Table:
    """A table with these headings; columns in `right` are flush right. Cells are never cut or folded.

    People copy names, and programs read lines. So print it by `print_table`, which does not fit it to the screen. In a
    pipe each line is a row.
    """
    from rich import box
    from rich.table import Table

    lines = box.SIMPLE_HEAD if sys.stdout.isatty() else None
    table = Table(box=lines, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for column in columns:
        table.add_column(column, no_wrap=True, overflow="ignore", justify="right" if column in right else "left")
    return table


def print_table(table: Table) -> None:
    """Print a table to standard output."""
    table_console().print(table)


class Bar:
    """A progress bar; call it with the number of steps done and their total, 0 if unknown. It remembers both."""

    def __init__(self, show: Callable[[int, int], None]) -> None:
        self._show = show
        self.done = 0
        self.total = 0

    def __call__(self, done: int, total: int) -> None:
        """Show how far the work has come."""
        self.done, self.total = done, total
        self._show(done, total)


@contextmanager
def progress(what: str, expected: int = 0) -> Iterator[Bar]:
    """A bar on standard error, if that is a terminal; `expected` is the total that it shows before the first step."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    seen = sys.stderr.isatty()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    # Rich would send standard output to this console: a pipe behind it would get nothing.
    shown = Progress(
        *columns,
        console=Console(stderr=True),
        transient=True,
        disable=not seen,
        redirect_stdout=False,
        redirect_stderr=False,
    )
    with shown:
        task = shown.add_task(what, total=expected or None)
        if seen:
            _bars.append(shown)
        try:
            yield Bar(lambda done, total: shown.update(task, completed=done, total=total or None))
        finally:
            if seen:
                _bars.remove(shown)


@contextmanager
def _bar_away(*, stdout: bool) -> Iterator[None]:
    """Take the bar off the terminal while a line is written to it."""
    bar = _bars[-1] if _bars and (not stdout or sys.stdout.isatty()) else None
    if bar is not None:
        bar.stop()
    try:
        yield
    finally:
        if bar is not None:
            bar.start()


@contextmanager
def told_if_stopped(summary: Callable[[], str]) -> Iterator[None]:
    """Say on standard error how far the work within has come, if Ctrl-C ends it."""
    try:
        yield
    except asyncio.CancelledError:
        say(f"stopped: {summary()}", err=True)
        raise


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


def describe_repeats(repeats: Iterable[Repeat]) -> None:
    """Name on standard error the blobs that were left out because another one has their audio too."""
    for repeat in repeats:
        say(f"left out {repeat.name}: it overlaps {repeat.inside} and sounds alike", err=True)


class FirstFew:
    """Names on standard error the first few of the objects that are not blobs, and counts the others."""

    def __init__(self, prefix: str = "no blob: ") -> None:
        self._prefix = prefix
        self._count = 0

    def tell(self, other: UnknownObject) -> None:
        """Take note of an object."""
        self._count += 1
        if self._count <= FEW:
            say(f"{self._prefix}{other.name}: {other.reason}", err=True)

    def tell_rest(self) -> None:
        """Say how many were not named."""
        if self._count > FEW:
            say(f"and {self._count - FEW:,} more of {self._count:,} objects that are no blobs", err=True)


def describe_unknown(objects: Iterable[UnknownObject], prefix: str = "no blob: ") -> None:
    """Name on standard error the first few of the objects that are not blobs, and say how many there are."""
    few = FirstFew(prefix)
    for other in objects:
        few.tell(other)
    few.tell_rest()


def describe_missing_secrets(blobs: Iterable[Blob], secrets: Sequence[str]) -> None:
    """Say on standard error which secrets blobs name that are not among the given ones."""
    from worker.archive.blobs.key_ids import missing_secrets

    for sentence in missing_secrets(blobs, secrets):
        say(sentence, err=True)


def unknown_facts(other: UnknownObject) -> dict[str, object]:
    """An object that is not a blob, for JSON."""
    return {"name": other.name, "size": other.size, "reason": other.reason}


def problem_facts(problem: Problem) -> dict[str, object]:
    """An unread blob for JSON."""
    return {"name": problem.name, "reason": problem.reason, "instead": problem.instead}


def repeat_facts(repeat: Repeat) -> dict[str, object]:
    """A blob that was left out, for JSON."""
    return {"name": repeat.name, "inside": repeat.inside}


def finish(*, complete: bool) -> NoReturn:
    """End the command with the exit code that says whether everything could be done."""
    raise typer.Exit(0 if complete else INCOMPLETE)
