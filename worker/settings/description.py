"""What --help and the README say about each setting, made from its field."""

from __future__ import annotations

from typing import get_args

from pydantic import SecretStr

from worker.settings.variables import Settings


def environment_names() -> dict[str, str]:
    """Every variable's name and description, for --help."""
    return {
        name.upper(): f"{field.description} [default: {shown_default_and_choices(name)}]"
        for name, field in Settings.model_fields.items()
    }


def shown_default_and_choices(name: str) -> str:
    """A field's default in readable form, and the other allowed words if the field takes one of a few."""
    field = Settings.model_fields[name]
    others = [choice for choice in get_args(field.annotation) if isinstance(choice, str) and choice != field.default]
    return f"{_shown_default(name)} (or {', '.join(others)})" if others else _shown_default(name)


def _shown_default(name: str) -> str:
    field = Settings.model_fields[name]
    if field.default_factory is not None:
        return "by machine"
    if isinstance(field.default, SecretStr) or field.default in (None, ""):
        return "none"
    if isinstance(field.default, bool):
        return str(field.default).lower()
    return f"{field.default:g}" if isinstance(field.default, float) else str(field.default)
