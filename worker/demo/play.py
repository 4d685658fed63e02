"""Runs the demo: push, let a real worker store, export, compare."""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from codec.libopus import library
from worker.archive import Archive, Blob
from worker.audio.reading.reader import open_audio
from worker.demo.children import child, ended_by_signals
from worker.demo.fidelity import Fidelity, compare
from worker.demo.place import WORKER_LOG, prepared
from worker.demo.recordings import CHUNK_SECONDS, DemoRecording
from worker.demo.server import redis_server, server_program
from worker.errors import DemoFailed
from worker.producer import Producer
from worker.settings import Settings
from worker.stores import open_store
from worker.stream.client import Client
from worker.stream.inspection.overview import Inspector
from worker.stream.keys import Keys
from worker.stream.servers.connecting import connect

UID = "demo"
SECRET = "this secret of the demo is no secret"  # noqa: S105 -- it is printed for those who want to look further
PATIENCE_SECONDS = 120.0
"""Seconds for the worker, besides a tenth of the audio's length: it is many times faster."""

PACKAGE = __name__.partition(".")[0]
"""`worker` in the repository, `audio_batch_worker` where a wheel is installed."""

Say = Callable[[str], object]


@dataclass(frozen=True, slots=True)
class Played:
    """The result of one conversation."""

    recording: DemoRecording
    blobs: tuple[Blob, ...]
    wav: Path
    fidelity: Fidelity

    @property
    def stored_bytes(self) -> int:
        """The stored bytes of all its blobs."""
        return sum(blob.info.size for blob in self.blobs)


@dataclass(frozen=True, slots=True)
class Result:
    """The result of the demo; `left_entries` are those still in Redis, `events` the blobs announced to backends."""

    directory: Path
    store_url: str
    libopus: str
    played: tuple[Played, ...]
    left_entries: int
    dead_letters: int
    events: int
    push_seconds: float
    work_seconds: float

    @property
    def good(self) -> bool:
        """Whether everything came back, once and at its place, and Redis is empty."""
        blobs = sum(len(each.blobs) for each in self.played)
        complete = all(each.fidelity.exact for each in self.played)
        return complete and self.events == blobs and not self.left_entries and not self.dead_letters


async def play(recordings: Sequence[DemoRecording], directory: Path, say: Say) -> Result:
    """Send recordings through a Redis and a worker of their own into `directory`; `say` gets a sentence per step.

    Raises:
        DemoFailed: a process or the directory is not as it should be.
    """
    with prepared(directory) as store_url:
        return await _play(recordings, directory, store_url, say)


async def _play(recordings: Sequence[DemoRecording], directory: Path, store_url: str, say: Say) -> Result:
    with ended_by_signals(), tempfile.TemporaryDirectory(prefix="audio-batch-worker-demo-") as temporary:
        async with redis_server(Path(temporary)) as redis_url:
            say(f"{Path(server_program()).name} listens at {redis_url}, for this demo only")
            push_seconds = await _timed(_push(recordings, redis_url))
            say(f"pushed {_described(recordings)} into Redis in {push_seconds:.2f} s")
            work_seconds = await _timed(_work(redis_url, store_url, recordings, directory / WORKER_LOG))
            say(f"the worker took {work_seconds:.1f} s to store it all, its start included")
            left, dead, events = await _look(redis_url)
    played = await _export(recordings, directory, store_url)
    say("exported and compared with what was pushed")
    return Result(directory, store_url, library().version, played, left, dead, events, push_seconds, work_seconds)


async def _push(recordings: Sequence[DemoRecording], redis_url: str) -> None:
    start = float(int(time.time()) - max(recording.seconds for recording in recordings))
    async with Producer(redis_url) as producer:
        for recording in recordings:
            whose = UID, recording.conversation_id
            for seconds, pcm in recording.chunks():
                await producer.push(
                    *whose,
                    start + seconds,
                    pcm,
                    sample_rate=recording.sample_rate,
                    protection=recording.protection,
                )
            await producer.end(*whose)


async def _work(redis_url: str, store_url: str, recordings: Sequence[DemoRecording], log: Path) -> None:
    """Run a worker until Redis is empty."""
    patience = PATIENCE_SECONDS + sum(recording.seconds for recording in recordings) / 10
    command = sys.executable, "-m", PACKAGE, "run", "--drain"
    async with child(*command, log=log, environment=_environment(redis_url, store_url)) as worker:
        try:
            async with asyncio.timeout(patience):
                code = await worker.wait()
        except TimeoutError:
            raise DemoFailed(f"the worker has not stored everything after {patience:.0f} s; see {log}") from None
    if code:
        raise DemoFailed(f"the worker ended with exit code {code}; see {log}")


def _environment(redis_url: str, store_url: str) -> Mapping[str, str]:
    """The environment of this process without settings of another worker, and with those of the demo."""
    settings = {name.upper() for name in Settings.model_fields}
    inherited = {name: value for name, value in os.environ.items() if name.upper() not in settings}
    return inherited | {
        "REDIS_URL": redis_url,
        "STORE_URL": store_url,
        "ENCRYPTION_SECRET": SECRET,
        "HTTP_HOST": "127.0.0.1",
        "HTTP_PORT": "0",
    }


async def _look(redis_url: str) -> tuple[int, int, int]:
    """Entries, dead letters and done events in Redis."""
    defaults = Settings.model_construct()
    async with Client(connect(redis_url)) as client:
        overview = await Inspector(client, Keys(defaults.stream_prefix)).overview(defaults.partitions)
    views = overview.partitions
    return overview.entries, sum(view.dead for view in views), sum(view.stored for view in views)


async def _export(recordings: Sequence[DemoRecording], directory: Path, store_url: str) -> tuple[Played, ...]:
    store = open_store(store_url)
    try:
        archive = Archive(store, [SECRET])
        return tuple([await _play_back(archive, recording, directory) for recording in recordings])
    finally:
        await store.close()


async def _play_back(archive: Archive, recording: DemoRecording, directory: Path) -> Played:
    wav = directory / f"{recording.conversation_id}.wav"
    listing = await archive.list(UID, recording.conversation_id)
    await archive.save(await archive.download(UID, recording.conversation_id), wav)
    return Played(recording, listing.blobs, wav, await asyncio.to_thread(_compare, recording, wav, listing.blobs))


async def _timed(work: Awaitable[None]) -> float:
    began = time.monotonic()
    await work
    return time.monotonic() - began


def _described(recordings: Sequence[DemoRecording]) -> str:
    count, seconds = len(recordings), sum(recording.seconds for recording in recordings)
    return f"{seconds:.0f} s of audio in {count} conversation{'s' if count > 1 else ''}"


def _compare(recording: DemoRecording, wav: Path, blobs: Sequence[Blob]) -> Fidelity:
    with open_audio(wav) as audio:
        decoded = b"".join(audio.chunks(CHUNK_SECONDS))
    original, heard = (np.frombuffer(pcm, "<i2") for pcm in (recording.pcm, decoded))
    return compare(original, heard, recording.sample_rate, [blob.samples or 0 for blob in blobs])
