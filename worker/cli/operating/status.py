"""`status`: shows whether the audio is safe and flows, and which worker works on what."""

from __future__ import annotations

import asyncio
import json
import os
from contextlib import contextmanager, suppress
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from worker.cli import options, printing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rich.console import Console, RenderableType

    from worker.errors import StreamError
    from worker.settings import Settings
    from worker.spool import Summary
    from worker.stream.client import Client
    from worker.stream.overview import Overview

    Show = Callable[[Overview | StreamError, Settings], None]
    """Takes each look as it comes."""


PIPE_WIDTH = 160
"""Columns without a terminal."""


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
) -> None:
    """Show what waits, who works on it, and what needs a person. Changes nothing."""
    from worker import settings

    loaded = settings.load()
    if watch:
        shown = _lines() if as_json else _screen(everything=everything)
        with suppress(KeyboardInterrupt), shown as show:
            asyncio.run(_watch(loaded, interval, show))
        return
    overview = asyncio.run(_look_once(loaded))
    if as_json:
        printing.print_json(_facts(overview, loaded))
    else:
        _console().print(_view(overview, loaded, everything=everything))


async def _look_once(settings: Settings) -> Overview:
    from worker.stream.client import Client, connect

    async with Client(connect(settings.redis_url)) as client:
        return await _look(client, settings)


async def _look(client: Client, settings: Settings) -> Overview:
    from worker.stream.keys import Keys
    from worker.stream.overview import Inspector

    inspector = Inspector(client, Keys(settings.stream_prefix))
    return await inspector.overview(await inspector.partitions(settings.partitions))


async def _watch(settings: Settings, interval: float, show: Show) -> None:
    from worker.errors import StreamError
    from worker.stream.client import Client, connect

    async with Client(connect(settings.redis_url)) as client:
        while True:
            try:
                show(await _look(client, settings), settings)
            except StreamError as error:
                show(error, settings)
            await asyncio.sleep(interval)


@contextmanager
def _screen(*, everything: bool) -> Iterator[Show]:
    """Show looks on the terminal, each in place of the one before; in a pipe or file, one below the other."""
    from rich.live import Live
    from rich.text import Text

    def drawn(look: Overview | StreamError, settings: Settings) -> RenderableType:
        if isinstance(look, Exception):
            return Text(f"danger: {look}", style="bold red")
        return _view(look, settings, everything=everything)

    console = _console()
    if not console.is_terminal:
        yield lambda look, settings: console.print(drawn(look, settings))
        return
    with Live(console=console, auto_refresh=False, screen=True, vertical_overflow="crop") as live:
        yield lambda look, settings: live.update(drawn(look, settings), refresh=True)


def _console() -> Console:
    """A console that has room for long names in a pipe or a file."""
    from rich.console import Console

    console = Console()
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = PIPE_WIDTH
    return console


@contextmanager
def _lines() -> Iterator[Show]:
    """Print a JSON document per line and look; it has only `error` if Redis did not answer."""

    def show(look: Overview | StreamError, settings: Settings) -> None:
        typer.echo(json.dumps({"error": str(look)} if isinstance(look, Exception) else _facts(look, settings)))

    yield show


def _view(overview: Overview, settings: Settings, *, everything: bool) -> RenderableType:
    from worker.cli.operating.status_view import view
    from worker.operations.diagnosis import concerns

    found = concerns(overview, settings.batch_max_age)
    return view(overview, found, _libopus(), spool=_spooled(settings), everything=everything)


def _facts(overview: Overview, settings: Settings) -> dict[str, Any]:
    from worker.operations.diagnosis import concerns

    found = concerns(overview, settings.batch_max_age)
    totals = {
        "entries": overview.entries,
        "states": overview.states,
        "sealed_batches": overview.sealed_batches,
        "bytes": overview.bytes,
        "oldest_age_ms": overview.oldest_age_ms,
        "dead": sum(view.dead for view in overview.partitions),
        "stored": sum(view.stored for view in overview.partitions),
        "unowned": len(overview.unowned),
    }
    return {
        "concerns": [asdict(concern) for concern in found],
        "totals": totals,
        "libopus": _libopus(),
        "spool": asdict(spooled) if (spooled := _spooled(settings)) else None,
        **asdict(overview),
        "partitions": [asdict(view) | {"states": view.states} for view in overview.partitions],
    }


def _spooled(settings: Settings) -> Summary | None:
    """A summary of the spool's volume; None without a spool, or if its volume is not available."""
    from worker.spool import summary

    if settings.spool_dir is None:
        return None
    try:
        return summary(settings.spool_dir)
    except OSError:
        return None


def _libopus() -> str:
    from codec.errors import LibopusMissing
    from codec.libopus import library

    try:
        return library().version
    except LibopusMissing:
        return "no libopus"
