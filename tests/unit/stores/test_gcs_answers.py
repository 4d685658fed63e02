"""What Cloud Storage, or another server in its place, says is checked: only what fits the question is believed."""

from __future__ import annotations

import asyncio
import json
import time
from typing import TYPE_CHECKING, Any

import google_crc32c
import pytest

from tests.support.clock import Clock
from tests.support.gcs.objects import crc32c
from tests.support.gcs.server import GcsServer
from worker.errors import ObjectExists, SettingsError, StoreError
from worker.runtime.metrics import PREFIX, Metrics
from worker.runtime.timing import Backoff, StoreTiming
from worker.stores.gcs import GcsStore
from worker.stores.monitored import MonitoredStore
from worker.stores.retrying import RetryingStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

NAME = "chunks/user/conversation/1000.000.opus.enc"
DATA = b"content"
TIMING = StoreTiming(retry=Backoff(0.01, 30.0))
REDIRECTS = [300, 301, 302, 303, 304, 305, 307, 308]


def described(**changes: object) -> dict[str, object]:
    """The description that an insert of DATA gets, with changes; None leaves a field out."""
    fitting = {
        "kind": "storage#object",
        "bucket": "test-bucket",
        "name": NAME,
        "size": str(len(DATA)),
        "crc32c": crc32c(DATA),
        "generation": "1600000000000000",
    }
    return {key: value for key, value in {**fitting, **changes}.items() if value is not None}


ERROR = {"error": {"code": 503, "message": "Backend Error"}}
UNEXPECTED: dict[str, dict[str, Any]] = {
    "{}": {"body": {}},
    "[]": {"body": []},
    "null": {"body": None},
    "a number": {"body": 200},
    "a string": {"body": '"stored"'},
    "text": {"body": "stored"},
    "nothing": {"body": ""},
    "a number too long for Python": {"body": '{"size": ' + 5000 * "9" + "}"},
    "brackets too deep for Python": {"body": 100_000 * "["},
    "an error": {"body": ERROR},
    "another kind": {"body": {"kind": "storage#bucket", "name": "test-bucket"}},
    "another name": {"body": described(name="chunks/user/conversation/1060.000.opus.enc")},
    "no name": {"body": described(name=None)},
    "a name that is none": {"body": described(name=[NAME])},
    "another bucket": {"body": described(bucket="other-bucket")},
    "no size": {"body": described(size=None)},
    "a size that is none": {"body": described(size="seven")},
    "a negative size": {"body": described(size="-7")},
    "no checksum": {"body": described(crc32c=None)},
    "a checksum that is none": {"body": described(crc32c="AAAA")},
    "no generation": {"body": described(generation=None)},
    "an empty generation": {"body": described(generation="")},
    "a generation that is none": {"body": described(generation="latest")},
    "metadata that are none": {"body": described(metadata="codec")},
    **{f"HTTP {status}": {"status": status, "body": described()} for status in (201, 202, 204, 206, 207)},
    **{f"HTTP {status}": {"status": status, "body": described()} for status in REDIRECTS},
    **{f"HTTP {status} to itself": {"status": status, "headers": {"Location": "/"}} for status in REDIRECTS},
}
CORRUPT: dict[str, dict[str, Any]] = {
    "another size": {"body": described(size="8")},
    "another checksum": {"body": described(crc32c=crc32c(b"cOntent"))},
}
ANSWERS = [
    *(pytest.param("unexpected", answer, id=key) for key, answer in UNEXPECTED.items()),
    *(pytest.param("corrupt", answer, id=key) for key, answer in CORRUPT.items()),
]


def fail(server: GcsServer, match: str, answer: dict[str, Any], **details: Any) -> None:  # noqa: ANN401 -- a fault's fields
    server.fail(match, "answer", **{"status": 200, **answer, **details})


@pytest.fixture
async def other() -> AsyncIterator[GcsServer]:
    """Another host, which would take whatever it is sent."""
    async with GcsServer() as server:
        yield server


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
def watched(gcs: GcsStore, metrics: Metrics) -> MonitoredStore:
    return MonitoredStore(gcs, asyncio.Semaphore(4), metrics, Clock())


def retries(metrics: Metrics, cause: str) -> float | None:
    return metrics.registry.get_sample_value(f"{PREFIX}_store_retries_total", {"cause": cause})


async def test_the_answer_that_all_others_here_differ_from_is_believed(gcs: GcsStore, gcs_server: GcsServer) -> None:
    fail(gcs_server, "insert.*", {"body": described()})
    await gcs.create(NAME, DATA, {})
    assert not gcs_server.objects()


