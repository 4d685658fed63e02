"""`push`: sends an audio file to Redis as a pusher would."""

from __future__ import annotations

import asyncio
import math
import threading
import time
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from codec.entry import BYTES_PER_SAMPLE, DEFAULT_PROTECTION, Chunk, End, Protection, partition_of
from worker.cli import options, printing
from worker.errors import AudioFileError, NotSent, StreamError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from worker.audio.reading.reader import AudioReader
    from worker.producer import Producer, Trouble
    from worker.settings import Settings

CLOSE_SECONDS = 1.0
"""Seconds that the command waits for Redis after Ctrl-C; at the end of a file it waits without limit."""


SHOW_EVERY = 0.1
"""Seconds between two looks at how far Redis is."""


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
    raw_rate: int | None

    @property
    def name(self) -> str:
        """What to call it."""
        return "standard input" if str(self.file) == "-" else str(self.file)


@dataclass(frozen=True, slots=True)
class Pushed:
    """The audio that is in Redis now; `flaws` tell what is wrong with the file, `lost_seconds` what is missing."""

    file: str
    uid: str
    conversation: str
    start: float
    seconds: float
    samples: int
    sample_rate: int
    source_rate: int
    bytes: int
    chunks: int
    next_seq: int
    partition: int
    stream: str
    ended: bool
    complete: bool
    lost_seconds: float
    cancelled_seconds: float
    flaws: list[str]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("push")(push)


