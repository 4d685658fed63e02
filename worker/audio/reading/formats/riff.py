"""WAV files as recorders leave them: sizes that were never filled in, audio past 4 GiB, files one after the other."""

from __future__ import annotations

import re
import struct
from typing import TYPE_CHECKING

from worker.audio.reading.formats import tags

if TYPE_CHECKING:
    from worker.audio.reading.source import ByteSource

RIFF_START = re.compile(rb"(?:RIFF|RF64|BW64)....WAVE", re.DOTALL)
RIFF_BYTES = 12
CHUNK = struct.Struct("<4sI")
CHUNK_NAME = re.compile(rb"[A-Za-z0-9_ -]{4}")
HEAD_CHUNKS = (b"fmt ", b"data")
FORMAT_BYTES = 16
LONGEST_CHUNK = 16 * 1024 * 1024
"""Bytes of one chunk beside the audio: a longer one counts only if the file says that it is so long."""

UNKNOWN_SIZES = (range(1), range(0x7FFF0000, 0x80000001), range(0xFFFF0000, 0x100000000))
"""Sizes of the audio that recorders and pipes write when they do not know it: 0, and almost 2 or 4 GiB."""


# The first half of the GUIDs in a Sony Wave64 file, which has 64-bit sizes that count the headers of 24 bytes too.
W64_START = re.compile(rb"riff\x2e\x91\xcf\x11\xa5\xd6\x28\xdb\x04\xc1\x00\x00", re.DOTALL)
W64_FORMAT, W64_AUDIO = b"fmt \xf3\xac\xd3\x11", b"data\xf3\xac\xd3\x11"
W64_HEADER_BYTES = 24


def w64_seconds(head: bytes) -> float | None:
    """The length of a Wave64 file in seconds, as its first bytes tell it."""
    facts, audio = head.find(W64_FORMAT), head.find(W64_AUDIO)
    if facts < 0 or audio < 0 or len(head) < audio + W64_HEADER_BYTES:
        return None
    (byte_rate,) = struct.unpack_from("<I", head, facts + W64_HEADER_BYTES + 8)
    (size,) = struct.unpack_from("<Q", head, audio + 16)
    return (size - W64_HEADER_BYTES) / byte_rate if byte_rate and size > W64_HEADER_BYTES else None