@pytest.mark.slow
@pytest.mark.parametrize(("cause", "answer"), ANSWERS)
async def test_an_answer_that_does_not_fit_an_insert_never_counts_as_stored(
    watched: MonitoredStore, gcs_server: GcsServer, metrics: Metrics, cause: str, answer: dict[str, Any]
) -> None:
    fail(gcs_server, "insert.*", answer, times=3)

    began = time.monotonic()
    assert await RetryingStore(watched, timing=TIMING).put(NAME, DATA, {"codec": "opus"}) is None

    assert time.monotonic() - began >= TIMING.retry.first * (1 + 2 + 4)
    assert gcs_server.count("insert.*") == 4
    assert retries(metrics, cause) == 3
    assert gcs_server.objects()[NAME].data == DATA


@pytest.mark.slow
@pytest.mark.parametrize(("cause", "answer"), ANSWERS)
async def test_an_answer_that_does_not_fit_an_insert_hides_nothing_that_was_stored(
    gcs: GcsStore, watched: MonitoredStore, gcs_server: GcsServer, cause: str, answer: dict[str, Any]
) -> None:
    fail(gcs_server, "insert.*", answer, done=True)

    with pytest.raises(StoreError) as caught:
        await gcs.create(NAME, DATA, {"codec": "opus"})

    assert caught.value.cause == cause
    found = await RetryingStore(watched, timing=TIMING).put(NAME, DATA, {"codec": "opus"})
    assert found is not None
    assert (found.crc32c, found.metadata) == (google_crc32c.value(DATA), {"codec": "opus"})


async def test_a_refused_answer_is_quoted(gcs: GcsStore, gcs_server: GcsServer) -> None:
    fail(gcs_server, "insert.*", {"body": described(name="chunks/another", metadata={"long": 1000 * "x"})})

    with pytest.raises(StoreError, match=rf'storing {NAME}: the store answered .*"name": "chunks/another"') as caught:
        await gcs.create(NAME, DATA, {})

    assert len(str(caught.value)) < 500


@pytest.mark.parametrize(
    "answer",
    [
        {"action": "status", "status": 403},
        {"action": "status", "status": 503},
        {"action": "reset", "times": 2},
        {"action": "stall"},
        {"action": "answer", "status": 307},
    ],
    ids=str,
)
async def test_an_object_of_other_bytes_counts_as_corrupt_even_if_it_cannot_be_discarded(
    gcs_server: GcsServer, answer: dict[str, Any]
) -> None:
    gcs = GcsStore(gcs_server.bucket, emulator_host=gcs_server.url, request_timeout=0.3)
    gcs_server.fail("insert.*", "keep_other_bytes")
    gcs_server.fail("delete", **answer)

    with pytest.raises(StoreError, match="they are still there") as caught:
        await gcs.create(NAME, DATA, {})

    assert caught.value.cause == "corrupt"
    with pytest.raises(ObjectExists):
        await gcs.create(NAME, DATA, {})
    await gcs.close()


@pytest.mark.parametrize(
    "wrong",
    [{"size": "3"}, {"crc32c": "AAAAAA=="}, {"size": "3", "generation": "1"}],
    ids="+".join,
)
async def test_an_object_that_is_only_described_wrongly_stays(
    gcs: GcsStore, gcs_server: GcsServer, wrong: dict[str, str]
) -> None:
    """Another worker may have found it meanwhile, and let go of its audio in Redis."""
    gcs_server.fail("insert.*", "misdescribe", changes=wrong)

    with pytest.raises(StoreError, match="described other bytes than it was sent, and kept the right ones") as caught:
        await gcs.create(NAME, DATA, {})

    assert caught.value.cause == "corrupt"
    assert gcs_server.objects()[NAME].data == DATA
    assert gcs_server.count("delete") == 0


@pytest.mark.parametrize("answer", [{"action": "status", "status": 503}, {"action": "corrupt"}], ids=str)
async def test_an_object_that_can_not_be_read_back_is_not_discarded(
    gcs: GcsStore, gcs_server: GcsServer, answer: dict[str, Any]
) -> None:
    gcs_server.fail("insert.*", "misdescribe", changes={"size": "3"})
    gcs_server.fail("download", **answer)

    with pytest.raises(StoreError, match="they are still there"):
        await gcs.create(NAME, DATA, {})

    assert gcs_server.objects()[NAME].data == DATA


