r"""Paths of objects in a directory tree: an object's name, unless a part of it is too long for a file's name.

Ids have up to 256 bytes, names of files 255. A longer part becomes several directories, `first\/\rest`: ids contain no
backslash, and a name that begins with a backslash is neither `.` nor `..`.
"""

from __future__ import annotations

import os

LONGEST = 255
"""Bytes of a file's name, on every common file system."""

JOINT = "\\/\\"
PIECE = LONGEST - 2
"""Bytes of a piece that has a backslash at both ends."""


def path_of(name: str) -> str:
    """The path of a name that does not hold `JOINT`."""
    return "/".join(JOINT.join(_pieces(part)) for part in name.split("/"))


def name_of(path: str) -> str:
    """The name that lies at a path."""
    return path.replace(JOINT, "")


def _pieces(part: str) -> list[str]:
    if len(os.fsencode(part)) <= LONGEST:
        return [part]
    pieces = [""]
    for character in part:
        if len(os.fsencode(pieces[-1] + character)) > PIECE:
            pieces.append("")
        pieces[-1] += character
    return pieces
