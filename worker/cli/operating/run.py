"""`run`: the worker itself."""

from __future__ import annotations

import asyncio
import gc
import sys
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add the command."""
    _import_structlog()
    app.command("run", epilog=_environment())(run)


def run(
    drain: Annotated[
        bool, typer.Option("--drain", help="Stop when every stream is empty and everything is stored.")
    ] = False,
) -> None:
    """Consume the streams until SIGTERM; everything is set by environment variables."""
    from worker.runtime.signals import leave_on_sigterm

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


def _import_structlog() -> None:
    """Import structlog without Rich, which it would take for tracebacks that no log of ours has: 4 MB of memory."""
    if "structlog" in sys.modules or "rich" in sys.modules:
        return
    sys.modules["rich"] = None  # type: ignore[assignment] # Python's own way to say that a module is not to be had
    try:
        import structlog  # noqa: F401
    finally:
        del sys.modules["rich"]
