"""One tree of errors: whatever is wrong in a call of the public API is told by a class of ours, with a sentence."""

from __future__ import annotations

import inspect
import os
import re
from typing import TYPE_CHECKING, Any

import pytest

import codec.errors
import worker.archive
import worker.errors
import worker.producer
from codec.blob import decode
from codec.crypto import derive_key, key_id
from codec.names import Kind, format_timestamp, object_name, parse_name, prefix
from tests.support.secret import TEST_SECRET
from tests.support.speech import speech
from tests.support.stored_blobs import OLD_SECRET, T0, ConversationFolder, key_of
from tests.tools.readme import ARCHITECTURE
from worker.archive import (
    Archive,
    BadName,
    BadSecret,
    BadSelection,
    NothingReadable,
    NothingStored,
    Selection,
    SettingsError,
    WorkerError,
    WrongSecrets,
    open_store,
)
from worker.producer import BadEntry, Producer

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.support.gcs.server import GcsServer
    from worker.stores.base import Store

MODULES = (codec.errors, worker.errors)
ALL = {
    name: found
    for module in MODULES
    for name, found in vars(module).items()
    if inspect.isclass(found) and issubclass(found, BaseException)
}


@pytest.fixture
def store(gcs_server: GcsServer) -> Store:
    return open_store(f"gs://{gcs_server.bucket}", emulator_host=gcs_server.url)


@pytest.mark.parametrize("name", sorted(ALL))
def test_every_error_is_in_the_one_tree(name: str) -> None:
    assert issubclass(ALL[name], WorkerError)


@pytest.mark.parametrize("name", sorted(ALL))
def test_every_error_is_drawn_deeper_than_its_base(name: str) -> None:
    drawing = [line for module in MODULES for line in inspect.cleandoc(module.__doc__ or "").splitlines()]
    found = [re.match(r"([│ ]*(?:[├└]── )?)([A-Z]\w+) ", line) for line in drawing]
    drawn = {match[2]: len(match[1]) for match in found if match and match[2] in ALL}
    assert name in drawn
    assert all(drawn[base.__name__] < drawn[name] for base in ALL[name].__bases__ if base.__name__ in ALL)


def test_the_architecture_draws_the_same_tree() -> None:
    text = ARCHITECTURE.read_text().partition("## The way of an error")[2].partition("\n## ")[0]
    assert set(re.findall(r"[├└]── ([A-Z]\w+)", text)) == set(ALL) - {"WorkerError"}


@pytest.mark.parametrize("module", [worker.archive, worker.producer])
def test_public_errors_are_exported(module: Any) -> None:  # noqa: ANN401 -- a module's names have no static types
    assert {"WorkerError", "SettingsError", "StreamError"} <= set(module.__all__)
    assert all(hasattr(module, name) for name in module.__all__)


ANY: Any = None
NUMBER: Any = 5
TEXT: Any = "text that is longer than thirty-two bytes"
BYTES: Any = TEXT.encode()
CALLS: dict[str, tuple[type[Exception], Callable[[], object]]] = {
    "a secret is None": (BadSecret, lambda: Archive(ANY, [ANY])),
    "secrets are a text": (BadSecret, lambda: Archive(ANY, TEXT)),
    "secrets are bytes": (BadSecret, lambda: Archive(ANY, BYTES)),
    "secrets are None": (BadSecret, lambda: Archive(ANY, ANY)),
    "a secret is not Unicode": (BadSecret, lambda: Archive(ANY, ["\udcff" * 40])),
    "decode with a None": (BadSecret, lambda: decode(b"", "chunks/u/c/1.enc", {}, secrets=[ANY])),
    "decode with a text": (BadSecret, lambda: decode(b"", "chunks/u/c/1.enc", {}, secrets=TEXT)),
    "key of None": (BadSecret, lambda: derive_key(ANY, "u")),
    "key id of None": (BadSecret, lambda: key_id(ANY)),
    "name is None": (BadName, lambda: parse_name(ANY)),
    "uid is None": (BadName, lambda: prefix(ANY)),
    "uid is bytes": (BadName, lambda: object_name(BYTES, "c", 0.0, kind=Kind.OPUS)),
    "time is text": (BadName, lambda: format_timestamp(TEXT)),
    "since is text": (BadSelection, lambda: Selection(since=TEXT)),
    "a timestamp is text": (BadSelection, lambda: Selection(timestamps=[TEXT])),
    "timestamps is a number": (BadSelection, lambda: Selection(timestamps=NUMBER)),
    "STORE_URL is None": (SettingsError, lambda: open_store(ANY)),
    "REDIS_URL is None": (SettingsError, lambda: Producer(ANY)),
    "PARTITIONS is text": (SettingsError, lambda: Producer("redis://h", partitions=TEXT)),
    "STREAM_PREFIX is None": (SettingsError, lambda: Producer("redis://h", prefix=ANY)),
    "session is a number": (SettingsError, lambda: Producer("redis://h", session=NUMBER)),
}


