"""Reasons of dead letters: they name values, so that letters of one cause have many of them."""

from __future__ import annotations

import re

_VALUE = re.compile(r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|[0-9]+(?:\.[0-9]+)?""")


def kind_of(reason: str) -> str:
    """A reason without its values: what letters of one cause have in common."""
    return _VALUE.sub("…", reason)
