"""What the commands that read the store share: opening it, times, progress, JSON, exit codes."""

from __future__ import annotations

import asyncio
import json
import math
import re
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, NoReturn, TypeVar

import typer

from worker.cli.text import printable
from worker.errors import SettingsError, StoreError, WorkerError

if TYPE_CHECKING:
    from stamina.instrumentation import RetryDetails

    from worker.archive import Archive, Problem
    from worker.settings import Settings
    from worker.stores.base import Store

BARE_DATE = re.compile(r"\d{8}")
"""ISO 8601 without dashes; as Unix seconds it would be a day of the early seventies."""

T = TypeVar("T")
IdsT = TypeVar("IdsT", str, list[str], str | None)

INCOMPLETE = 3
"""Exit code of a command that did its work but for some blobs, which it names."""


def checked_id(option: typer.CallbackParam, value: IdsT) -> IdsT:
    """Refuse an option's uid or conversation ids that no stored object can have."""
    from codec.entry import check_id
    from codec.errors import BadEntry

    for one in [value] if isinstance(value, str) else value or []:
        try:
            check_id(one, str(option.name))
        except BadEntry as error:
            raise typer.BadParameter(error.reason) from error
    return value


Uid = Annotated[str, typer.Option("--uid", callback=checked_id, help="Whose recordings.")]
Conversation = Annotated[str, typer.Option("--conversation", callback=checked_id, help="Which conversation.")]
AnyConversation = Annotated[
    str | None, typer.Option("--conversation", callback=checked_id, help="Which conversation; all without it.")
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of text.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Change nothing, say what would be done.")]


@asynccontextmanager
async def open_archive() -> AsyncIterator[tuple[Archive, Settings]]:
    """The archive that the environment describes."""
    from worker import settings
    from worker.archive import Archive

    loaded = settings.load()
    store = configured_store(loaded)
    try:
        yield Archive(store, loaded.secrets), loaded
    finally:
        await store.close()


def configured_store(loaded: Settings) -> Store:
    """The store that STORE_URL names. Raises `SettingsError`."""
    from worker.stores import missing_directory

    loaded.require_store()
    if directory := missing_directory(loaded.store_url):
        say(f"STORE_URL: there is no directory {directory}; it is taken for an empty store", err=True)
    return loaded.store.open()


def run_with_archive(work: Callable[[Archive, Settings], Awaitable[T]]) -> T:
    """Do something with the archive.

    Raises:
        SettingsError: STORE_URL is missing or wrong, or names what this account may not use.
        WorkerError: with one sentence, whatever else can't be done.
    """
    from codec.errors import CodecError, LibopusMissing
    from worker.runtime import logs

    logs.configure("warning", "console")

    async def working() -> T:
        async with open_archive() as (archive, loaded):
            return await work(archive, loaded)

    try:
        with retries_told():
            return asyncio.run(working())
    except (CodecError, LibopusMissing) as error:
        raise WorkerError(str(error)) from error
    except StoreError as error:
        if error.cause in ("permission", "missing-bucket"):
            raise SettingsError(f"STORE_URL: {error}") from error
        raise


@contextmanager
def retries_told() -> Iterator[None]:
    """Say in a sentence, instead of in the library's own way, that the store is asked again."""
    from stamina import instrumentation

    def tell(details: RetryDetails) -> None:
        typer.echo(f"trying again in {details.wait_for:.1f} s: {details.caused_by}", err=True)

    instrumentation.set_on_retry_hooks([tell])
    try:
        yield
    finally:
        instrumentation.set_on_retry_hooks(None)


def moment(text: str) -> float:
    """Unix seconds from an option's text: these, or ISO 8601, in UTC unless it says otherwise."""
    if BARE_DATE.fullmatch(text):
        raise typer.BadParameter(
            f"{text!r} may be a date or Unix seconds: write it with dashes, or with a decimal point"
        )
    try:
        seconds = float(text)
    except ValueError:
        return _calendar_moment(text)
    if "_" in text or not text.isascii():  # Python's numbers, nobody's times
        raise typer.BadParameter(f"{text!r} is neither Unix seconds nor ISO 8601")
    if not math.isfinite(seconds):
        raise typer.BadParameter(f"{text!r} is no moment")
    return seconds


def _calendar_moment(text: str) -> float:
    try:
        parsed = datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is neither Unix seconds nor ISO 8601") from None
    return (parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)).timestamp()


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
