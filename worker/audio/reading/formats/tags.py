"""Tags that programs for music put before or behind the audio of any format: ID3, APE and Lyrics3."""

from __future__ import annotations

import re
import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from worker.audio.reading.source import ByteSource

ID3_HEADER = 10
ID3 = re.compile(rb"ID3[\x02-\x04][\x00-\x0f].[\x00-\x7f]{4}", re.DOTALL)

ID3V1_BYTES = 128
ID3V1 = re.compile(rb"TAG.{125}(?:\xff[\xe2-\xff]|ID3)", re.DOTALL)
"""A tag at the end of a file, with the start of another file behind it."""

APE_HEADER = struct.Struct("<8sIIII8x")
APE_IS_HEADER = 1 << 29
LYRICS = b"LYRICSBEGIN"
LYRICS_END = re.compile(b"LYRICS(?:200|END)")
LONGEST_LYRICS = 1_000_000
"""Bytes: the size of Lyrics3 has six digits."""

APE = re.compile(rb"APETAGEX[\xe8\xd0][\x03\x07]\x00\x00")
BEHIND_AUDIO = re.compile(APE.pattern + b"|" + LYRICS)
"""The start of a tag behind the audio; audio does not have it by chance."""

HARMLESS = (b"TAG", b"APETAGEX", LYRICS)
"""What may stand behind the last frame, besides zeros."""

LOOK_AHEAD = ID3V1_BYTES + 3


def skip_tags(source: ByteSource) -> None:
    """Pass over all tags that come next. Raises `OSError`."""
    while size := next_tag_bytes(source):
        source.skip(size)


def next_tag_bytes(source: ByteSource) -> int:
    """Length of the tag that comes next; 0 if none does. Raises `OSError`."""
    return tag_bytes(source.peek(LOOK_AHEAD)) or _lyrics_bytes(source) or _old_tag_bytes(source)


def tag_bytes(head: bytes) -> int:
    """Length of the tag that the bytes begin with, of which LOOK_AHEAD are enough; 0 if there is none that tells it."""
    if ID3V1.match(head):
        return ID3V1_BYTES
    if APE.match(head) and len(head) >= APE_HEADER.size:
        _, _, size, _, flags = APE_HEADER.unpack_from(head)
        return APE_HEADER.size + (size if flags & APE_IS_HEADER else 0)
    if not ID3.match(head):
        return 0
    size = 0
    for byte in head[6:ID3_HEADER]:
        size = size << 7 | byte
    footer = ID3_HEADER if head[5] & 0x10 else 0
    return ID3_HEADER + size + footer


def _lyrics_bytes(source: ByteSource) -> int:
    if source.peek(len(LYRICS)) != LYRICS:
        return 0
    found = LYRICS_END.search(source.peek(LONGEST_LYRICS))
    return found.end() if found else 0


def _old_tag_bytes(source: ByteSource) -> int:
    """Length of an ID3v1 tag. It stands behind something, and no format begins like it."""
    ahead = source.peek(ID3V1_BYTES)
    is_tag = source.position > 0 and ahead.startswith(b"TAG") and len(ahead) == ID3V1_BYTES
    return ID3V1_BYTES if is_tag else 0
