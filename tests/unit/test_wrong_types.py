"""The public API with wrong types: every argument of every function is refused by its name, in an error of ours."""

from __future__ import annotations

import inspect
import os
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

import worker.archive
import worker.events
import worker.producer
from codec import blob, container, crypto, entry, names, opus
from codec.metadata import BlobMetadata
from tests.support.secret import TEST_SECRET
from worker.archive import Archive, AudioCache, Encoding, MergeRules, NothingStored, Selection, WorkerError, open_store
from worker.events import EventReader, Polling
from worker.producer import Limits, Producer

URL = "redis://localhost:1"
NAME = "chunks/u/c/1.000.bin"
SAMPLES: dict[str, Any] = {
    "none": None,
    "flag": True,
    "number": 5,
    "fraction": 0.5,
    "text": "x" * 40,
    "bytes": b"x" * 40,
    "list": [object()],
    "mapping": {5: 5},
    "function": print,
    "object": object(),
}
WHOLE, NUMBER, TEXT = {"number"}, {"number", "fraction"}, {"text"}
NONE = {"none"}


@dataclass
class Call:
    """A function with good arguments, and the samples that each of its parameters takes.

    `said` are the words by which messages call a parameter, where that is not its name.
    """

    function: Callable[..., Any]
    good: Mapping[str, Any]
    takes: Mapping[str, set[str]]
    said: Mapping[str, str] = field(default_factory=dict)


IDS = {"uid": TEXT, "conversation_id": TEXT}
GOOD_IDS = {"uid": "u", "conversation_id": "c"}
MAYBE_IDS = dict.fromkeys(IDS, TEXT | NONE)
CHUNK = GOOD_IDS | {"timestamp": 1.0, "pcm": b"xx"}
NUMBERED = {"seq": WHOLE | NONE, "session": {"bytes", "none"}, "extensions": set[str]()}
DECODING = {"data": b"xx", "name": NAME, "metadata": {}, "secrets": [TEST_SECRET]}
BLOB_NAME = {"name": "chunks/uid", "secrets": "secret"}

