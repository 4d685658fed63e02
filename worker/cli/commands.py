"""All commands by name. The module of a command is imported when the command is looked up.

So `run`, which stays for weeks, does not hold the other commands in its memory, and no command waits for their imports.
"""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from importlib import import_module
from typing import Any

import typer.main
from typer.core import TyperGroup

MODULES = {
    "run": "operating.run",
    "push": "push",
    "status": "operating.status",
    "dead-letters": "operating.dead_letters",
    "spool": "operating.spool",
    "streams": "operating.streams",
    "partitions": "operating.partitions",
    "audit": "recordings.audit",
    "ls": "recordings.ls",
    "export": "recordings.export",
    "files": "recordings.files",
    "copy": "recordings.copy",
    "rm": "recordings.rm",
    "verify": "recordings.verify",
    "convert": "recordings.convert",
    "web": "web",
    "demo": "demo",
}
"""Names as a person types them → the modules in this package that register them, in the order of the help."""


class Commands(TyperGroup):
    """The group of all commands."""

    def __init__(self, **attributes: Any) -> None:  # noqa: ANN401
        super().__init__(**attributes)
        self.commands = _Lazy()


class _Lazy(MutableMapping[str, Any]):  # Typer's class of a command differs between its versions
    def __init__(self) -> None:
        self._loaded: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:  # noqa: ANN401
        if name not in self._loaded:
            self._loaded[name] = _load(name, MODULES[name])
        return self._loaded[name]

    def __setitem__(self, name: str, command: Any) -> None:  # noqa: ANN401
        raise TypeError("commands are named in MODULES")

    def __delitem__(self, name: str) -> None:
        raise TypeError("commands are named in MODULES")

    def __iter__(self) -> Iterator[str]:
        return iter(MODULES)

    def __len__(self) -> int:
        return len(MODULES)


def _load(name: str, module: str) -> Any:  # noqa: ANN401
    registered = typer.Typer()
    import_module(f"{__package__}.{module}").register(registered)
    return typer.main.get_group(registered).commands[name]
