"""Byte ranges of HTTP: RFC 9110, section 14. Only single ranges: a player needs no other."""

from __future__ import annotations

import re
from typing import NamedTuple

_SINGLE = re.compile(r"\s*bytes\s*=\s*([0-9]{0,18})\s*-\s*([0-9]{0,18})\s*", re.IGNORECASE)


class Unsatisfiable(Exception):
    """No byte of the file is asked for, or several ranges are."""


class ByteRange(NamedTuple):
    """The bytes from `first` up to and without `last`; `partial` says whether a range was asked for."""

    first: int
    last: int
    partial: bool


def asked_range(header: str | None, size: int) -> ByteRange:
    """The part of a file of `size` bytes that a Range header asks for; all of it for a header of another unit.

    Raises:
        Unsatisfiable: answer 416.
    """
    if header is None or not header.strip().lower().startswith("bytes"):
        return ByteRange(0, size, partial=False)
    found = _SINGLE.fullmatch(header)
    if found is None or found.groups() == ("", ""):
        raise Unsatisfiable
    first, last = found.groups()
    if not first:
        begin, end = max(0, size - int(last)), size
    else:
        begin, end = int(first), min(size, int(last) + 1 if last else size)
    if begin >= end:
        raise Unsatisfiable
    return ByteRange(begin, end, partial=True)