CODEC: dict[str, Call] = {
    "seal_content": Call(
        blob.seal_content,
        {"content": b"x", "key": bytes(32)},
        {"content": {"bytes"}, "key": {"bytes", "none"}},
    ),
    "open_content": Call(
        blob.open_content,
        {name: value for name, value in DECODING.items() if name != "metadata"},
        {"data": {"bytes"}, "name": set(), "secrets": set()},
        BLOB_NAME,
    ),
    "decode": Call(
        blob.decode,
        DECODING,
        {"data": {"bytes"}, "name": set(), "metadata": NONE | {"mapping"}, "secrets": set()},
        BLOB_NAME,
    ),
    "decode_content": Call(
        blob.decode_content,
        {"content": b"xx", "name": NAME, "metadata": {}},
        {"content": {"bytes"}, "name": set(), "metadata": NONE | {"mapping"}},
        BLOB_NAME,
    ),
    "derive_key": Call(crypto.derive_key, {"secret": TEST_SECRET, "uid": "u"}, {"secret": TEXT, "uid": TEXT}),
    "key_id": Call(crypto.key_id, {}, {"secret": TEXT}),
    "check_secret": Call(crypto.check_secret, {}, {"secret": TEXT}),
    "checked_secrets": Call(crypto.checked_secrets, {}, {"secrets": set()}, {"secrets": "secret"}),
    "encrypt": Call(crypto.encrypt, {"key": bytes(32), "plaintext": b"x"}, {"key": {"bytes"}, "plaintext": {"bytes"}}),
    "decrypt": Call(crypto.decrypt, {"key": bytes(32), "blob": b"x"}, {"key": {"bytes"}, "blob": {"bytes"}}),
    "read_header": Call(container.read_header, {}, {"container": {"bytes"}}),
    "packets": Call(lambda container_: list(container.packets(container_)), {}, {"container_": {"bytes"}}),
    "opus.decode": Call(
        opus.decode,
        {"container": bytes(8)},
        {"container": {"bytes"}, "sample_rate": WHOLE, "pre_skip": WHOLE, "samples": WHOLE | NONE},
    ),
    "Encoder": Call(
        opus.Encoder,
        {"sample_rate": 16000, "complexity": 5},
        {
            "sample_rate": WHOLE,
            "complexity": WHOLE,
            "bitrate": WHOLE | NONE,
            "dtx": {"flag"},
            "application": TEXT,
            "quiet": set(),
        },
    ),
    "from_mapping": Call(BlobMetadata.from_mapping, {}, {"mapping": {"mapping"}}),
    "partition_of": Call(
        entry.partition_of, {"conversation_id": "c", "partitions": 64}, {"conversation_id": TEXT, "partitions": WHOLE}
    ),
    "parse": Call(entry.parse, {}, {"fields": set()}, {"fields": ""}),
    "Chunk": Call(
        entry.Chunk,
        CHUNK,
        IDS
        | {"timestamp": NUMBER, "pcm": {"bytes"}, "sample_rate": set(), "protection": set(), **NUMBERED}
        | {"trimmed": set(SAMPLES)},
        {"extensions": ""},
    ),
    "End": Call(entry.End, GOOD_IDS, IDS | NUMBERED, {"extensions": ""}),
    "parse_name": Call(names.parse_name, {}, {"name": set()}, {"name": "chunks/uid"}),
    "prefix": Call(names.prefix, GOOD_IDS, {"uid": TEXT, "conversation_id": TEXT | NONE}),
    "format_timestamp": Call(names.format_timestamp, {}, {"seconds": NUMBER}),
    "object_name": Call(
        names.object_name,
        GOOD_IDS | {"start": 1.0, "kind": names.Kind.BATCH},
        IDS | {"start": NUMBER, "end": NUMBER | NONE, "kind": set()},
        {"start": "Unix seconds"},
    ),
    "kind_of_new": Call(
        names.kind_of_new,
        {"codec": "opus", "naming": "range", "encrypted": True},
        {"encrypted": {"flag"}, "codec": set(), "naming": set()},
    ),
}
PRODUCER: dict[str, Call] = {
    "Producer": Call(
        Producer,
        {"redis_url": URL},
        {
            "redis_url": set(),
            "partitions": WHOLE,
            "prefix": TEXT,
            "limits": set(),
            "on_trouble": {"function"},
            "backoff": NONE,
            "session": TEXT | NONE | {"bytes"},
            "replicas": WHOLE,
        },
        {"redis_url": "REDIS_URL", "partitions": "PARTITIONS", "prefix": "STREAM_PREFIX"},
    ),
    "Limits": Call(
        Limits,
        {},
        {"buffer_bytes": WHOLE, "close_within": NUMBER | NONE, "reply_timeout": NUMBER},
    ),
}
PRODUCERS_METHODS: dict[str, tuple[Mapping[str, Any], Mapping[str, set[str]]]] = {
    "push": (
        CHUNK,
        IDS
        | {"timestamp": NUMBER, "pcm": {"bytes"}, "sample_rate": set(), "protection": set(), "extensions": set()}
        | {"within": NUMBER | NONE},
    ),
    "end": (GOOD_IDS, IDS | {"extensions": set(), "within": NUMBER | NONE}),
    "put": ({"entry": entry.End("u", "c")}, {"entry": set(), "within": NUMBER | NONE}),
    "next_seq": ({}, {"conversation_id": TEXT}),
    "session_of": ({}, {"conversation_id": TEXT}),
    "resume": (
        {"conversation_id": "c", "seq": 5},
        {"conversation_id": TEXT, "seq": WHOLE, "session": TEXT | NONE | {"bytes"}},
    ),
    "flush": ({}, {"within": NUMBER | NONE}),
    "check": ({}, {}),
    "close": ({}, {}),
    "stats": ({}, {}),
}
EVENTS: dict[str, Call] = {
    "EventReader": Call(
        EventReader,
        {"redis_url": URL},
        {"redis_url": set(), "prefix": TEXT, "positions": set(), "polling": set(), "on_missed": {"function"}},
        {"redis_url": "REDIS_URL", "prefix": "STREAM_PREFIX"},
    ),
    "Polling": Call(Polling, {}, {"every": NUMBER, "check": NUMBER, "reply_timeout": NUMBER}),
}
READERS_METHODS: dict[str, tuple[Mapping[str, Any], Mapping[str, set[str]]]] = {
    "read": ({}, {"within": NUMBER | NONE}),
    "close": ({}, {}),
}
ARCHIVE: dict[str, Call] = {
    "open_store": Call(
        open_store,
        {"url": "gs://bucket", "emulator_host": "http://h:1"},
        {"url": set(), "emulator_host": TEXT | NONE},
        {"url": "STORE_URL", "emulator_host": "STORAGE_EMULATOR_HOST"},
    ),
    "Selection": Call(
        Selection,
        {},
        {"since": NUMBER | NONE, "until": NUMBER | NONE, "timestamps": NONE | {"mapping"}},
        {"since": "time from", "until": "time from", "timestamps": "timestamp"},
    ),
    "MergeRules": Call(MergeRules, {}, {"fill_gaps": {"flag"}, "trim_overlaps": {"flag"}, "gap_tolerance": NUMBER}),
    "AudioCache": Call(AudioCache, {"most_bytes": 1}, {"most_bytes": WHOLE}),
    "Encoding": Call(
        Encoding,
        {"secret": TEST_SECRET, "complexity": 5},
        {"secret": TEXT, "complexity": WHOLE, "bitrate": WHOLE | NONE, "application": TEXT},
    ),
}
PROGRESS = {"progress": {"function"}}
CHANGING = {"dry_run": {"flag"}, "recorded": {"flag"}}
ARCHIVES_METHODS: dict[str, tuple[Mapping[str, Any], Mapping[str, set[str]]]] = {
    "list": (GOOD_IDS, {"uid": TEXT, "conversation_id": TEXT | NONE}),
    "users": ({}, {}),
    "conversations": ({"uid": "u"}, {"uid": TEXT}),
    "seekable": (GOOD_IDS | {"cache": AudioCache(1)}, IDS | {"cache": set(), "rules": set()}),
    "download": (GOOD_IDS, IDS | PROGRESS | {"selection": set(), "rules": set(), "sample_rate": WHOLE | NONE}),
    "save": ({}, {"download": set()}),
    "audio_files": (GOOD_IDS, IDS | PROGRESS | {"gap": NUMBER, "gap_tolerance": NUMBER}),
    "copy": (
        {"uid": "u", "conversations": ["c"], "target": "d"},
        {"uid": TEXT, "conversations": set(), "target": TEXT, "dry_run": {"flag"}, **PROGRESS},
    ),
    "delete": (
        GOOD_IDS | {"tombstones": None},
        {"uid": TEXT, "conversation_id": TEXT | NONE, "tombstones": NONE, **CHANGING, **PROGRESS},
    ),
    "delete_chunks": (GOOD_IDS | {"timestamps": [1.0]}, IDS | CHANGING | {"timestamps": set()}),
    "count": (GOOD_IDS, MAYBE_IDS | {"codec": TEXT | NONE}),
    "verify": (GOOD_IDS, MAYBE_IDS | {"known": {"mapping"}}),
    "convert": (
        GOOD_IDS | {"encoding": Encoding(TEST_SECRET, 5), "dry_run": True},
        MAYBE_IDS | {"encoding": set(), "dry_run": {"flag"}, "on_unknown": {"function"}},
    ),
}
SAID = {"conversation_id": "", "target": "", "conversations": "", "entry": "Chunk", "extensions": "", "timestamps": ""}
"""Of some arguments the message names an item, or the id in the object's name."""

