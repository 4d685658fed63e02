"""Reading the settings from the environment, with one line for each variable that is wrong."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import TYPE_CHECKING

from pydantic import ValidationError

from codec.errors import escaped
from worker.errors import SettingsError
from worker.settings.variables import Settings

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

FOREIGN_VARIABLES = ("GOOGLE_APPLICATION_CREDENTIALS", "MALLOC_ARENA_MAX")
"""Variables that the documents name and that are not read here."""

ALIKE = 0.85
"""Ratio of difflib from which a variable looks misspelt: one wrong letter in a name of seven."""


def load() -> Settings:
    """Read the settings from the environment; an empty variable counts as unset.

    Raises:
        SettingsError: one line on each invalid variable.
    """
    try:
        return Settings()
    except ValidationError as error:
        wrong = [_sentence(one) for one in error.errors(include_url=False)]
    raise SettingsError("\n".join(wrong))


def misspelt(variables: Iterable[str]) -> dict[str, str]:
    """Variables that are not settings but look like one, with the setting that may be meant."""
    known = [*(name.upper() for name in Settings.model_fields), *FOREIGN_VARIABLES]
    found = {}
    for variable in variables:
        closest = difflib.get_close_matches(variable.upper(), known, n=1, cutoff=ALIKE)
        if closest and variable.upper() not in known:
            found[variable] = closest[0]
    return found


def _sentence(error: ErrorDetails) -> str:
    name = ".".join(str(part) for part in error["loc"]).upper()
    if error["type"] == "value_error":  # from a validator above; the value may be a secret
        message = error["msg"].removeprefix("Value error, ")
        return message if message.startswith(name) else f"{name} {message}"
    wanted = error["msg"].partition(" should ")[2].partition(", unable to ")[0]
    return f"{name} is {escaped(error['input'])}: it should {wanted}"
