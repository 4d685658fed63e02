"""The `seq` numbers of chunks by session, and their text in a blob's metadata.

A session is one life of a pusher: its numbers begin at 0 again. The text is "0-4,6-11" for chunks without a session,
and "a1b2:0-11;c3d4:0-3" with sessions. A session that is not plain ASCII is percent-encoded.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias
from urllib.parse import quote_from_bytes

from codec import seqs
from codec.seqs import MAX_TEXT_BYTES, Span

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Numbers: TypeAlias = dict[str, list[Span]]
"""Session as `session_name` spells it → the numbers of its chunks."""


def session_name(session: bytes | None) -> str:
    """How texts spell a session; "" for chunks without one. Letters, digits and `_.-~` stay as they are."""
    return quote_from_bytes(session or b"", safe="")


def note(numbers: Numbers, session: bytes | None, seq: int) -> None:
    """Add a number of a session."""
    seqs.note(numbers.setdefault(session_name(session), []), seq)


def to_text(numbers: Mapping[str, Sequence[Span]]) -> str | None:
    """The numbers as metadata; None without numbers, and only their count (`#500`) when the text would be too long."""
    if not numbers:
        return None
    parts = [f"{session}:{_spans(spans)}" if session else _spans(spans) for session, spans in numbers.items()]
    text = ";".join(parts)
    return text if len(text) <= MAX_TEXT_BYTES else f"#{sum(map(seqs.count, numbers.values()))}"


def from_text(text: str | None) -> Numbers | None:
    """Read what `to_text` wrote; None if the text does not give the numbers."""
    if text is None or len(text) > MAX_TEXT_BYTES:
        return None
    numbers: Numbers = {}
    for part in text.split(";"):
        session, _, spans = part.rpartition(":")
        found = seqs.from_text(spans)
        if found is None or session in numbers:
            return None
        numbers[session] = found
    return numbers


def count(numbers: Mapping[str, Sequence[Span]]) -> int:
    """How many numbers there are."""
    return sum(map(seqs.count, numbers.values()))


def _spans(spans: Sequence[Span]) -> str:
    return seqs.format_spans(seqs.merged(spans))