RECORDS = frozenset({"AudioFile", "AudioFiles", "Blob", "BlobCopy", "BlobVerdict", "Conversion", "CopyReport"})
RECORDS |= {"Deletion", "Download", "DownloadReport", "Fingerprint", "Listing", "Problem", "Repeat", "Undeleted"}
RECORDS |= {"UnknownObject", "Stats", "Trouble", "Cause", "AudioFormat", "ConversionOutcome", "Store"}
RECORDS |= {"DoneEvent", "ReceivedEvent", "ConversationSummary", "SeekableRecording"}
"""What the API gives and nobody makes."""


def cases(calls: Mapping[str, Call]) -> list[Any]:
    return [
        pytest.param(call, name, kind, id=f"{function}-{name}-{kind}")
        for function, call in calls.items()
        for name, takes in call.takes.items()
        for kind in sorted(set(SAMPLES) - takes)
    ]


def parameters(function: Callable[..., Any]) -> set[str]:
    return set(inspect.signature(function).parameters) - {"self"}


async def refused(call: Call, name: str, kind: str) -> None:
    async def called() -> None:
        result = call.function(**{**call.good, name: SAMPLES[kind]})
        if inspect.isawaitable(result):
            await result
        elif isinstance(result, AsyncIterator):
            await anext(result)

    with pytest.raises(WorkerError) as caught:
        await called()
    assert not isinstance(caught.value, NothingStored)
    assert call.said.get(name, name.rstrip("_")) in str(caught.value)


