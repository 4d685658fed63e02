"""FLAC and MP3, encoded by FFmpeg while the audio comes."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, BinaryIO, NamedTuple, cast

import av
import numpy as np

from codec.entry import BYTES_PER_SAMPLE
from worker.errors import AudioFileError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from av.audio.stream import AudioStream
    from av.container import OutputContainer

    from worker.audio.writing.formats import AudioFormat

MP3_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)
MP3_BITS = {24000: 64000, 48000: 96000}
"""Bits per second up to a sample rate: mono, and more than speech needs."""


class FfmpegEncoding(NamedTuple):
    """FFmpeg's names of an encoder and of the samples that it takes."""

    codec: str
    samples: str


ENCODINGS = {"flac": FfmpegEncoding("flac", "s16"), "mp3": FfmpegEncoding("libmp3lame", "s16p")}


def check_rate(form: AudioFormat, rate: int) -> None:
    """Make sure that a format has a sample rate (Hz).

    Raises:
        AudioFileError: it has not.
    """
    if form == "mp3" and rate not in MP3_RATES:
        rates = ", ".join(map(str, MP3_RATES))
        raise AudioFileError(f"MP3 has no sample rate of {rate} Hz: give one of {rates} as --rate")


@contextmanager
def encoding_writer(
    file: BinaryIO, path: Path, form: AudioFormat, sample_rate: int
) -> Iterator[Callable[[bytes], object]]:
    """Give a function that appends s16le mono PCM.

    Raises:
        AudioFileError: FFmpeg refuses it.
        OSError: it can't be written.
    """
    check_rate(form, sample_rate)
    try:
        with av.open(file, "w", str(form)) as container:
            encoder = _Encoder(container, ENCODINGS[form], sample_rate)
            yield encoder.append
            encoder.finish()
    except av.FFmpegError as error:
        raise AudioFileError(f"{path} can't be encoded as {form}: {error.strerror}") from error


class _Encoder:
    """Cuts PCM into the encoder's frames."""

    def __init__(self, container: OutputContainer, encoding: FfmpegEncoding, sample_rate: int) -> None:
        self._container = container
        self._encoding = encoding
        self._stream = cast("AudioStream", container.add_stream(encoding.codec, rate=sample_rate))
        self._stream.layout = "mono"
        self._stream.format = encoding.samples
        if encoding.codec == "libmp3lame":
            self._stream.bit_rate = next(bits for rate, bits in MP3_BITS.items() if sample_rate <= rate)
        self._stream.codec_context.open()
        self._frame_bytes = self._stream.codec_context.frame_size * BYTES_PER_SAMPLE
        self._held = bytearray()
        self._samples = 0

    def append(self, pcm: bytes) -> None:
        self._held += pcm
        whole = len(self._held) // self._frame_bytes * self._frame_bytes
        for start in range(0, whole, self._frame_bytes):
            self._encode(bytes(self._held[start : start + self._frame_bytes]))
        del self._held[:whole]

    def finish(self) -> None:
        if self._held:
            self._encode(bytes(self._held))
        self._container.mux(self._stream.encode(None))

    def _encode(self, pcm: bytes) -> None:
        samples = np.frombuffer(pcm, "<i2").reshape(1, -1)
        frame = av.AudioFrame.from_ndarray(samples, format=self._encoding.samples, layout="mono")
        frame.sample_rate = self._stream.rate
        frame.pts = self._samples
        self._samples += samples.shape[1]
        self._container.mux(self._stream.encode(frame))
