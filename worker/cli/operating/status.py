"""`status`: shows whether the audio is safe and flows, and which worker works on what."""

from __future__ import annotations

import asyncio
import json
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Annotated, Any

import typer

from worker.cli import options, printing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from rich.console import RenderableType

    from worker.errors import StreamError
    from worker.operations.diagnosis import Concern
    from worker.settings import Settings
    from worker.stream.inspection.overview import Overview

    Show = Callable[[Overview | StreamError, Settings], None]
    """Takes each look as it comes."""


EXIT_CODES = {"warning": 3, "danger": 4}
"""Of --check, by the worst concern; 1 and 2 are those of every command."""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("status")(status)


def status(
    as_json: options.Json = False,
    watch: Annotated[
        bool, typer.Option("--watch", help="Show it live until Ctrl-C; with --json, one document per line.")
    ] = False,
    interval: Annotated[float, typer.Option(min=0.2, help="Seconds between two looks of --watch.")] = 2.0,
    everything: Annotated[bool, typer.Option("--all", help="Show idle partitions too.")] = False,
    check: Annotated[
        bool, typer.Option("--check", help="Print only the verdict, and tell it by the exit code too.")
    ] = False,
) -> None:
    """Show what waits, who works on it, and what needs a person. Changes nothing.

    With --check, the exit code is 0 if audio is safe and flows, 3 if there are only warnings, 4 if audio may be lost or
    does not get through, 1 if Redis can't be asked, and 2 if a setting is wrong.
    """
    from worker import settings

    if check and watch:
        raise typer.BadParameter("--check looks once; leave --watch out")
    loaded = settings.load()
    if watch:
        shown = _lines() if as_json else _screen(everything=everything)
        with suppress(KeyboardInterrupt), shown as show:
            asyncio.run(_watch(loaded, interval, show))
        return
    overview = asyncio.run(_look_once(loaded))
    found = _concerns(overview, loaded)
    if as_json:
        printing.print_json(_facts(overview, loaded))
    elif check:
        _print_verdict(found)
    else:
        printing.table_console().print(_view(overview, loaded, everything=everything))
    if check and found:
        raise typer.Exit(EXIT_CODES[found[0].severity])


def _print_verdict(found: Sequence[Concern]) -> None:
    from worker.cli.operating.status_view import verdict

    printing.table_console().print(verdict(found))


def _concerns(overview: Overview, settings: Settings) -> list[Concern]:
    from worker.operations.diagnosis import concerns
    from worker.spool import summary_if_there

    return concerns(overview, settings.batch_max_age, summary_if_there(settings.spool_dir))


async def _look_once(settings: Settings) -> Overview:
    from worker.operations.looks import Looks
    from worker.stream.client import Client
    from worker.stream.servers.connecting import connect

    async with Client(connect(settings.redis.url)) as client:
        return await Looks(client, settings).look()


async def _watch(settings: Settings, interval: float, show: Show) -> None:
    from worker.errors import StreamError
    from worker.operations.looks import Looks
    from worker.stream.client import Client
    from worker.stream.servers.connecting import connect

    async with Client(connect(settings.redis.url)) as client:
        looks = Looks(client, settings)
        while True:
            try:
                show(await looks.look(), settings)
            except StreamError as error:
                show(error, settings)
            await asyncio.sleep(interval)


@contextmanager
def _screen(*, everything: bool) -> Iterator[Show]:
    """Show looks on the terminal, each in place of the one before; in a pipe or file, one below the other."""
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    from worker.cli.operating.status_view import Cropped

    def drawn(look: Overview | StreamError, settings: Settings) -> RenderableType:
        if isinstance(look, Exception):
            return Text(f"danger: {look}", style="bold red")
        return _view(look, settings, everything=everything)

    console = Console()
    if not console.is_terminal:
        wide = printing.table_console()
        yield lambda look, settings: wide.print(drawn(look, settings))
        return
    with Live(console=console, auto_refresh=False, screen=True, vertical_overflow="crop") as live:
        yield lambda look, settings: live.update(Cropped(drawn(look, settings)), refresh=True)


@contextmanager
def _lines() -> Iterator[Show]:
    """Print a JSON document per line and look; it has only `error` if Redis did not answer."""

    def show(look: Overview | StreamError, settings: Settings) -> None:
        typer.echo(json.dumps({"error": str(look)} if isinstance(look, Exception) else _facts(look, settings)))

    yield show


def _view(overview: Overview, settings: Settings, *, everything: bool) -> RenderableType:
    from worker.cli.operating.status_view import view
    from worker.operations.overview_facts import libopus_version
    from worker.spool import summary_if_there

    found, spool = _concerns(overview, settings), summary_if_there(settings.spool_dir)
    return view(overview, found, libopus_version(), spool=spool, everything=everything)


def _facts(overview: Overview, settings: Settings) -> dict[str, Any]:
    from worker.operations.overview_facts import overview_facts
    from worker.spool import summary_if_there

    return overview_facts(overview, _concerns(overview, settings), summary_if_there(settings.spool_dir))
