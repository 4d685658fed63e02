"""Options that several commands share: ids, times, JSON, dry runs."""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime
from typing import Annotated, TypeVar

import typer

BARE_DATE = re.compile(r"\d{8}")
"""ISO 8601 without dashes; as Unix seconds it would be a day of the early seventies."""
IdsT = TypeVar("IdsT", str, list[str], str | None)


def checked_id(option: typer.CallbackParam, value: IdsT) -> IdsT:
    """Refuse an option's uid or conversation ids that no stored object can have."""
    from codec.entry import check_id
    from codec.errors import BadEntry

    for one in [value] if isinstance(value, str) else value or []:
        try:
            check_id(one, str(option.name))
        except BadEntry as error:
            raise typer.BadParameter(error.reason) from error
    return value


Uid = Annotated[str, typer.Option("--uid", callback=checked_id, help="Whose recordings.")]
Conversation = Annotated[str, typer.Option("--conversation", callback=checked_id, help="Which conversation.")]
AnyConversation = Annotated[
    str | None, typer.Option("--conversation", callback=checked_id, help="Which conversation; all without it.")
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of text.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Change nothing, say what would be done.")]


def moment(text: str) -> float:
    """Unix seconds from an option's text: Unix seconds, or ISO 8601, in UTC unless it says otherwise."""
    if BARE_DATE.fullmatch(text):
        raise typer.BadParameter(
            f"{text!r} may be a date or Unix seconds: write it with dashes, or with a decimal point"
        )
    try:
        seconds = float(text)
    except ValueError:
        return _calendar_moment(text)
    if "_" in text or not text.isascii():  # numbers to Python, but not times
        raise typer.BadParameter(f"{text!r} is neither Unix seconds nor ISO 8601")
    if not math.isfinite(seconds):
        raise typer.BadParameter(f"{text!r} is not a moment")
    return seconds


def _calendar_moment(text: str) -> float:
    try:
        parsed = datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is neither Unix seconds nor ISO 8601") from None
    return (parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)).timestamp()
