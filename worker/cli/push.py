"""`push`: sends an audio file to Redis as a pusher would."""

from __future__ import annotations

import asyncio
import math
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from codec.entry import BYTES_PER_SAMPLE, DEFAULT_PROTECTION, Chunk, End, Protection, partition_of
from worker.cli import options, printing

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from worker.producer import Producer, Trouble
    from worker.settings import Settings

CLOSE_SECONDS = 1.0
"""Seconds that the command waits for Redis after Ctrl-C; at the end of a file it waits without limit."""


@dataclass(frozen=True, slots=True)
class PushedFile:
    """The file to push, and how to push it."""

    file: Path
    uid: str
    conversation: str
    start: float
    protection: Protection
    chunk_seconds: float
    realtime: bool
    end: bool
    first_seq: int


@dataclass(frozen=True, slots=True)
class Pushed:
    """The audio that is in Redis now."""

    file: str
    uid: str
    conversation: str
    start: float
    seconds: float
    samples: int
    sample_rate: int
    bytes: int
    chunks: int
    next_seq: int
    partition: int
    stream: str
    ended: bool


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("push")(push)


def push(
    file: Annotated[Path, typer.Argument(help="WAV, FLAC, MP3 or Ogg, mono or not, of any rate.")],
    uid: options.Uid,
    conversation: options.Conversation,
    start: Annotated[
        str | None, typer.Option(help="When it was recorded: Unix seconds or ISO 8601 (UTC); by default now.")
    ] = None,
    chunk_seconds: Annotated[float, typer.Option(min=0.01, max=60, help="Audio per stream entry.")] = 5.0,
    realtime: Annotated[bool, typer.Option("--realtime", help="As slowly as a microphone.")] = False,
    protection: Annotated[Protection, typer.Option(help="All but standard are encrypted.")] = DEFAULT_PROTECTION,
    no_end: Annotated[bool, typer.Option("--no-end", help="Let the conversation go on.")] = False,
    first_seq: Annotated[
        int, typer.Option(min=0, max=10**12, help="Number of the first chunk, to go on with a conversation.")
    ] = 0,
    as_json: options.Json = False,
) -> None:
    """Push an audio file into Redis, for workers to store.

    A Redis that is full or goes away is waited for; Ctrl-C tells what did not get in. The same file pushed again into
    the same conversation with the same start and numbers counts as a repetition: what was stored lately is not stored
    twice.
    """
    from codec.errors import BadEntry
    from worker import settings
    from worker.errors import WorkerError
    from worker.runtime import logs

    logs.configure("error", "console")
    begin = time.time() if start is None else options.moment(start)
    source = PushedFile(file, uid, conversation, begin, protection, chunk_seconds, realtime, not no_end, first_seq)
    try:
        pushed = asyncio.run(_push(source, settings.load()))
    except BadEntry as error:
        raise WorkerError(f"{file} can't be pushed so: {error}") from error
    if as_json:
        printing.print_json(asdict(pushed))
    else:
        typer.echo(_sentence(pushed))


async def _push(source: PushedFile, settings: Settings) -> Pushed:
    from worker.audio.files import inspect
    from worker.producer import Limits, Producer

    info = inspect(source.file)
    limits = Limits(close_within=CLOSE_SECONDS)
    total = math.ceil(info.seconds / source.chunk_seconds)
    producer = Producer(
        settings.redis_url,
        partitions=settings.partitions,
        prefix=settings.stream_prefix,
        limits=limits,
        on_trouble=_Reporter(),
    )
    try:
        with printing.progress("pushing chunks") as progress:
            async with producer:
                await producer.check()
                size, chunks = await _push_audio(producer, source, info.sample_rate, lambda done: progress(done, total))
                if source.end:
                    await producer.put(End(source.uid, source.conversation, source.first_seq + chunks))
                await producer.flush()
    except asyncio.CancelledError:  # Ctrl-C; else the producer would have said what Redis does not have
        _say_stopped(source, min(producer.stats().sent_entries, total), total)
        raise
    return _summary(source, settings, size, chunks, info.sample_rate)


def _say_stopped(source: PushedFile, chunks: int, total: int) -> None:
    printing.say(
        f"stopped: {chunks} of {total} chunks of {source.file} are in Redis; with --start {source.start} the same"
        " command completes them",
        err=True,
    )


async def _push_audio(
    producer: Producer, source: PushedFile, rate: int, progress: Callable[[int], None]
) -> tuple[int, int]:
    """Push everything; returns the bytes of PCM and the chunks.

    The chunks have no session. The user gives their numbers, and continues them with --first-seq from command to
    command. The same command must make the same chunks again, so that they are recognised as duplicates.
    """
    size = done = 0
    started = time.monotonic()
    async for pcm in _chunks(source):
        timestamp = source.start + size / BYTES_PER_SAMPLE / rate
        size += len(pcm)
        if source.realtime:
            await asyncio.sleep(started + size / BYTES_PER_SAMPLE / rate - time.monotonic())
        seq = source.first_seq + done
        await producer.put(Chunk(source.uid, source.conversation, timestamp, pcm, rate, source.protection, seq))
        done += 1
        progress(done)
    return size, done


async def _chunks(source: PushedFile) -> AsyncIterator[bytes]:
    from worker.audio.files import read_chunks

    chunks = read_chunks(source.file, source.chunk_seconds)
    # In a thread, so that sending goes on while the file is decoded.
    while pcm := await asyncio.to_thread(next, chunks, b""):
        yield pcm


class _Reporter:
    """Says on standard error when Redis begins and stops refusing audio."""

    def __init__(self) -> None:
        self._cause: str | None = None

    def __call__(self, trouble: Trouble | None) -> None:
        cause = trouble.cause if trouble else None
        if cause != self._cause:
            self._cause = cause
            printing.say(f"waiting; {trouble.message}" if trouble else "Redis takes audio again", err=True)


def _summary(source: PushedFile, settings: Settings, size: int, chunks: int, rate: int) -> Pushed:
    from worker.stream.keys import Keys

    samples = size // BYTES_PER_SAMPLE
    partition = partition_of(source.conversation, settings.partitions)
    return Pushed(
        file=str(source.file),
        uid=source.uid,
        conversation=source.conversation,
        start=source.start,
        seconds=samples / rate,
        samples=samples,
        sample_rate=rate,
        bytes=size,
        chunks=chunks,
        next_seq=source.first_seq + chunks,
        partition=partition,
        stream=Keys(settings.stream_prefix).stream(partition),
        ended=source.end,
    )


def _sentence(pushed: Pushed) -> str:
    more = "ended" if pushed.ended else f"go on with --first-seq {pushed.next_seq}"
    return (
        f"{pushed.file}: pushed {pushed.seconds:.2f} s at {pushed.sample_rate} Hz ({pushed.bytes:,} bytes) as"
        f" {pushed.chunks} chunks into {pushed.stream}; {more}"
    )