@pytest.mark.parametrize(("kind", "call"), CALLS.values(), ids=CALLS)
def test_wrong_argument_is_an_error_of_ours(kind: type[Exception], call: Callable[[], object]) -> None:
    with pytest.raises(kind) as caught:
        call()
    assert isinstance(caught.value, WorkerError)
    assert len(str(caught.value)) > 10


@pytest.mark.parametrize(
    "change",
    [
        {"timestamp": "now"},
        {"timestamp": None},
        {"uid": None},
        {"conversation_id": 5},
        {"pcm": "text"},
        {"pcm": 5},
        {"pcm": None},
        {"sample_rate": "fast"},
        {"protection": 1},
        {"extensions": {"baggage": "1"}},
        {"extensions": 5},
    ],
    ids=str,
)
async def test_wrong_chunk_is_refused_by_the_producer(redis_url: str, prefix: str, change: dict[str, Any]) -> None:
    good: dict[str, Any] = {"uid": "u", "conversation_id": "c", "timestamp": 1.0, "pcm": bytes(2)}
    async with Producer(redis_url, prefix=prefix) as producer:
        with pytest.raises(BadEntry) as caught:
            await producer.push(**good | change)
        assert producer.stats().buffered_entries == producer.stats().sent_entries == 0
        assert producer.next_seq("c") == 0
    assert isinstance(caught.value, WorkerError)


async def test_entry_and_number_of_another_type_are_refused_too(redis_url: str, prefix: str) -> None:
    async with Producer(redis_url, prefix=prefix) as producer:
        with pytest.raises(BadEntry, match="neither a Chunk nor an End"):
            await producer.put(TEXT)
        with pytest.raises(BadEntry, match="not a counter"):
            producer.resume("c", TEXT)
        with pytest.raises(BadEntry, match="uid is NoneType"):
            await producer.end(ANY, "c")


async def test_wrong_secret_is_told_from_audio_that_is_not_there(store: Store, tmp_path: Path) -> None:
    """So that a backend answers 404 only if there is nothing."""
    folder = ConversationFolder(store)
    for number, extension in enumerate((".enc", ".opus.enc")):
        await folder.put(extension, T0 + number, speech(1), described=True, more=key_of(TEST_SECRET))
    for secrets in ([OLD_SECRET], []):
        archive = Archive(store, secrets)
        with pytest.raises(
            WrongSecrets, match="is stored, but none of 2 blobs can be read with the given secrets"
        ) as caught:
            await archive.save(await archive.download("user", "talk"), tmp_path / "out.wav")
        assert not isinstance(caught.value, NothingStored)
    with pytest.raises(NothingStored):
        await archive.download("user", "other")
    assert "out.wav" not in os.listdir(tmp_path)  # noqa: PTH208 -- a blocking call of pathlib may not be made here
    await store.close()


async def test_damaged_audio_is_neither_missing_nor_a_matter_of_secrets(store: Store, tmp_path: Path) -> None:
    folder = ConversationFolder(store)
    await folder.put_bytes(f"{T0:.3f}.opus", b"short")
    await folder.put_bytes(f"{T0 + 60:.3f}.opus.enc", folder.sealed(b"short"))
    archive = Archive(store, [TEST_SECRET])
    with pytest.raises(NothingReadable, match="is stored, but none of 2 blobs can be read") as caught:
        await archive.save(await archive.download("user", "talk"), tmp_path / "out.wav")
    assert not isinstance(caught.value, WrongSecrets)
    await store.close()


async def test_time_without_audio_is_nothing_stored(store: Store, tmp_path: Path) -> None:
    await ConversationFolder(store).put(".opus", T0, speech(1))
    archive = Archive(store)
    later = Selection(since=T0 + 20, until=T0 + 30)
    with pytest.raises(NothingStored, match="selected time"):
        await archive.save(await archive.download("user", "talk", selection=later), tmp_path / "out.wav")
    await store.close()
