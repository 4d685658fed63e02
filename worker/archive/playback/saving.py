"""A recording on its way into a file."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, aclosing, contextmanager
from pathlib import Path

from codec.entry import BYTES_PER_SAMPLE
from worker.archive.playback.download import Download, DownloadReport
from worker.audio.files import check_wav_size, whole_file, write_wav, writing
from worker.errors import AudioFileError, NothingStored

BARE = (".pcm", ".raw")
"""File names that end so get s16le mono without a header."""

WAV = (".wav", "")
"""File names that end so, or have no extension, get a WAV; all others promise what can't be written."""


async def save(download: Download, path: Path) -> DownloadReport:
    """Write a recording block by block; the file appears when it is whole.

    Raises:
        AudioFileError: it can't be written, is not named as what is written, or outgrows the 4 GiB of a WAV.
        NothingStored: nothing of it could be read.
    """
    with writing(path):
        _check(path)
    if path.suffix.lower() in WAV:  # told now, and not after 4 GiB
        check_wav_size(path, round(download.expected_seconds * download.report.sample_rate) * BYTES_PER_SAMPLE)
    with _writer(path, download.report.sample_rate) as append:
        async with aclosing(aiter(download)) as blocks:
            async for pcm in blocks:
                await asyncio.to_thread(append, pcm)
        if not download.report.blobs:
            raise NothingStored(_nothing(download.report))
    return download.report


def _check(path: Path) -> None:
    """Refuse names that promise another format, and what is no file: a device would be replaced by one."""
    if path.suffix.lower() not in (*WAV, *BARE):
        raise AudioFileError(f"{path} promises another format: give a name that ends with .wav, .pcm or .raw")
    if path.exists() and not path.is_file():
        raise AudioFileError(f"{path} can't be written: it is there and no file")


def _nothing(report: DownloadReport) -> str:
    if not report.problems:
        return "no audio lies in the selected time"
    first = report.problems[0]
    return f"none of {len(report.problems)} blobs can be read; {first.name}: {first.reason}"


def _writer(path: Path, sample_rate: int) -> AbstractContextManager[Callable[[bytes], object]]:
    return _bare_file(path) if path.suffix.lower() in BARE else write_wav(path, sample_rate)


@contextmanager
def _bare_file(path: Path) -> Iterator[Callable[[bytes], object]]:
    def append(pcm: bytes) -> None:
        with writing(path):
            file.write(pcm)

    with whole_file(path) as file:
        yield append
