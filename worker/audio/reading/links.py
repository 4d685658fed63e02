"""Divides the bytes of a file into links: files of one format that were put one after the other.

`cat one.mp3 two.mp3`, a chained Ogg, and a recorder that was restarted make such files. A decoder stops at the end of
the first link, or takes the head of the second for audio. So each link is decoded alone.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Protocol

from worker.audio import ogg
from worker.audio.reading.formats import matroska, mpeg, tags
from worker.audio.reading.formats.caf import CAF_START, CafLink
from worker.audio.reading.formats.riff import RIFF_START, W64_START, RiffLink, w64_seconds
from worker.audio.reading.source import BLOCK_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from worker.audio.reading.source import ByteSource

SNIFFED_BYTES = BLOCK_BYTES
LONGEST_MARK = 160

MARKS = {
    "flac": re.compile(rb"fLaC\x00\x00\x00\x22"),
    "aiff": re.compile(rb"FORM....AIF[FC]", re.DOTALL),
    "au": re.compile(rb"\.snd\x00\x00.{2}.{4}\x00\x00\x00[\x01-\x1b]", re.DOTALL),
    "caf": CAF_START,
    "matroska": re.compile(rb"\x1a\x45\xdf\xa3.{1,40}\x42\x82.{1,8}(?:webm|matroska)", re.DOTALL),
    "w64": W64_START,
    "amr": re.compile(rb"#!AMR(?:-WB)?\n"),
    "mp3": re.compile(b"|".join([tags.ID3.pattern, tags.ID3V1.pattern, mpeg.COUNTED.pattern]), re.DOTALL),
    "aac": tags.ID3,
}
"""The start of a file of each format, in at most LONGEST_MARK bytes; audio does not have it by chance."""

MP4_BOXES = frozenset({b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"styp"})


class Link(Protocol):
    """One file among several, as FFmpeg reads it: `format` is FFmpeg's name.

    `claimed` is its length in seconds as its header tells, if this module has to read that. `complaint` says, after
    the last byte, what is wrong with its end.
    """

    format: str
    claimed: float | None

    @property
    def complaint(self) -> str | None:
        """What is wrong with its end."""

    def read(self, size: int) -> bytes:
        """The next bytes; none at its end. Raises `OSError`."""
        ...


def sniffed(head: bytes) -> str | None:
    """FFmpeg's name of the format that the first bytes of a file show; None if none is known."""
    if RIFF_START.match(head):
        return "wav"
    if head.startswith(ogg.CAPTURE):
        return "ogg"
    if head[4:8] in MP4_BOXES:
        return "mov"
    marked = (name for name, mark in MARKS.items() if name not in {"mp3", "aac"} and mark.match(head))
    return next(marked, None) or mpeg.mpeg_format(head)


def links(source: ByteSource) -> Iterator[Link]:
    """The links in their order, without MP4's; each has to be read to its end before the next one is asked for.

    What follows the last link and is not audio is left in the source. Raises `OSError`.
    """
    while True:
        tags.skip_tags(source)
        name = sniffed(source.peek(SNIFFED_BYTES))
        if name is None or name == "mov":
            return
        yield _MAKERS.get(name, MarkedLink)(source, name)


class MarkedLink:
    """A link that ends where the mark of the next one begins, or a tag behind the audio."""

    complaint: str | None = None

    def __init__(self, source: ByteSource, name: str) -> None:
        self.format = name
        claims = _CLAIMS.get(name)
        self.claimed = claims(source.peek(SNIFFED_BYTES)) if claims else None
        self.whole = _whole_bytes(name, source.peek(LONGEST_MARK))
        self._source = source
        self._start = source.position
        self._mark = _ENDS.get(name)
        self._first = 1  # its own mark is at 0

    @property
    def passed(self) -> int:
        """Bytes that were read."""
        return self._source.position - self._start

    def read(self, size: int) -> bytes:
        """The next bytes; none where the next link begins."""
        if self._mark is None:
            return self._source.take(size)
        ahead = self._source.peek(size + LONGEST_MARK)
        found = self._mark.search(ahead, self._first)
        self._first = 0
        return self._source.take(min(size, found.start()) if found else size)


def _whole_bytes(name: str, head: bytes) -> int | None:
    """The bytes of a whole link, if its header tells them."""
    if name == "aiff":
        return 8 + int.from_bytes(head[4:8], "big")
    if name == "matroska":
        return matroska.whole_bytes(head)
    return int.from_bytes(head[16:24], "little") if name == "w64" else None


class OggLink:
    """One link of a chained Ogg: it ends where a stream begins after pages of another one."""

    claimed: float | None = None

    def __init__(self, source: ByteSource, name: str) -> None:
        self.format = name
        self._source = source
        self._left = 0
        self._whole = True
        self._ended = False
        self._in_streams = False
        self._broken = False
        self._gap = False  # bytes that are no page
        self._between = 0  # those among them that are not 0

    @property
    def complaint(self) -> str | None:
        """Whether the last pages are whole, the last one says that it is that, and only zeros are behind it."""
        if self._ended and self._whole and not self._broken:
            return "bytes follow its last page, and were not taken" if self._between else None
        if self._ended and self._whole:
            return "its last pages are damaged: audio is missing there"
        return "it has no end mark: the recording was cut off, or its recorder did not finish it"

    def read(self, size: int) -> bytes:
        """The next bytes; none where the next link begins."""
        if not self._left:
            self._next_page()
        taken = self._source.take(min(size, self._left))
        self._left -= len(taken)
        if self._left and not taken:
            self._whole, self._left = False, 0
        return taken

    def _next_page(self) -> None:
        page = ogg.read_page_header(self._source.peek(ogg.HEADER.size + ogg.MOST_SEGMENTS))
        if page is None:
            self._pass_over()
            return
        first = bool(page.flags & ogg.FIRST)
        if first and self._in_streams:
            return
        self._in_streams = not first
        self._ended = bool(page.flags & ogg.LAST)
        if not ogg.is_whole(self._source.peek(page.size)) or self._gap:
            self._broken = True
        elif not self._ended:  # the times of this page tell what is missing before it; those of the last page do not
            self._broken = False
        self._left, self._between, self._gap = page.size, 0, False

    def _pass_over(self) -> None:
        """Go to what may be the next page; behind the last one, a file of another format is the next link."""
        ahead = self._source.peek(BLOCK_BYTES)
        place = ahead.find(ogg.CAPTURE, 1)
        passed = place if place > 0 else max(len(ahead) - len(ogg.CAPTURE) + 1, min(1, len(ahead)))
        next_file = sniffed(ahead) not in (None, "ogg")
        if self._ended and not self._between and (next_file or ahead.startswith(tags.HARMLESS)):
            return
        self._left, self._gap = passed, True
        self._between += len(ahead[:passed].strip(b"\0"))


_CLAIMS = {"mp3": mpeg.claimed_seconds, "w64": w64_seconds}
_ENDS = {
    name: mark if name == "matroska" else re.compile(mark.pattern + b"|" + tags.BEHIND_AUDIO.pattern, re.DOTALL)
    for name, mark in MARKS.items()
}
"""Where a link ends. A Matroska may have a file with a tag inside, as a cover."""

_MAKERS: dict[str, Callable[[ByteSource, str], Link]] = {"ogg": OggLink, "wav": RiffLink, "caf": CafLink}