def push(
    file: Annotated[Path, typer.Argument(help="WAV, FLAC, MP3, Ogg, M4A, WebM, …, of any rate; - is standard input.")],
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
    raw: Annotated[
        int | None,
        typer.Option("--raw", min=1000, max=192000, metavar="HZ", help="FILE is bare s16le mono samples of this rate."),
    ] = None,
    as_json: options.Json = False,
) -> None:
    """Push an audio file, or what comes through a pipe, into Redis, for workers to store.

    Where a file is damaged, the rest of it is pushed. Exits with 3 if the file does not hold what it says: what is
    missing, and where, is told.

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
    source = PushedFile(file, uid, conversation, begin, protection, chunk_seconds, realtime, not no_end, first_seq, raw)
    try:
        pushed = asyncio.run(_push(source, settings.load()))
    except BadEntry as error:
        raise WorkerError(f"{source.name} can't be pushed so: {error}") from error
    if as_json:
        printing.print_json(asdict(pushed))
    else:
        printing.say(_sentence(pushed))
    _say_flaws(source, pushed)
    printing.finish(complete=pushed.complete)


def _say_flaws(source: PushedFile, pushed: Pushed) -> None:
    for line in pushed.flaws:
        printing.say(f"{source.name}: {line}", err=True)
    if not pushed.complete:
        typer.echo(
            f"{pushed.seconds:.2f} s are in Redis; push what is missing from a better copy with its own --start and"
            f" --first-seq {pushed.next_seq}",
            err=True,
        )


async def _push(source: PushedFile, settings: Settings) -> Pushed:
    from worker.audio.reading.reader import open_audio

    with open_audio(source.file, raw_rate=source.raw_rate) as audio:
        settings = await _agreed(settings)
        size, chunks = await _push_all(audio, source, settings)
        return _summary(source, settings, size, chunks, audio)


async def _agreed(settings: Settings) -> Settings:
    """The settings with the number of partitions that Redis records, if PARTITIONS is not set and Redis tells."""
    from worker.errors import StreamError
    from worker.stream.client import Client
    from worker.stream.config import recorded_layouts
    from worker.stream.servers.connecting import connect

    if settings.stated_partitions is not None:
        return settings
    try:
        async with Client(connect(settings.redis.url)) as client:
            layouts = await recorded_layouts(client, settings.redis.keys, settings.partitions)
    except StreamError:  # the producer tells the trouble and waits
        return settings
    return settings.model_copy(update={"partitions": layouts.current})


async def _push_all(audio: AudioReader, source: PushedFile, settings: Settings) -> tuple[int, int]:
    """Push everything, and the end; returns the bytes of PCM and the chunks."""
    total = math.ceil((audio.report.claimed or 0) / source.chunk_seconds)
    producer = _producer(settings)
    try:
        with printing.progress("pushing chunks", total) as progress:
            async with producer, _showing(producer, progress, total):
                await producer.check()
                size, chunks = await _push_audio(producer, source, audio)
                if source.end:
                    await producer.put(End(source.uid, source.conversation, source.first_seq + chunks))
                await producer.flush()
                _check_losses(source, producer.stats().lost_entries)
    except (asyncio.CancelledError, AudioFileError):  # Ctrl-C, or a disk that fails
        _say_stopped(source, producer.stats().sent_entries, total)
        raise
    except NotSent as error:
        if not isinstance(error.__context__, asyncio.CancelledError):
            raise
        printing.say(str(error), err=True)  # Ctrl-C, while Redis was full or away
        _say_stopped(source, producer.stats().sent_entries, total)
        raise asyncio.CancelledError from error
    return size, chunks


def _producer(settings: Settings) -> Producer:
    from worker.producer import Limits, Producer

    return Producer(
        settings.redis.url,
        partitions=settings.partitions,
        prefix=settings.stream_prefix,
        limits=Limits(close_within=CLOSE_SECONDS),
        on_trouble=_Reporter(),
    )


@asynccontextmanager
async def _showing(producer: Producer, bar: printing.Bar, total: int) -> AsyncIterator[None]:
    """Show how many chunks Redis has accepted: those that wait in the producer are not pushed yet."""

    def show() -> None:
        sent = producer.stats().sent_entries
        bar(min(sent, total or sent), total)  # the end of the conversation is an entry too

    async def go_on() -> None:
        while True:
            show()
            await asyncio.sleep(SHOW_EVERY)

    showing = asyncio.create_task(go_on(), name="progress")
    try:
        yield
        show()
    finally:
        showing.cancel()


def _check_losses(source: PushedFile, entries: int) -> None:
    if entries:
        raise StreamError(
            f"Redis has lost {entries} entries of {source.name} that it had confirmed, perhaps in a failover; with"
            f" --start {source.start} the same command pushes them again"
        )


def _say_stopped(source: PushedFile, chunks: int, total: int) -> None:
    of_total = f" of {total}" if total and total >= chunks else ""
    printing.say(
        f"stopped: {min(chunks, total or chunks)}{of_total} chunks of {source.name} are in Redis; with --start"
        f" {source.start} the same command completes them",
        err=True,
    )


async def _push_audio(producer: Producer, source: PushedFile, audio: AudioReader) -> tuple[int, int]:
    """Push the audio; returns the bytes of PCM and the chunks.

    The chunks have no session. The user gives their numbers, and continues them with --first-seq from command to
    command. The same command must make the same chunks again, so that they are recognised as duplicates.
    """
    size = done = 0
    rate = audio.sample_rate
    started = time.monotonic()
    async for pcm in _chunks(audio, source.chunk_seconds):
        timestamp = source.start + size / BYTES_PER_SAMPLE / rate
        size += len(pcm)
        if source.realtime:
            await asyncio.sleep(started + size / BYTES_PER_SAMPLE / rate - time.monotonic())
        seq = source.first_seq + done
        await producer.put(Chunk(source.uid, source.conversation, timestamp, pcm, rate, source.protection, seq))
        done += 1
    return size, done


async def _chunks(audio: AudioReader, seconds: float) -> AsyncIterator[bytes]:
    chunks = audio.chunks(seconds)
    while pcm := await _in_daemon(lambda: next(chunks, b"")):
        yield pcm


async def _in_daemon(work: Callable[[], bytes]) -> bytes:
    """Work in a thread, so that sending goes on meanwhile; Ctrl-C does not wait for one that waits for a pipe."""
    loop = asyncio.get_running_loop()
    result: asyncio.Future[bytes] = loop.create_future()

    def settle(pcm: bytes, error: BaseException | None) -> None:
        if result.done():
            return
        if error is None:
            result.set_result(pcm)
        else:
            result.set_exception(error)

    def run() -> None:
        pcm, failure = b"", None
        try:
            pcm = work()
        except BaseException as error:  # noqa: BLE001 -- it is raised where the result is awaited
            failure = error
        with suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(settle, pcm, failure)

    threading.Thread(target=run, name="decode", daemon=True).start()
    return await result


class _Reporter:
    """Says on standard error when Redis, or the node that has the conversation, begins and stops refusing audio."""

    def __init__(self) -> None:
        self._told: tuple[str, str] | None = None

    def __call__(self, trouble: Trouble | None) -> None:
        news = (trouble.node, trouble.cause) if trouble else None
        if news != self._told:
            self._told = news
            sentence = f"waiting for {trouble.node}; {trouble.message}" if trouble else "Redis takes audio again"
            printing.say(sentence, err=True)


def _summary(source: PushedFile, settings: Settings, size: int, chunks: int, audio: AudioReader) -> Pushed:
    from worker.stream.keys import Keys

    samples, rate, report = size // BYTES_PER_SAMPLE, audio.sample_rate, audio.report
    partition = partition_of(source.conversation, settings.partitions)
    return Pushed(
        file=source.name,
        uid=source.uid,
        conversation=source.conversation,
        start=source.start,
        seconds=samples / rate,
        samples=samples,
        sample_rate=rate,
        source_rate=audio.source_rate,
        bytes=size,
        chunks=chunks,
        next_seq=source.first_seq + chunks,
        partition=partition,
        stream=Keys(settings.stream_prefix).stream(partition),
        ended=source.end,
        complete=report.complete,
        lost_seconds=round(report.lost, 3),
        cancelled_seconds=round(report.cancelled, 3),
        flaws=list(report.lines()),
    )


def _sentence(pushed: Pushed) -> str:
    converted = "" if pushed.source_rate == pushed.sample_rate else f", resampled from {pushed.source_rate} Hz"
    more = "ended" if pushed.ended else f"go on with --first-seq {pushed.next_seq}"
    return (
        f"{pushed.file}: pushed {pushed.seconds:.2f} s at {pushed.sample_rate} Hz{converted} ({pushed.bytes:,} bytes)"
        f" as {pushed.chunks} chunks into {pushed.stream}; {more}"
    )
