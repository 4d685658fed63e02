"""Decodes one link with FFmpeg. What can't be decoded is told, and decoding goes on behind it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import av
import numpy as np

from worker.audio.reading.flaws import Flaw
from worker.audio.reading.formats import flac, mpeg
from worker.audio.reading.formats.flac import FlacNumbers
from worker.audio.reading.links import MarkedLink
from worker.audio.reading.mono import as_float
from worker.audio.reading.source import BLOCK_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from av.audio.frame import AudioFrame
    from av.packet import Packet
    from numpy.typing import NDArray

    from worker.audio.reading.links import Link

GAP_SECONDS = 0.05
"""Timestamps may be this much off without anything being lost: Matroska rounds them to milliseconds."""

LONGEST_GAP = 3600.0
"""Seconds; a longer one is a wrong timestamp."""

LOSSY_TOLERANCE = 0.1
"""Seconds, at least two frames, by which a lossy file may differ from its header: encoders add and count padding."""

EXACT_CODECS = ("pcm_", "flac", "alac")
TIMED = frozenset({"ogg", "matroska", "mov", "flac"})
"""Formats whose timestamps are in the file; in the others they count the packets that were found."""

TOTALS = frozenset({"flac", "mov", "aiff", "au", "caf", "w64"})
"""Formats whose header tells the length of the audio."""

OPTIONS = {"ignore_length": "1"}
"""For WAV: `RiffLink` knows better where the audio ends."""


LONGEST_END = 1 << 10
"""Bytes that a live recording without a video may have behind its last packet."""

HINTS = {
    "mov": "; its index (moov) is missing or damaged, as in a recording that was not finished",
    "caf": "; its packet table (pakt), if its codec needs one, must be before its audio",
}


class Undecodable(Exception):
    """The message says why nothing of a link can be decoded."""


class Block(NamedTuple):
    """Samples on the scale of 1.0, a row for each channel, and their rate in Hz."""

    samples: NDArray[np.float32]
    rate: int

    @property
    def seconds(self) -> float:
        """Its length."""
        return float(self.samples.shape[1]) / self.rate


class LinkDecoder:
    """One link as blocks.

    `rate` in Hz and `channels` are those of its header; `claimed` is its length in seconds, if it tells that.

    Raises:
        Undecodable: its header is damaged, or of a codec that FFmpeg does not have.
        OSError: the file can't be read.
    """

    def __init__(self, link: Link) -> None:
        self._link = link
        try:
            options = OPTIONS if link.format == "wav" else {}
            self._container = av.open(link, "r", link.format, options, metadata_errors="ignore")
        except (av.FFmpegError, ValueError) as error:
            raise Undecodable(_reason(error) + HINTS.get(link.format, "")) from error
        if not self._container.streams.audio:
            raise Undecodable("it holds no audio track")
        self._stream = self._container.streams.audio[0]
        if getattr(self._stream, "codec_context", None) is None:
            raise Undecodable("FFmpeg has no decoder for it")
        self.rate = self._stream.rate
        self.channels = self._stream.channels
        if not self.rate or not self.channels:
            raise Undecodable("its header is damaged")
        self.claimed = link.claimed or self._claimed()
        self._is_alone = len(self._container.streams) == 1
        self._end: float | None = None
        self._came = 0.0
        self._decoded_bytes = 0
        self._failed_bytes = 0
        self._longest_frame = 0.0
        self._last_frame = b""  # of a FLAC, as FFmpeg cuts it
        self._audio_end = 0

    def blocks(self, note: Callable[[Flaw], None], base: float) -> Iterator[Block]:
        """All audio in its order, with silence where the file's times say that some is missing.

        `note` takes the flaws; their times are `base` seconds and the time in this link. Raises `OSError`.
        """

        def flaw(what: str, lost: float = 0.0, *, silence: bool = False) -> None:
            note(Flaw(base + self._came, what, lost, silence))

        others = len(self._container.streams.audio) - 1
        if others:
            flaw(f"it has {others} more audio track{'s' if others > 1 else ''}: only the first was taken")
        with self._container:
            for frame in self._frames(flaw):
                lost = self._believed(self._missing_before(frame), flaw)
                if self._failed_bytes or lost:
                    self._tell_loss(flaw, lost)
                    yield from self._silence(lost, frame)
                yield self._counted(frame)
        if self._failed_bytes:
            self._tell_loss(flaw, 0.0)
        while self._link.read(BLOCK_BYTES):  # some decoders stop where the header says that the audio ends
            pass
        self._check_length(flaw)
        self._check_surplus(flaw)

    def _frames(self, flaw: Callable[..., None]) -> Iterator[AudioFrame]:
        numbers = FlacNumbers(self._stream.codec_context.extradata) if self._link.format == "flac" else None
        try:
            for packet in self._container.demux(self._stream):
                self._audio_end = max(self._audio_end, (packet.pos or 0) + packet.size)
                if numbers is not None:
                    _number(packet, numbers)
                    self._last_frame = bytes(packet) or self._last_frame
                yield from self._decoded(packet)
        except av.FFmpegError as error:
            flaw(f"it can't be read any further: {_reason(error)}")

    def _decoded(self, packet: Packet[Any]) -> list[Any]:
        try:
            frames = packet.decode()
        except av.FFmpegError:
            self._failed_bytes += packet.size
            return []
        self._decoded_bytes += packet.size
        if self._link.format == "mp3" and packet.size:
            self._failed_bytes += abs(mpeg.surplus(bytes(packet)))
        return frames

    def _missing_before(self, frame: AudioFrame) -> float:
        if frame.pts is None or frame.time_base is None:
            return 0.0
        time = float(frame.pts * frame.time_base)
        gap = 0.0 if self._end is None else time - self._end
        self._end = time
        exact = self._failed_bytes or self._link.format == "flac"
        least = 1.5 / frame.sample_rate if exact else GAP_SECONDS
        return gap if gap > least else 0.0

    def _believed(self, gap: float, flaw: Callable[..., None]) -> float:
        """The gap, if the file has room for it: a damaged time may be years off."""
        room = LONGEST_GAP if self.claimed is None else min(LONGEST_GAP, self.claimed - self._came + GAP_SECONDS)
        if gap <= max(room, GAP_SECONDS):
            return gap
        flaw(f"its times go on {gap:.2f} s later, which is not believed: no silence was put there")
        return 0.0

    def _tell_loss(self, flaw: Callable[..., None], gap: float) -> None:
        if gap and self._link.format in TIMED:
            flaw("audio is missing or damaged", gap, silence=True)
        elif self._failed_bytes:
            rate = self._decoded_bytes / self._came if self._came else 0.0
            size = self._failed_bytes
            flaw(
                f"{size:,} byte{'' if size == 1 else 's'} can't be decoded", self._failed_bytes / rate if rate else gap
            )
        else:
            flaw("audio is missing", gap, silence=True)
        self._failed_bytes = 0

    def _silence(self, seconds: float, frame: AudioFrame) -> Iterator[Block]:
        left = round(seconds * frame.sample_rate)
        while left > 0:
            step = min(left, frame.sample_rate)
            left -= step
            self._came += step / frame.sample_rate
            yield Block(np.zeros((frame.layout.nb_channels, step), np.float32), frame.sample_rate)

    def _counted(self, frame: AudioFrame) -> Block:
        block = Block(_samples(frame), frame.sample_rate)
        self._came += block.seconds
        self._longest_frame = max(self._longest_frame, block.seconds)
        if self._end is not None:
            self._end += block.seconds
        return block

    def _claimed(self) -> float | None:
        stream, container = self._stream, self._container
        if self._link.format == "matroska" and len(container.streams) == 1 and container.duration:
            return container.duration / av.time_base
        if self._link.format not in TOTALS:
            return None
        if stream.duration and stream.time_base:
            return float(stream.duration * stream.time_base)
        return stream.frames / stream.rate if stream.frames and stream.codec_context.name.startswith("pcm_") else None

    def _check_length(self, flaw: Callable[..., None]) -> None:
        if self._link.complaint:
            flaw(self._link.complaint)
            return
        if self.claimed is None or self._link.format == "wav":  # whose link has compared the bytes
            return
        exact = self._stream.codec_context.name.startswith(EXACT_CODECS)
        tolerance = 1.5 / self.rate if exact else max(LOSSY_TOLERANCE, 2 * self._longest_frame)
        if abs(self._came - self.claimed) > tolerance:
            less = self._came < self.claimed
            said = f"its header says {self.claimed:.2f} s, and {self._came:.2f} s came"
            flaw(f"it ends early: {said}" if less else said, self.claimed - self._came if less else 0.0)

    def _check_surplus(self, flaw: Callable[..., None]) -> None:
        link = self._link
        if not isinstance(link, MarkedLink):
            return
        surplus = link.passed - link.whole - 1 if link.whole else 0
        if link.format == "matroska" and not link.whole and self._is_alone:
            surplus = link.passed - self._audio_end - LONGEST_END
        if surplus > 0 or (self._last_frame and flac.has_surplus(self._last_frame)):
            flaw("bytes follow the audio that its header tells of, and were not taken")


def _samples(frame: AudioFrame) -> NDArray[np.float32]:
    samples = as_float(frame.to_ndarray())
    return samples if frame.format.is_planar else samples.reshape(-1, frame.layout.nb_channels).T


def _number(packet: Packet[Any], numbers: FlacNumbers) -> None:
    first = numbers.first_sample(bytes(packet)) if packet.size else None
    if first is not None and packet.time_base:
        packet.pts = round(first / numbers.rate / packet.time_base)


def _reason(error: Exception) -> str:
    return (getattr(error, "strerror", None) or str(error)).lower()
