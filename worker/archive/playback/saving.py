"""Saves a recording to a file."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing, contextmanager
from pathlib import Path
from typing import BinaryIO

from codec.entry import BYTES_PER_SAMPLE
from worker.archive.playback.download import Download, DownloadReport
from worker.audio.writing.formats import AudioFormat, promised_format
from worker.audio.writing.output import STANDARD_OUTPUT, open_output, writing
from worker.audio.writing.wav import check_wav_size, wav_writer
from worker.runtime.extras import extra_imports


async def save(download: Download, path: Path, form: AudioFormat | None = None) -> DownloadReport:
    """Write a recording block by block; the file appears when it is complete, and replaces one of the same name.

    The format is the one that the name promises, unless it is given. The path `-` is standard output.

    Raises:
        AudioFileError: it can't be written, its name promises another format, or it outgrows the 4 GiB of a WAV.
        NothingStored: no audio lies in the selected time.
        NothingReadable: none of its blobs could be read; `WrongSecrets` if the secrets open none of them.
        StoreError: the store does not answer, or refuses to give any of its blobs.
    """
    form = form or promised_format(path)
    rate = download.report.sample_rate
    if form is AudioFormat.WAV and str(path) != STANDARD_OUTPUT:  # fails now, and not after 4 GiB
        check_wav_size(path, round(download.expected_seconds * rate) * BYTES_PER_SAMPLE)
    with open_output(path) as file, _writer(file, path, form, rate) as append:
        async with aclosing(_blocks(download, form)) as blocks:
            async for block in blocks:
                await asyncio.to_thread(_append, append, block, path)
        download.report.check()
    return download.report


def _blocks(download: Download, form: AudioFormat) -> AsyncGenerator[bytes, None]:
    return download.ogg_opus() if form is AudioFormat.OPUS else aiter(download)


def _append(append: Callable[[bytes], object], block: bytes, path: Path) -> None:
    with writing(path):
        append(block)


@contextmanager
def _writer(file: BinaryIO, path: Path, form: AudioFormat, rate: int) -> Iterator[Callable[[bytes], object]]:
    if form in {AudioFormat.PCM, AudioFormat.OPUS}:
        yield file.write
    elif form is AudioFormat.WAV:
        with wav_writer(file, path, rate) as append:
            yield append
    else:
        with extra_imports():
            from worker.audio.writing.encoded import encoding_writer  # noqa: PLC0415 -- FFmpeg takes time to load

        with encoding_writer(file, path, form, rate) as append:
            yield append