async def test_discarding_fails_with_what_nobody_foresaw(
    gcs: GcsStore, gcs_server: GcsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def failing(*_: object) -> bool:
        raise RuntimeError("nobody foresaw this")

    gcs_server.fail("insert.*", "keep_other_bytes")
    monkeypatch.setattr(gcs, "delete", failing)

    with pytest.raises(StoreError, match="nobody foresaw this") as caught:
        await gcs.create(NAME, DATA, {})

    assert caught.value.cause == "corrupt"


def calls(store: GcsStore) -> dict[str, Callable[[], Awaitable[object]]]:
    async def listing() -> list[object]:
        return [info async for info in store.list("chunks/user/")]

    return {
        "create": lambda: store.create("chunks/new", DATA, {}),
        "stat": lambda: store.stat(NAME),
        "list": listing,
        "read": lambda: store.read(NAME),
        "copy": lambda: store.copy(NAME, "chunks/target"),
        "delete": lambda: store.delete(NAME),
        "check": store.check,
    }


@pytest.mark.slow
@pytest.mark.parametrize("call", ["create", "stat", "list", "read", "copy", "delete", "check"])
@pytest.mark.parametrize("status", REDIRECTS)
async def test_a_redirect_is_never_followed(
    gcs: GcsStore, gcs_server: GcsServer, other: GcsServer, status: int, call: str
) -> None:
    await gcs.create(NAME, DATA, {})
    elsewhere = {"Location": f"{other.url}/upload/storage/v1/b/test-bucket/o?uploadType=multipart"}
    fail(gcs_server, "*", {"status": status, "headers": elsewhere, "body": described()})

    with pytest.raises(StoreError, match=rf"HTTP {status}: redirects are not followed") as caught:
        await calls(gcs)[call]()

    assert (caught.value.cause, caught.value.status) == ("unexpected", status)
    assert other.requests == []
    await calls(gcs)[call]()


@pytest.mark.parametrize("status", [302, 307])
async def test_a_redirect_of_the_request_for_a_token_is_never_followed(
    gcs_server: GcsServer, other: GcsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    gcs_server.api.access_token = other.api.access_token = "token"
    identity = dict.fromkeys(("client_id", "client_secret", "refresh_token"), "secret")
    path = tmp_path / "credentials.json"
    path.write_text(json.dumps({"type": "authorized_user", "token_uri": f"{gcs_server.url}/token", **identity}))
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(path))
    monkeypatch.setattr("worker.stores.gcs.API_ROOT", gcs_server.url)
    gcs = GcsStore(gcs_server.bucket)
    fail(gcs_server, "token", {"status": status, "headers": {"Location": f"{other.url}/token"}})

    with pytest.raises(StoreError) as caught:
        await gcs.create(NAME, DATA, {})

    assert caught.value.cause == "credentials"
    assert other.requests == []
    await gcs.create(NAME, DATA, {})
    await gcs.close()


LISTING = "storage#objects"
NOT_FITTING: dict[str, tuple[str, list[Any]]] = {
    "stat": ("get", [[], {}, None, ERROR, described(name="chunks/other"), described(size=None), described(bucket="b")]),
    "list": (
        "list",
        [
            [],
            {},
            None,
            ERROR,
            {"kind": LISTING, "items": {}},
            {"kind": LISTING, "items": [None]},
            {"kind": LISTING, "items": [described(name="chunks/another user/c/1.000.bin")]},
            {"kind": LISTING, "items": [described(size=None)]},
            {"kind": LISTING, "items": [described(generation=None)]},
            {"kind": LISTING, "nextPageToken": 7},
        ],
    ),
    "copy": (
        "rewrite",
        [
            [],
            {},
            None,
            ERROR,
            {"done": False},
            {"done": True},
            {"done": True, "resource": described()},
            {"done": True, "resource": described(name="chunks/target", crc32c=None)},
            {"done": True, "resource": described(name="chunks/target", bucket="b")},
        ],
    ),
    "check": ("list", [[], {}, None, ERROR, described()]),
}


@pytest.mark.parametrize(
    ("call", "match", "body"), [(call, match, body) for call, (match, bodies) in NOT_FITTING.items() for body in bodies]
)
async def test_an_answer_that_does_not_fit_is_unexpected(
    gcs: GcsStore, gcs_server: GcsServer, call: str, match: str, body: object
) -> None:
    await gcs.create(NAME, DATA, {})
    fail(gcs_server, match, {"body": body})

    with pytest.raises(StoreError) as caught:
        await calls(gcs)[call]()

    assert not isinstance(caught.value, SettingsError)
    assert caught.value.cause == "unexpected"
    await calls(gcs)[call]()


@pytest.mark.parametrize("status", [201, 203, 204, 206])
async def test_a_part_of_an_object_is_not_read_as_the_whole(gcs: GcsStore, gcs_server: GcsServer, status: int) -> None:
    await gcs.create(NAME, DATA, {})
    fail(gcs_server, "download", {"status": status, "body": "cont"})

    with pytest.raises(StoreError, match=f"HTTP {status}") as caught:
        await gcs.read(NAME)

    assert caught.value.cause == "unexpected"


async def test_an_empty_listing_is_an_answer(gcs: GcsStore) -> None:
    assert await calls(gcs)["list"]() == []
