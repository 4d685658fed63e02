"""`bench`: measures the worker on this machine, from a checkout of the project."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Annotated

import typer

from worker.cli import options
from worker.errors import SettingsError, WorkerError

CHECKOUT = Path(__file__).parents[2]
PARTS = ("cpu", "lifecycle", "crowd", "load", "scaling", "quality", "cost")


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("bench")(bench)


def bench(
    quick: Annotated[
        bool, typer.Option("--quick", help="Two minutes instead of fifteen; the figures are rougher.")
    ] = False,
    as_json: options.Json = False,
    only: Annotated[
        list[str] | None, typer.Option("--only", help=f"One part; may be repeated. Parts: {', '.join(PARTS)}.")
    ] = None,
) -> None:
    """Measure beside a bare libopus loop and the predecessor's way, with servers of its own. Needs a checkout."""
    unknown = sorted(set(only or ()) - set(PARTS))
    if unknown:
        raise SettingsError(f"--only {unknown[0]}: there are {', '.join(PARTS)}")
    if not (CHECKOUT / "tests" / "bench" / "main.py").exists():
        raise WorkerError("bench needs a checkout of the project, for its test servers: clone it and run make bench")
    sys.path.insert(0, str(CHECKOUT))
    try:
        importlib.import_module("tests.bench.main").run(quick=quick, as_json=as_json, only=only or ())
    except ImportError as error:
        raise WorkerError(f"bench needs the packages of the tests: run make bench ({error})") from error
