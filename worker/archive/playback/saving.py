"""Saves a recording to a file."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, aclosing, contextmanager
from pathlib import Path

from codec.entry import BYTES_PER_SAMPLE
from worker.archive.playback.download import Download, DownloadReport
from worker.audio.files import check_wav_size, whole_file, write_wav, writing
from worker.errors import AudioFileError

BARE = (".pcm", ".raw")
"""Files with these suffixes get s16le mono without a header."""

WAV = (".wav", "")
"""Files with this suffix, or without one, get a WAV; all other suffixes promise formats that can't be written."""


async def save(download: Download, path: Path) -> DownloadReport:
    """Write a recording block by block; the file appears when it is complete.

    Raises:
        AudioFileError: it can't be written, its name promises another format, or it outgrows the 4 GiB of a WAV.
        NothingStored: no audio lies in the selected time.
        NothingReadable: none of its blobs could be read; `WrongSecrets` if the secrets open none of them.
        StoreError: the store does not answer, or refuses to give any of its blobs.
    """
    with writing(path):
        _check(path)
    if path.suffix.lower() in WAV:  # fails now, and not after 4 GiB
        check_wav_size(path, round(download.expected_seconds * download.report.sample_rate) * BYTES_PER_SAMPLE)
    with _writer(path, download.report.sample_rate) as append:
        async with aclosing(aiter(download)) as blocks:
            async for pcm in blocks:
                await asyncio.to_thread(append, pcm)
        download.report.check()
    return download.report


def _check(path: Path) -> None:
    """Refuse names that promise another format, and existing paths that are not files: a device would be replaced."""
    if path.suffix.lower() not in (*WAV, *BARE):
        raise AudioFileError(f"{path} promises another format: give a name that ends with .wav, .pcm or .raw")
    if path.exists() and not path.is_file():
        raise AudioFileError(f"{path} can't be written: it is there and no file")


def _writer(path: Path, sample_rate: int) -> AbstractContextManager[Callable[[bytes], object]]:
    return _bare_file(path) if path.suffix.lower() in BARE else write_wav(path, sample_rate)


@contextmanager
def _bare_file(path: Path) -> Iterator[Callable[[bytes], object]]:
    def append(pcm: bytes) -> None:
        with writing(path):
            file.write(pcm)

    with whole_file(path) as file:
        yield append
