"""WAV: a header in front of s16le mono samples. Its length is filled in at the end, where the file can seek."""

from __future__ import annotations

import struct
from contextlib import contextmanager
from typing import TYPE_CHECKING, BinaryIO

from codec.entry import BYTES_PER_SAMPLE
from worker.errors import AudioFileError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

HEADER_BYTES = 44
RIFF_REST = HEADER_BYTES - 8
"""Bytes of the header that the size of RIFF counts."""

UNKNOWN = 2**32 - 1
MAX_WAV_BYTES = UNKNOWN - RIFF_REST
"""A WAV's 32-bit size field counts the data and 36 bytes of header."""


def wav_header(sample_rate: int, size: int | None = None) -> bytes:
    """The 44 bytes in front of `size` bytes of s16le mono; without a size both fields have the highest number.

    Readers take that number, which FFmpeg and SoX write into pipes too, for an unknown length.
    """
    riff = UNKNOWN if size is None else size + RIFF_REST
    facts = (1, 1, sample_rate, sample_rate * BYTES_PER_SAMPLE, BYTES_PER_SAMPLE, 8 * BYTES_PER_SAMPLE)
    head = struct.pack("<4sI4s4sI", b"RIFF", riff, b"WAVE", b"fmt ", 16)
    return head + struct.pack("<HHIIHH4sI", *facts, b"data", UNKNOWN if size is None else size)


def check_wav_size(path: Path, size: int) -> None:
    """Make sure that `size` bytes of PCM fit into a WAV.

    Raises:
        AudioFileError: they don't fit.
    """
    if size > MAX_WAV_BYTES:
        raise AudioFileError(
            f"{path} would outgrow the 4 GiB a WAV can hold: name it .flac or .pcm, take a lower --rate, or export less"
            " at once"
        )


@contextmanager
def wav_writer(file: BinaryIO, path: Path, sample_rate: int) -> Iterator[Callable[[bytes], object]]:
    """Give a function that appends s16le mono PCM. What can't seek may have any length.

    Raises:
        AudioFileError: it outgrows the 4 GiB a WAV can hold.
        OSError: it can't be written.
    """
    size, seekable = 0, hasattr(file, "seek")

    def append(pcm: bytes) -> None:
        nonlocal size
        size += len(pcm)
        if seekable:
            check_wav_size(path, size)
        file.write(pcm)

    file.write(wav_header(sample_rate))
    yield append
    if seekable:
        file.seek(0)
        file.write(wav_header(sample_rate, size))
