"""Settings in a file, as containers and systemd take them: a line NAME=value for each."""

from __future__ import annotations

from collections.abc import MutableMapping
from pathlib import Path

from dotenv.parser import parse_stream

from worker.errors import SettingsError


def add_env_file(path: Path, environment: MutableMapping[str, str]) -> None:
    """Add the variables of a file to an environment; those that are set there stay as they are.

    Quotes around a value, `export` before a name and comments are allowed. A `$` has no meaning.

    Raises:
        SettingsError: the file can't be read, or a line of it is no variable.
    """
    try:
        with path.open(encoding="utf-8") as file:
            bindings = list(parse_stream(file))
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"--env-file {path} can't be read: {error}") from error
    for binding in bindings:
        if binding.error or (binding.key and binding.value is None):  # the line may hold a secret: only its number
            raise SettingsError(f"--env-file {path}, line {binding.original.line} is not NAME=value")
        if binding.key and binding.value and not environment.get(binding.key):
            environment[binding.key] = binding.value