@pytest.mark.parametrize(("call", "name", "kind"), [*cases(CODEC), *cases(PRODUCER), *cases(EVENTS), *cases(ARCHIVE)])
async def test_wrong_type_is_refused_by_its_name(call: Call, name: str, kind: str) -> None:
    await refused(call, name, kind)


@pytest.mark.parametrize("method", PRODUCERS_METHODS)
async def test_methods_of_a_producer_refuse_wrong_types_and_take_nothing(method: str) -> None:
    good, takes = PRODUCERS_METHODS[method]
    producer = Producer(URL)
    call = Call(getattr(producer, method), good, takes, SAID)
    for case in cases({method: call}):
        await refused(*case.values)
    assert producer.stats().buffered_entries == 0
    await producer.close()


@pytest.mark.parametrize("method", READERS_METHODS)
async def test_methods_of_a_reader_of_events_refuse_wrong_types(method: str) -> None:
    good, takes = READERS_METHODS[method]
    async with EventReader(URL) as reader:
        for case in cases({method: Call(getattr(reader, method), good, takes)}):
            await refused(*case.values)


@pytest.mark.parametrize("method", ARCHIVES_METHODS)
async def test_methods_of_an_archive_refuse_wrong_types_and_change_nothing(method: str, tmp_path: Path) -> None:
    good, takes = ARCHIVES_METHODS[method]
    archive = Archive(open_store(tmp_path.as_uri()), [TEST_SECRET])
    call = Call(getattr(archive, method), {"path": tmp_path / "x.wav"} if method == "save" else good, takes, SAID)
    for case in cases({method: call}):
        await refused(*case.values)
    assert os.listdir(tmp_path) == []  # noqa: PTH208 -- a blocking call of pathlib may not be made here


@pytest.mark.parametrize("kind", SAMPLES)
async def test_archive_refuses_what_is_no_store(kind: str) -> None:
    with pytest.raises(WorkerError, match="store is"):
        Archive(SAMPLES[kind], [TEST_SECRET])


async def test_saving_refuses_a_wrong_path_and_format(tmp_path: Path) -> None:
    store = open_store(tmp_path.as_uri())
    archive = Archive(store)
    await store.create(NAME, b"xx", {})
    download = await archive.download("u", "c")
    for kind in set(SAMPLES) - TEXT:
        with pytest.raises(WorkerError, match="path is"):
            await archive.save(download, SAMPLES[kind])
    for kind in set(SAMPLES) - NONE:
        with pytest.raises(WorkerError, match="form is"):
            await archive.save(download, tmp_path / "x.wav", SAMPLES[kind])


def test_table_has_every_parameter_and_every_public_name() -> None:
    for name, call in (CODEC | PRODUCER | EVENTS | ARCHIVE).items():
        assert name == "packets" or set(call.takes) == parameters(call.function), name
    for owner, methods in ((Producer, PRODUCERS_METHODS), (EventReader, READERS_METHODS), (Archive, ARCHIVES_METHODS)):
        public = {name for name, _ in inspect.getmembers(owner, inspect.isfunction) if not name.startswith("_")}
        assert public == set(methods)
        for name, (_, takes) in methods.items():
            assert name == "save" or set(takes) == parameters(getattr(owner, name)), name
    modules = {worker.producer: {*PRODUCER}, worker.events: {*EVENTS}, worker.archive: {*ARCHIVE, "Archive"}}
    for module, known in modules.items():
        made = {name for name in module.__all__ if not _is_error(getattr(module, name))}
        assert made - RECORDS == known


def _is_error(item: object) -> bool:
    return isinstance(item, type) and issubclass(item, BaseException)