class RiffLink:
    """One WAV, whose audio goes on to where it ends, and not to where its header says.

    `audio_bytes` are those of the data chunk. `claimed_bytes` is their number as the header gives it, if it does.
    """

    claimed: float | None = None

    def __init__(self, source: ByteSource, name: str) -> None:
        self.format = name
        self._source = source
        self._head = bytearray()
        self._long: int | None = None
        self._start = source.position
        self._whole = 0  # bytes of the file, as its header says
        self._byte_rate = 0
        self._frame_bytes = 0
        self._left: int | None = None
        self._ended = False
        self.claimed_bytes: int | None = None
        self.audio_bytes = 0
        self._read_head()

    @property
    def complaint(self) -> str | None:
        """What the header says of the length, if that is not true."""
        claimed = self.claimed_bytes
        if claimed is None or not self._byte_rate or abs(claimed - self.audio_bytes) < max(1, self._frame_bytes):
            return None
        came, said = (size / self._byte_rate for size in (self.audio_bytes, claimed))
        how = "it ends early" if came < said else "all of it was taken"
        return f"it has {came:.3f} s of audio, and its header says {said:.3f} s: {how}"

    def read(self, size: int) -> bytes:
        """The head, then audio; none at its end. Raises `OSError`."""
        if self._head:
            taken = bytes(self._head[:size])
            del self._head[:size]
            return taken
        taken = b"" if self._ended else self._audio(size)
        self._ended = self._ended or not taken
        self.audio_bytes += len(taken)
        return taken

    def _audio(self, size: int) -> bytes:
        if self._left is None:
            ahead = self._source.peek(size + RIFF_BYTES)
            found = RIFF_START.search(ahead)
            return self._source.take(min(size, found.start()) if found else size)
        if not self._left:
            self._after_audio()
            return b"" if self._left == 0 else self._audio(size)
        taken = self._source.take(min(size, self._left))
        self._left -= len(taken)
        return taken

    def _after_audio(self) -> None:
        """Pass over the chunks after the audio; other bytes are more audio."""
        if self.claimed_bytes is not None and self.claimed_bytes % 2 and not self._chunk_at(0) and self._chunk_at(1):
            self._source.skip(1)  # the padding, which some writers leave out
        while (chunk := self._chunk_at(0)) is not None:
            name, size = chunk
            self._source.skip(CHUNK.size)
            if name == b"data":
                self.claimed_bytes = (self.claimed_bytes or 0) + size
                self._left = size
                return
            self._source.skip(size + size % 2)
        rest = self._source.peek(RIFF_BYTES)
        if len(rest) == 1 and self.claimed_bytes is not None and self.claimed_bytes % 2:
            self._source.skip(1)
        if len(rest) > 1 and not RIFF_START.match(rest) and not tags.next_tag_bytes(self._source):
            self._left = None

    def _chunk_at(self, offset: int) -> tuple[bytes, int] | None:
        """Name and size of the chunk that begins there: another one or the end must follow it."""
        ahead = self._source.peek(offset + CHUNK.size)[offset:]
        if len(ahead) < CHUNK.size or not CHUNK_NAME.match(ahead):
            return None
        name, size = CHUNK.unpack(ahead)
        if name == b"data":
            return name, size
        if RIFF_START.match(self._source.peek(offset + RIFF_BYTES)[offset:]):
            return None
        end = offset + CHUNK.size + size
        if self._covers(end):
            return name, size
        if size > LONGEST_CHUNK:
            return None
        after = self._source.peek(end + 1 + CHUNK.size)[end:]
        whole = len(after) <= 1 or any(CHUNK_NAME.match(after[pad:]) for pad in (size % 2, 0))
        return (name, size) if whole and self._holds(end) else None

    def _covers(self, size: int) -> bool:
        """Whether the file says that it goes on for so many bytes."""
        return self._source.position - self._start + size <= self._whole

    def _holds(self, size: int) -> bool:
        return len(self._source.peek(size)) == size

    def _read_head(self) -> None:
        self._head += self._source.take(RIFF_BYTES)
        self._note_whole(int.from_bytes(self._head[4:8], "little"))
        while len(head := self._source.peek(CHUNK.size)) == CHUNK.size:
            name, size = CHUNK.unpack(head)
            if name == b"data":
                self._head += self._source.take(CHUNK.size)
                self._note_size(size)
                return
            if size > LONGEST_CHUNK and self._covers(CHUNK.size + size):
                self._source.skip(CHUNK.size + size + size % 2)
                continue
            if size > LONGEST_CHUNK:
                return
            chunk = self._source.take(CHUNK.size + size)
            if size % 2 and self._is_padded():
                chunk += self._source.take(1)
            self._note(name, chunk[CHUNK.size :])
            if name in {b"fmt ", b"fact", b"ds64"}:  # damage in the others must not keep FFmpeg from the audio
                self._head += chunk

    def _is_padded(self) -> bool:
        """Whether an odd chunk of the head has its padding, which some writers leave out."""
        ahead = self._source.peek(1 + CHUNK.size)
        return not CHUNK_NAME.match(ahead) or bool(CHUNK_NAME.match(ahead[1:]) and ahead[1:5] in HEAD_CHUNKS)

    def _note(self, name: bytes, content: bytes) -> None:
        if name == b"fmt " and len(content) >= FORMAT_BYTES:
            self._byte_rate, self._frame_bytes = struct.unpack_from("<IH", content, 8)
        elif name == b"ds64" and len(content) >= 16:
            whole, self._long = struct.unpack_from("<QQ", content)
            self._note_whole(whole)

    def _note_whole(self, size: int) -> None:
        if not any(size in unknown for unknown in UNKNOWN_SIZES):
            self._whole = size + CHUNK.size

    def _note_size(self, size: int) -> None:
        if size == 0xFFFFFFFF and self._long:
            size = self._long
        elif any(size in unknown for unknown in UNKNOWN_SIZES):
            return
        self.claimed_bytes = self._left = size
        if self._byte_rate:
            self.claimed = size / self._byte_rate
