"""`spool`: look at blobs that wait on the spool's volume, check them, and upload them by hand."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from worker.cli import options, printing
from worker.cli.text import shown_bytes
from worker.errors import SettingsError, SpoolRefused
from worker.model.causes import SpoolCause, SpoolOutcome

if TYPE_CHECKING:
    from worker.assembly import Spooling
    from worker.settings import Settings
    from worker.spool.report import SpoolItem

POLL_SECONDS = 1.0
"""Seconds between two looks at blobs that workers are uploading."""

commands = typer.Typer(no_args_is_help=True, help="Blobs in SPOOL_DIR that wait for the store: list, check, upload.")


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(commands, name="spool")


@commands.command("ls")
def list_spooled(as_json: options.Json = False) -> None:
    """List the spool's files, the oldest audio first."""
    from worker.spool.report import items

    found = _read(items)
    if as_json:
        printing.print_json([_facts(item) for item in found])
        return
    for item in found:
        typer.echo(_line(item))
    counts = Counter(str(item.file.state) for item in found)
    size = sum(item.file.stem.size for item in found)
    states = ", ".join(f"{state} {count}" for state, count in sorted(counts.items())) or "nothing"
    typer.echo(f"{states}; {shown_bytes(size)}", err=True)


@commands.command("verify")
def verify_spooled(as_json: options.Json = False) -> None:
    """Read every file and check it against its CRC32C. Exits with 3 if one is torn or damaged."""
    from worker.spool.report import verified_items

    found = _read(verified_items)
    damaged = [item for item in found if item.damage is not None]
    if as_json:
        printing.print_json({"intact": len(found) - len(damaged), "damaged": [_facts(item) for item in damaged]})
    else:
        for item in damaged:
            typer.echo(_line(item))
        typer.echo(f"intact {len(found) - len(damaged)}, damaged {len(damaged)}", err=True)
    printing.finish(complete=not damaged)


@commands.command("drain")
def drain_spooled(as_json: options.Json = False) -> None:
    """Upload everything, beside workers if there are any. Exits with 3 if something stays, which ls then shows."""
    from worker.runtime import logs

    logs.configure("warning", "console")
    outcomes, left = asyncio.run(_drain(_settings()))
    if as_json:
        printing.print_json({"outcomes": outcomes, "left": left})
    else:
        done = ", ".join(f"{outcome} {count}" for outcome, count in sorted(outcomes.items())) or "nothing to do"
        typer.echo(f"{done}; left {left}")
    printing.finish(complete=left == 0)


def _settings() -> Settings:
    from worker import settings

    loaded = settings.load()
    if loaded.spool_dir is None:
        raise SettingsError("SPOOL_DIR is not set: name the directory that the workers spool to")
    return loaded


def _directory() -> Path:
    directory = _settings().spool_dir
    if directory is None or not directory.is_dir():
        raise SettingsError(f"SPOOL_DIR: {directory} is not a directory")
    return directory


def _read(look: Callable[[Path], Iterable[SpoolItem]]) -> list[SpoolItem]:
    directory = _directory()
    try:
        return list(look(directory))
    except OSError as error:
        raise SpoolRefused(f"{directory}: {error.strerror or error}", SpoolCause.DISK) from error


async def _drain(settings: Settings) -> tuple[dict[SpoolOutcome, int], int]:
    from worker.assembly import Spooling, monitored
    from worker.runtime.context import Context
    from worker.stream.client import Client
    from worker.stream.config import record_or_check, record_or_check_store
    from worker.stream.entries import Entries
    from worker.stream.servers.connecting import connect

    settings.require_store()
    keys = settings.redis.keys
    client = Client(connect(settings.redis.url))
    store = settings.store.open()
    try:
        await record_or_check(client, keys, settings.stated_partitions)
        await record_or_check_store(client, keys, settings.store_url, await store.identity())
        context = Context(clock=client.clock)
        observed = monitored(settings, store, context)
        spooling = Spooling(settings, Entries(client, keys, settings.worker_id), observed, context)
        return await _emptied(spooling, _directory())
    finally:
        await client.close()
        await store.close()


async def _emptied(spooling: Spooling, directory: Path) -> tuple[dict[SpoolOutcome, int], int]:
    from worker.spool import summary

    drainer = spooling.drainer
    claims = asyncio.create_task(drainer.keep_claims())
    try:
        await drainer.round()
        while await drainer.left():
            await asyncio.sleep(POLL_SECONDS)
            await drainer.round()
    except OSError as error:
        raise SpoolRefused(f"{directory}: {error.strerror or error}", SpoolCause.DISK) from error
    finally:
        claims.cancel()
        spooling.spool.close()
    return dict(drainer.outcomes), sum(summary(directory).blobs.values())


def _facts(item: SpoolItem) -> dict[str, object]:
    header, stem = item.header, item.file.stem
    return {
        "file": item.file.name,
        "state": str(item.file.state),
        "bytes": stem.size,
        "first_entry": stem.first,
        "last_entry": stem.last,
        "partition": stem.partition,
        "object": header.seal.object if header else None,
        "store": header.origin.store_url if header else None,
        "prefix": header.origin.prefix if header else None,
        "damage": item.damage,
    }


def _line(item: SpoolItem) -> str:
    from worker.model.ids import entry_ms

    pushed = printing.format_time(entry_ms(item.file.stem.first) / 1000)
    what = item.header.seal.object if item.header else f"{item.file.name}: {item.damage}"
    return f"{pushed}  {item.file.state:<9}  {shown_bytes(item.file.stem.size):>8}  {what}"
