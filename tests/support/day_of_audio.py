"""A day of audio, downloaded from a store that is 20 ms away: prints how long that takes, and how much memory.

A program of its own, because the peak of a process's memory can't be reset.
`python -m tests.support.day_of_audio speech` takes real speech, `quiet` a minute that costs libopus little, `pcm`
encrypted PCM.
"""

from __future__ import annotations

import asyncio
import json
import resource
import sys
import time
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

from codec.crypto import derive_key, encrypt
from codec.metadata import BlobMetadata
from codec.opus import Encoder
from tests.support.speech import speech
from tests.support.stored_blobs import T0
from worker.archive import Archive
from worker.archive.blobs.reading import Reader
from worker.stores.base import BlobInfo, Store

SECRET = "a secret of at least thirty-two bytes"
MINUTES = 24 * 60
LATENCY = 0.02
PAGE = 1000
SAMPLE = 60
"""Blobs that are read one after another, for the comparison."""


class DistantStore(Store):
    """A day of one and the same minute; every request takes 20 ms."""

    def __init__(self, data: bytes, metadata: Mapping[str, str], extension: str) -> None:
        self._data = data
        self._reading = 0
        self.most_reading = 0
        self._infos = [
            BlobInfo(f"chunks/user/talk/{T0 + 60 * minute:.3f}{extension}", len(data), metadata)
            for minute in range(MINUTES)
        ]

    async def list(self, prefix: str, *, after: str = "") -> AsyncIterator[BlobInfo]:
        for number, info in enumerate(self._infos):
            if number % PAGE == 0:
                await asyncio.sleep(LATENCY)
            if info.name.startswith(prefix) and info.name > after:
                yield info

    async def read(self, _: str) -> bytes:
        self._reading += 1
        self.most_reading = max(self.most_reading, self._reading)
        await asyncio.sleep(LATENCY)
        self._reading -= 1
        return bytes(bytearray(self._data))  # a copy, as from a network


def minute(content: str) -> tuple[bytes, BlobMetadata, str]:
    """A blob's bytes, metadata and extension."""
    key = derive_key(SECRET, "user")
    if content == "pcm":
        return encrypt(key, speech(60)), BlobMetadata(), ".enc"
    encoder = Encoder(16000, complexity=5, dtx=content == "quiet")
    encoder.encode(speech(60) if content == "speech" else bytes(60 * 32000))
    facts = BlobMetadata(codec="opus", sample_rate=16000, samples=encoder.samples, pre_skip=encoder.pre_skip)
    return encrypt(key, encoder.finish()), facts, ".opus.enc"


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


async def measure(content: str, out: Path | None) -> dict[str, float]:
    """Seconds and megabytes."""
    data, facts, extension = minute(content)
    store = DistantStore(data, facts.to_mapping(), extension)  # type: ignore[abstract]  # it only reads
    archive, reader = Archive(store, [SECRET]), Reader(store, [SECRET])
    blobs = (await archive.list("user", "talk")).blobs
    await reader.audio(blobs[0])  # loads the libraries
    idle = peak_mb()
    began = time.monotonic()
    for blob in blobs[:SAMPLE]:
        await reader.audio(blob)
    one_after_another = (time.monotonic() - began) / SAMPLE * MINUTES
    began = time.monotonic()
    download = await archive.download("user", "talk")
    size = 0
    if out is not None:
        await archive.save(download, out)
        size = download.report.samples * 2
    else:
        async for pcm in download:
            size += len(pcm)
    took = time.monotonic() - began
    return {
        "seconds": took,
        "one_after_another": one_after_another,
        "bytes": size,
        "mb": peak_mb() - idle,
        "most_reading": store.most_reading,
    }


if __name__ == "__main__":
    wav = Path(sys.argv[2]) if len(sys.argv) > 2 else None
    json.dump(asyncio.run(measure(sys.argv[1], wav)), sys.stdout)
