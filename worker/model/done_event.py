"""The done event, by which Redis tells backends that a blob is stored; `codec/README.md` describes its fields."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, TypeAlias

Raw: TypeAlias = Mapping[bytes, bytes]
"""Fields as Redis returns them."""


@dataclass(frozen=True, slots=True)
class DoneEvent:
    """One stored blob; each attribute is a field of the event, and None if the event does not have that field.

    `start` is in Unix seconds, `samples` are at `sample_rate` Hz, `bytes` is the object's size.
    """

    uid: str
    conversation_id: str
    object: str
    start: float | None = None
    samples: int | None = None
    sample_rate: int | None = None
    bytes: int | None = None
    trigger: str | None = None
    chunks: int | None = None
    codec: str | None = None
    protection: str | None = None
    first_entry: str | None = None
    last_entry: str | None = None
    seqs: str | None = None
    stream: str | None = None
    chunks_digest: str | None = None
    traceparent: str | None = None
    tracestate: str | None = None

    def to_fields(self) -> dict[str, str]:
        """The fields as Redis keeps them."""
        told = {name: getattr(self, name) for name in FIELDS}
        return {name: _text(value) for name, value in told.items() if value is not None}

    @classmethod
    def from_fields(cls, found: Raw) -> DoneEvent:
        """Read an event of any version; fields that this version does not know are ignored."""
        told: dict[str, Any] = dict.fromkeys(("uid", "conversation_id", "object"), "")
        told |= {name: found[name.encode()].decode(errors="replace") for name in FIELDS if name.encode() in found}
        return cls(**told | {name: _number(told[name], kind) for name, kind in NUMBERS.items() if name in told})


FIELDS = tuple(field.name for field in fields(DoneEvent))
NUMBERS: dict[str, type[int | float]] = {
    "start": float,
    "samples": int,
    "sample_rate": int,
    "bytes": int,
    "chunks": int,
}


def _text(value: float | str) -> str:
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def _number(text: str, kind: type[int | float]) -> float | None:
    try:
        return kind(text)
    except ValueError:
        return None
