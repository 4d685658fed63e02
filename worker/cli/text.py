"""Values on a terminal: sizes and times short enough to compare at a glance, foreign text made harmless."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.text import Text


def shown_bytes(size: float) -> str:
    """Bytes in decimal units: "160 kB", "1.9 MB"."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" or size >= 100 else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


def shown_seconds(seconds: float) -> str:
    """A duration in its two largest units: "3.2 s", "4 min 05 s", "2 h 10 min", "3 d 4 h"."""
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.1f} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    if whole < 86400:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    return f"{whole // 86400} d {whole % 86400 // 3600} h"


def counted(count: int, what: str) -> str:
    """A number of things: "1 blob", "2 blobs"."""
    return f"{count:,} {what}" if count == 1 else f"{count:,} {what}s"


def printable(text: str) -> str:
    """Untrusted text, with the characters that would control a terminal escaped."""
    return "".join(char if char.isprintable() else f"\\x{ord(char):02x}" for char in text)


def foreign(text: str, style: str = "") -> Text:
    """The same for a table, letter by letter: Rich would otherwise find styles and emoji in it."""
    from rich.text import Text

    return Text(printable(text), style)
