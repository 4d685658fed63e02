"""Checks the types of arguments: a wrong one is told by its name, before it fails somewhere inside or does harm."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from numbers import Integral, Real

from codec.errors import WrongType

NOTHING = type(None)
FUNCTION: type = Callable  # type: ignore[assignment]  # isinstance takes it

WORDS: dict[type, str] = {
    str: "text",
    bytes: "bytes",
    bool: "True or False",
    int: "a whole number",
    Real: "a number",
    Mapping: "a mapping",
    Iterable: "a list",
    FUNCTION: "a function",
    NOTHING: "None",
}
"""What a person calls a type; other types go by their names."""


def check_types(*kinds: type, **arguments: object) -> None:
    """Make sure that arguments are of one of these types.

    True and False are no numbers here, and text, bytes and mappings are no lists: each letter or
    key would count as an item.

    Raises:
        WrongType: it names the argument.
    """
    for name, value in arguments.items():
        if not any(_is(value, kind) for kind in kinds):
            wanted = " or ".join(WORDS.get(kind, kind.__name__) for kind in kinds)
            raise WrongType(f"{name} is {type(value).__name__}, not {wanted}")


def _is(value: object, kind: type) -> bool:
    if isinstance(value, bool):
        return kind is bool
    if kind is Iterable and isinstance(value, str | bytes | bytearray | Mapping):
        return False
    return isinstance(value, Integral if kind is int else kind)  # NumPy's numbers are Integral too
