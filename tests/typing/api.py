"""The public API as programs use it, for a strict type checker only: nothing here runs.

`make lint` checks this file beside the sources; tests/wheel/test_types.py checks it against an installed wheel.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from pathlib import Path
from typing import assert_type

import audio_batch_worker
from audio_batch_worker.archive import (
    Archive,
    AudioFile,
    Blob,
    Conversion,
    CopyReport,
    Deletion,
    Download,
    Encoding,
    Listing,
    NothingReadable,
    NothingStored,
    Problem,
    Selection,
    Store,
    StoreError,
    WorkerError,
    WrongSecrets,
    open_store,
)
from audio_batch_worker.codec.blob import Audio, decode
from audio_batch_worker.codec.crypto import key_id
from audio_batch_worker.codec.entry import Chunk, End, Protection, partition_of
from audio_batch_worker.codec.errors import BadBlob, BadEntry, CodecError
from audio_batch_worker.codec.metadata import BlobMetadata
from audio_batch_worker.codec.names import BlobName, Kind, object_name, parse_name
from audio_batch_worker.events import DoneEvent, EventReader, Polling, ReceivedEvent
from audio_batch_worker.producer import BufferFull, Cause, Limits, NotSent, Producer, PushRefused, Stats, Trouble

assert_type(audio_batch_worker.__version__, str)


def on_trouble(trouble: Trouble | None) -> None:
    if trouble is not None:
        assert_type(trouble.cause, Cause)
        assert_type(trouble.message, str)


async def follow(url: str, saved: dict[int, str]) -> None:
    async with EventReader(url, positions=saved, polling=Polling(every=0.5), on_missed=print) as reader:
        for received in await reader.read(within=1):
            assert_type(received, ReceivedEvent)
            assert_type(received.event, DoneEvent)
            assert_type((received.partition, received.id), tuple[int, str])
        assert_type(dict(reader.positions), dict[int, str])


async def push(url: str, protection: Protection, pcm: bytes | bytearray | memoryview) -> tuple[Chunk | End, ...]:
    try:
        async with Producer(url, partitions=8, limits=Limits(close_within=None), on_trouble=on_trouble) as producer:
            assert_type(producer, Producer)
            assert_type(await producer.push("alice", "lunch", 0.0, pcm, protection=protection, within=1), None)
            assert_type(await producer.put(Chunk("alice", "lunch", 5.0, bytes(2))), None)
            traced: dict[str, bytes | str] = {"traceparent": "00-1-2-01", "x-raw": b"1"}
            assert_type(await producer.push("alice", "lunch", 5.0, pcm, extensions=traced), None)
            assert_type(await producer.end("alice", "lunch"), None)
            assert_type(producer.stats(), Stats)
            assert_type(producer.stats().trouble, Trouble | None)
            assert_type(producer.stats().troubles, tuple[Trouble, ...])
            assert_type(producer.stats().lost_entries, int)
            assert_type(producer.next_seq("lunch"), int)
            producer.resume("lunch", 7, producer.session_of("lunch"))
            return await producer.flush(within=0.5)
    except BufferFull as error:
        refused: PushRefused = error
        raise refused from None
    except BadEntry as error:
        codec_error: CodecError = error
        assert isinstance(codec_error, WorkerError | ValueError)
        raise codec_error from None
    except NotSent as error:
        assert_type(error.entries, tuple[Chunk | End, ...])
        return error.entries


async def read(url: str, secrets: list[str]) -> float:
    store = open_store(url)
    assert_type(store, Store)
    archive = Archive(store, secrets=secrets)
    listing = await archive.list("alice", "lunch")
    assert_type(listing, Listing)
    for blob in listing.blobs:
        assert_type(blob, Blob)
        assert_type(blob.path, str)
    try:
        download = await archive.download("alice", "lunch", selection=Selection(), sample_rate=16000)
        assert_type(download, Download)
        async for pcm in download:
            assert_type(pcm, bytes)
        report = await archive.save(download, Path("lunch.wav"))
    except WrongSecrets as error:
        unreadable: NothingReadable = error
        raise unreadable from None
    except (NothingStored, StoreError) as error:
        one_tree: WorkerError = error
        raise one_tree from None
    assert_type(report.complete, bool)
    assert_type(report.problems, list[Problem])
    return assert_type(report.seconds, float)


async def change(archive: Archive, encoding: Encoding) -> int:
    assert_type(await archive.copy("alice", ["lunch"], "day"), CopyReport)
    assert_type(await archive.delete("alice", tombstones=None, dry_run=True), Deletion)
    files = await archive.audio_files("alice", "lunch", gap=300)
    for file in files.files:
        assert_type(file, AudioFile)
    conversions = archive.convert(encoding, dry_run=True)
    assert_type(conversions, AsyncGenerator[Conversion, None])
    async for verdict in archive.verify("alice"):
        assert_type(verdict.name, str)
    return assert_type(await archive.count(codec="opus"), int)


def decode_one(data: bytes, name: str, metadata: dict[str, str], secret: str) -> int:
    assert_type(parse_name(name), BlobName)
    assert_type(parse_name(name).kind, Kind)
    assert_type(object_name("alice", "lunch", 0.0, kind=Kind.OPUS_ENCRYPTED), str)
    assert_type(BlobMetadata.from_mapping(metadata).to_mapping(), dict[str, str])
    assert_type(key_id(secret), str)
    try:
        audio = decode(data, name, metadata, secrets=[secret])
    except BadBlob:
        return partition_of("lunch", 64)
    assert_type(audio, Audio)
    assert_type(audio.pcm, bytes)
    return assert_type(audio.samples, int)
