"""Keeps audio, keys and passwords out of all logs: the last step before an event becomes text."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import date
from enum import Enum
from itertools import islice
from pathlib import PurePath
from uuid import UUID

PUBLIC_FIELDS = frozenset({"key_id"})  # a digest, to compare which secret is in use
SENSITIVE_WORDS = frozenset({"pcm", "secret", "secrets", "key", "keys", "password", "token", "authorization"})
MAX_TEXT = 16 * 1024
MAX_ITEMS = 100
MAX_DEPTH = 4

URL_PASSWORD = re.compile(r"(://[^\s:/@]{0,300}):\S{0,300}@")
ASSIGNED_SECRET = re.compile(r"(?i)\b((?:[a-z]+_)?(?:password|secret|token))=[^\s&]+")
BYTES_LITERAL = re.compile(r"""\bb(?:'(?:[^'\\]|\\.){16,}(?:'|$)|"(?:[^"\\]|\\.){16,}(?:"|$))""")

Loggable = str | int | float | bool | list["Loggable"] | dict[str, "Loggable"] | None


def redact_fields(fields: Mapping[str, object]) -> dict[str, Loggable]:
    """The fields as plain JSON values, without audio, keys and passwords."""
    return {str(name): _field(str(name), value, MAX_DEPTH) for name, value in fields.items()}


def redact_text(text: str) -> str:
    """The text with passwords of URLs and the printed form of bytes masked, and cut to a bounded length."""
    text = text if len(text) <= MAX_TEXT else f"{text[:MAX_TEXT]}…"
    text = URL_PASSWORD.sub(r"\1:***@", text)
    text = ASSIGNED_SECRET.sub(r"\1=***", text)
    return BYTES_LITERAL.sub("[bytes]", text)


def _field(name: str, value: object, depth: int) -> Loggable:
    harmless = name in PUBLIC_FIELDS or value is None or (isinstance(value, str) and not value)
    words = () if harmless else re.split(r"[^a-z]+", name.lower())
    return "***" if SENSITIVE_WORDS.intersection(words) else _value(value, depth)


def _value(value: object, depth: int) -> Loggable:
    if value is None or (isinstance(value, bool | int) and not isinstance(value, Enum)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, str | Enum | PurePath | UUID | date | BaseException):
        return redact_text(str(value))
    if isinstance(value, bytes | bytearray | memoryview):
        return f"[{memoryview(value).nbytes} bytes]"
    return _collection(value, depth)


def _collection(value: object, depth: int) -> Loggable:
    if depth > 0 and isinstance(value, Mapping):
        items = islice(value.items(), MAX_ITEMS)
        return {redact_text(str(name)): _field(str(name), item, depth - 1) for name, item in items}
    if depth > 0 and isinstance(value, list | tuple | set | frozenset):
        return [_value(item, depth - 1) for item in islice(value, MAX_ITEMS)]
    # Any other object could print audio or keys, so only its type is named.
    return f"[{type(value).__name__}]"
