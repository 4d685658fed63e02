"""CAF: chunks with 64-bit sizes. FFmpeg passes over those before the audio only in files that it can seek in.

So a link gives it the chunks that it needs, and then the audio. Apple's specification of the Core Audio Format has all.
"""

from __future__ import annotations

import re
import struct
from typing import TYPE_CHECKING

from worker.audio.reading.formats import tags
from worker.audio.reading.source import BLOCK_BYTES

if TYPE_CHECKING:
    from worker.audio.reading.source import ByteSource

CAF_START = re.compile(rb"caff\x00\x01\x00\x00desc")
LINK_END = re.compile(CAF_START.pattern + b"|" + tags.BEHIND_AUDIO.pattern, re.DOTALL)
LONGEST_MARK = 12
FILE_HEADER_BYTES = 8
CHUNK = struct.Struct(">4sq")
EDIT_COUNT_BYTES = 4
"""The data chunk counts these too."""

LONGEST_CHUNK = 16 * 1024 * 1024
"""Bytes of a chunk that FFmpeg needs; the packet table of ten hours of AAC has 4 MB."""

DECODERS_CHUNKS = frozenset({b"desc", b"chan", b"kuki", b"pakt"})
KNOWN_CHUNKS = DECODERS_CHUNKS | {b"free", b"info", b"strg", b"mark", b"regn", b"peak", b"ovvw", b"edct"}
KNOWN_CHUNKS |= {b"inst", b"midi", b"umid", b"uuid"}
PACKET_TABLE = struct.Struct(">qqii")


class CafLink:
    """One CAF. It ends behind the last chunk, or where the next file or a tag of another program begins."""

    format = "caf"
    claimed: float | None = None
    complaint: str | None = None

    def __init__(self, source: ByteSource, _name: str) -> None:
        self._source = source
        self._rate = 0.0
        self._codec = b""
        self._left: int | None = 0
        self._ended = False
        self._head = bytearray(source.take(FILE_HEADER_BYTES))
        self._read_head()

    def read(self, size: int) -> bytes:
        """The head, then audio; none at its end. Raises `OSError`."""
        if self._head:
            taken = bytes(self._head[:size])
            del self._head[:size]
            return taken
        taken = b"" if self._ended else self._audio(size)
        if not taken and not self._ended:
            self._ended = True
            self._after_audio()
        return taken

    def _audio(self, size: int) -> bytes:
        wanted = size if self._left is None else min(size, self._left)
        found = LINK_END.search(self._source.peek(wanted + LONGEST_MARK))
        taken = self._source.take(min(wanted, found.start()) if found else wanted)
        if self._left is not None:
            self._left -= len(taken)
        return taken

    def _read_head(self) -> None:
        while len(header := self._source.take(CHUNK.size)) == CHUNK.size:
            name, size = CHUNK.unpack(header)
            if name == b"data":
                self._head += header + self._source.take(EDIT_COUNT_BYTES)
                self._left = None if size < 0 else max(0, size - EDIT_COUNT_BYTES)
                return
            if name in DECODERS_CHUNKS and 0 <= size <= LONGEST_CHUNK:
                self._head += header + self._noted(name, self._source.take(size))
            else:
                self._source.skip(size)

    def _noted(self, name: bytes, content: bytes) -> bytes:
        """The content of a chunk as FFmpeg should have it."""
        if name == b"desc" and len(content) >= 12:
            self._rate, self._codec = struct.unpack_from(">d4s", content)
        if name != b"pakt" or self._codec != b"alac" or len(content) < PACKET_TABLE.size:
            return content
        packets, frames, priming, _ = PACKET_TABLE.unpack_from(content)
        self.claimed = frames / self._rate if self._rate > 0 else None
        # The last packet of ALAC has only the samples that are audio. FFmpeg would take the remainder off once more.
        return PACKET_TABLE.pack(packets, frames, priming, 0) + content[PACKET_TABLE.size :]

    def _after_audio(self) -> None:
        """Pass over the chunks behind the audio, and over what is neither a chunk nor a tag."""
        while len(header := self._source.peek(CHUNK.size)) == CHUNK.size:
            name, size = CHUNK.unpack(header)
            if name not in KNOWN_CHUNKS or size < 0:
                break
            self._source.skip(CHUNK.size + size)
        if not tags.next_tag_bytes(self._source):
            self._pass_other_bytes()

    def _pass_other_bytes(self) -> None:
        other = 0
        while ahead := self._source.peek(BLOCK_BYTES):
            found = LINK_END.search(ahead)
            other += len(ahead[: found.start() if found else None].strip(b"\0"))
            if found:
                self._source.skip(found.start())
                break
            self._source.skip(max(1, len(ahead) - LONGEST_MARK))
        if other:
            self.complaint = "bytes follow the audio that its header tells of, and were not taken"
