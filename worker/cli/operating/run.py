"""`run`: the worker itself."""

from __future__ import annotations

import asyncio
import gc
from typing import Annotated

import typer

from worker.runtime.signals import leave_on_sigterm


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("run", epilog=_environment())(run)


def run(
    drain: Annotated[
        bool, typer.Option("--drain", help="Stop when every stream is empty and everything is stored.")
    ] = False,
) -> None:
    """Consume the streams until SIGTERM; everything is set by environment variables."""
    leave_on_sigterm()
    gc.disable()  # during the imports, collections would take a fifth of the start's CPU time
    from worker import app, settings
    from worker.runtime import logs

    gc.freeze()  # the modules stay: later collections need not look at them
    gc.enable()

    loaded = settings.load()
    logs.configure(loaded.log_level, loaded.log_format)
    asyncio.run(app.run(loaded, drain=drain))


def _environment() -> str:
    from worker.settings import environment_names

    # A bracket would be a style to Rich, which prints the help.
    lines = (f"{name}: {text}".replace("[", "\\[") for name, text in environment_names().items())
    return "\n\n".join(["Environment:", *lines])
