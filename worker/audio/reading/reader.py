"""Reads audio files and pipes of any usual format as mono s16le at a supported rate.

It streams, so that memory stays the same for a second and for a day of audio. A pipe is read once and never sought in.
"""

from __future__ import annotations

import sys
from contextlib import contextmanager
from errno import EBADF
from typing import TYPE_CHECKING, BinaryIO, cast

from codec.entry import BYTES_PER_SAMPLE, SAMPLE_RATES
from worker.audio.rate_converter import RateConverter
from worker.audio.reading.decoding import LinkDecoder, Undecodable
from worker.audio.reading.flaws import Flaw, ReadReport
from worker.audio.reading.formats.boxes import box_links, seekable
from worker.audio.reading.links import SNIFFED_BYTES, links, sniffed
from worker.audio.reading.mono import MonoMixer
from worker.audio.reading.source import BLOCK_BYTES, ByteSource
from worker.audio.samples import FULL_SCALE, s16le
from worker.audio.writing.wav import wav_header
from worker.errors import AudioFileError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from io import FileIO
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from worker.audio.reading.decoding import Block
    from worker.audio.reading.links import Link

STANDARD_INPUT = "-"
KNOWN_FORMATS = "WAV, FLAC, MP3, Ogg, AAC, M4A, MP4, WebM, Matroska, AIFF, AU, CAF or AMR"


class AudioReader:
    """One file, opened: iterate over its `chunks` once, then read its `report`.

    `sample_rate` in Hz is the rate of the chunks, `source_rate` and `channels` are the file's own.
    """

    def __init__(self, name: str, decoders: Iterator[LinkDecoder], report: ReadReport) -> None:
        self._name = name
        self._decoders = decoders
        first = next(decoders, None)
        if first is None:
            raise AudioFileError(f"{name} holds no audio")
        self._first = first
        self.source_rate, self.channels = first.rate, first.channels
        self.sample_rate = _supported_rate(first.rate)
        self.report = report
        report.claimed = first.claimed
        self._mixer = MonoMixer()

    def chunks(self, chunk_seconds: float) -> Iterator[bytes]:
        """The audio as s16le mono, all chunks of equal length but the last.

        The mean of the channels is taken. Mono of up to 16 bits at a supported rate comes bit for bit.

        Raises:
            AudioFileError: the file can't be read any further, or it holds no audio.
            ValueError: `chunk_seconds` is less than one sample.
        """
        size = round(chunk_seconds * self.sample_rate) * BYTES_PER_SAMPLE
        if size < BYTES_PER_SAMPLE:
            raise ValueError(f"a chunk of {chunk_seconds} s holds no sample")
        with reading(self._name):
            yield from _cut(self._pcm(), size)
        if not self.report.seconds:
            raise AudioFileError(f"{self._name} holds no audio{_first_flaw(self.report)}")

    def _pcm(self) -> Iterator[bytes]:
        samples = 0
        for block in _resampled(self._mono(), self.sample_rate):
            samples += len(block)
            self.report.seconds = samples / self.sample_rate
            yield s16le(block * FULL_SCALE)
        self.report.cancelled = self._mixer.cancelled

    def _mono(self) -> Iterator[tuple[NDArray[np.float32], int]]:
        for block in self._blocks():
            yield self._mixer.mix(block.samples, block.rate), block.rate

    def _blocks(self) -> Iterator[Block]:
        came = 0.0
        decoder: LinkDecoder | None = self._first
        while decoder is not None:
            for block in decoder.blocks(self.report.add, came):
                came += block.seconds
                yield block
            decoder = next(self._decoders, None)


@contextmanager
def open_audio(path: Path, *, raw_rate: int | None = None) -> Iterator[AudioReader]:
    """Open a file, a pipe, or standard input (`-`).

    With `raw_rate` (Hz) its bytes are s16le mono samples without a header.

    Raises:
        AudioFileError: it is missing, unreadable, empty or not an audio file.
    """
    name = "standard input" if str(path) == STANDARD_INPUT else str(path)
    with reading(name), _opened(path) as file:
        source = ByteSource(file, b"" if raw_rate is None else wav_header(raw_rate))
        report = ReadReport()
        yield AudioReader(name, _decoders(name, cast("BinaryIO", file), source, report), report)


@contextmanager
def reading(name: str) -> Iterator[None]:
    """Turn failures of a block that reads a file into an `AudioFileError` that names the file."""
    try:
        yield
    except OSError as error:
        raise AudioFileError(f"{name} can't be read: {error.strerror or error}") from error


@contextmanager
def _opened(path: Path) -> Iterator[FileIO]:
    # Unbuffered: a reader that waits for a pipe in another thread would hold the lock of a buffer that is closed.
    if str(path) == STANDARD_INPUT and sys.stdin is None:  # closed by who started us: another file may have its number
        raise OSError(EBADF, "it is closed")
    target, close = (sys.stdin.fileno(), False) if str(path) == STANDARD_INPUT else (path, True)
    with open(target, "rb", buffering=0, closefd=close) as file:
        yield file


def _decoders(name: str, file: BinaryIO, source: ByteSource, report: ReadReport) -> Iterator[LinkDecoder]:
    """A decoder for each link; the first one has to be good."""
    first = True
    for link in _links(file, source):
        try:
            yield LinkDecoder(link)
        except Undecodable as error:
            if first:
                raise AudioFileError(f"{name} can't be decoded as {link.format}: {error}") from error
            report.add(Flaw(report.seconds, f"the next part of it can't be decoded as {link.format}: {error}"))
            while link.read(BLOCK_BYTES):
                pass
        first = False
    rest = source.peek(SNIFFED_BYTES)
    if first and rest:
        raise AudioFileError(f"{name} has no known audio format: give {KNOWN_FORMATS}, or bare samples with --raw")
    if rest and not first:
        report.add(Flaw(report.seconds, "the bytes that follow are not audio"))


def _links(file: BinaryIO, source: ByteSource) -> Iterator[Link]:
    if sniffed(source.peek(SNIFFED_BYTES)) != "mov":
        yield from links(source)
        return
    with seekable(file, source) as (whole, start):
        yield from box_links(whole, start)
    source.skip(sys.maxsize)


def _first_flaw(report: ReadReport) -> str:
    return f": {report.flaws[0]}" if report.flaws else ""


def _supported_rate(source_rate: int) -> int:
    return min((rate for rate in SAMPLE_RATES if rate >= source_rate), default=max(SAMPLE_RATES))


def _resampled(blocks: Iterator[tuple[NDArray[np.float32], int]], rate: int) -> Iterator[NDArray[np.float32]]:
    converter: RateConverter | None = None
    for samples, source_rate in blocks:
        if converter is None or converter.source_rate != source_rate:
            if converter is not None:
                yield converter.rest()
            converter = RateConverter(source_rate, rate)
        yield converter.convert(samples)
    if converter is not None:
        yield converter.rest()


def _cut(blocks: Iterator[bytes], size: int) -> Iterator[bytes]:
    held = bytearray()
    for block in blocks:
        held += block
        while len(held) >= size:
            yield bytes(held[:size])
            del held[:size]
    if held:
        yield bytes(held)
