"""Audio files on disk: any that libsndfile knows is read as mono s16le at a supported rate; WAV is written.

Both directions stream, so that memory stays the same for a second and for a day of audio.
"""

from __future__ import annotations

import os
import uuid
import wave
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
import soundfile
import soxr

from codec.entry import BYTES_PER_SAMPLE, SAMPLE_RATES
from worker.audio.samples import FULL_SCALE, s16le
from worker.errors import AudioFileError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

BLOCK_FRAMES = 16384
MAX_WAV_BYTES = 2**32 - 1 - 36
"""A WAV's 32-bit size field counts the data and 36 bytes of header."""

PART_NAME = 60
"""Characters of a name that its unfinished file has too: each has up to 4 bytes, and a name at most 255."""


@dataclass(frozen=True, slots=True)
class AudioInfo:
    """Facts of a file: `sample_rate` in Hz is the one its PCM is read at, `source_rate` the file's own."""

    sample_rate: int
    source_rate: int
    channels: int
    seconds: float


def inspect(path: Path) -> AudioInfo:
    """Describe a file without reading its audio.

    Raises:
        AudioFileError: it is missing, unreadable, empty or not an audio file.
    """
    with _opened(path) as file:
        return AudioInfo(
            _supported_rate(file.samplerate), file.samplerate, file.channels, file.frames / file.samplerate
        )


def read_chunks(path: Path, chunk_seconds: float) -> Iterator[bytes]:
    """The file as s16le mono at `inspect(path).sample_rate`, all chunks of equal length but the last.

    Channels are averaged. Mono of up to 16 bits at a supported rate comes back bit for bit.

    Raises:
        AudioFileError: as `inspect`, and when the file turns out to be damaged in the middle.
        ValueError: `chunk_seconds` is less than one sample.
    """
    with _opened(path) as file:
        rate = _supported_rate(file.samplerate)
        chunk_bytes = round(chunk_seconds * rate) * BYTES_PER_SAMPLE
        if chunk_bytes < BYTES_PER_SAMPLE:
            raise ValueError(f"a chunk of {chunk_seconds} s holds no sample")
        yield from _cut(_pcm(_resampled(_mono_blocks(file), file.samplerate, rate)), chunk_bytes)


@contextmanager
def write_wav(path: Path, sample_rate: int) -> Iterator[Callable[[bytes], None]]:
    """Give a function that appends s16le mono PCM; the file appears under its name when the block ends without error.

    Raises:
        AudioFileError: it can't be written, or outgrows the 4 GiB a WAV can hold.
    """
    with whole_file(path) as file:
        wav = _mono_wav(file, sample_rate)
        try:
            yield lambda pcm: _append(wav, pcm, path)
            with writing(path):
                wav.close()
        finally:
            with suppress(OSError):
                wav.close()


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """A file that appears under its name when the block ends without error; a link is followed.

    Until then it is in the same directory, under the same name or its start, with 8 random hex digits and `.part`. A
    killed process leaves that file behind.

    Raises:
        AudioFileError: it can't be written.
    """
    with writing(path):
        target = Path(os.path.realpath(path))
        with suppress(FileNotFoundError):
            target.stat()  # so that an impossible name fails now, not at the end
        partial = target.with_name(f"{target.name[:PART_NAME]}.{uuid.uuid4().hex[:8]}.part")
        file = partial.open("xb")
    try:
        yield file
        with writing(path):
            file.close()
            partial.replace(target)
    finally:
        with suppress(OSError):
            file.close()
        partial.unlink(missing_ok=True)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn failures of a block that writes to a file into an `AudioFileError` that names the file."""
    try:
        yield
    except OSError as error:
        raise AudioFileError(f"{path} can't be written: {error.strerror}") from error


def _mono_wav(file: BinaryIO, sample_rate: int) -> wave.Wave_write:
    wav = wave.Wave_write(file)
    wav.setnchannels(1)
    wav.setsampwidth(BYTES_PER_SAMPLE)
    wav.setframerate(sample_rate)
    return wav


def check_wav_size(path: Path, size: int) -> None:
    """Make sure that `size` bytes of PCM fit into a WAV.

    Raises:
        AudioFileError: they don't fit.
    """
    if size > MAX_WAV_BYTES:
        raise AudioFileError(
            f"{path} would outgrow the 4 GiB a WAV can hold: name it .pcm, take a lower --rate, or export less at once"
        )


def _append(wav: wave.Wave_write, pcm: bytes, path: Path) -> None:
    check_wav_size(path, wav.tell() * BYTES_PER_SAMPLE + len(pcm))
    with writing(path):
        wav.writeframesraw(pcm)


@contextmanager
def _opened(path: Path) -> Iterator[soundfile.SoundFile]:
    try:
        with path.open("rb") as raw, soundfile.SoundFile(raw) as file:
            if file.frames == 0:
                raise AudioFileError(f"{path} holds no audio")
            yield file
    except OSError as error:
        raise AudioFileError(f"{path} can't be read: {error.strerror}") from error
    except soundfile.LibsndfileError as error:
        raise AudioFileError(
            f"{path} is no audio file that can be read ({error.error_string}); give WAV, FLAC, MP3 or Ogg"
        ) from error


def _supported_rate(source_rate: int) -> int:
    return min((rate for rate in SAMPLE_RATES if rate >= source_rate), default=max(SAMPLE_RATES))


def _mono_blocks(file: soundfile.SoundFile) -> Iterator[NDArray[np.float32]]:
    while len(block := file.read(BLOCK_FRAMES, dtype="float32", always_2d=True)):
        # A NaN would spoil all further output of the resampler, and one loud channel the average.
        yield np.clip(np.nan_to_num(block), -1, 1).mean(axis=1)


def _resampled(blocks: Iterator[NDArray[np.float32]], source: int, target: int) -> Iterator[NDArray[np.float32]]:
    if source == target:
        yield from blocks
        return
    stream = soxr.ResampleStream(source, target, num_channels=1, dtype="float32")
    for block in blocks:
        yield stream.resample_chunk(block)
    yield stream.resample_chunk(np.empty(0, np.float32), last=True)


def _pcm(blocks: Iterator[NDArray[np.float32]]) -> Iterator[bytes]:
    for block in blocks:
        yield s16le(block * FULL_SCALE)


def _cut(blocks: Iterator[bytes], size: int) -> Iterator[bytes]:
    held = bytearray()
    for block in blocks:
        held += block
        while len(held) >= size:
            yield bytes(held[:size])
            del held[:size]
    if held:
        yield bytes(held)
