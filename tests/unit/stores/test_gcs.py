"""The Cloud Storage store over HTTP: what it costs, and what it does when the server fails."""

from __future__ import annotations

import asyncio
import base64
import os
from typing import TYPE_CHECKING

import google_crc32c
import pytest

from worker.errors import ObjectExists, ObjectMissing, SettingsError, StoreError
from worker.stores.gcs import GcsStore

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.support.gcs.faults import Action, Stage
    from tests.support.gcs.server import GcsServer

NAME = "chunks/user/conversation/1000.000.opus.enc"
MIB = 1024 * 1024


@pytest.mark.parametrize("size", [0, 1, 150_000, 6 * MIB])
async def test_create_is_one_request_of_known_length_and_no_look_up(
    gcs: GcsStore, gcs_server: GcsServer, size: int
) -> None:
    await gcs.create(NAME, bytes(size), {"codec": "opus"})

    counts = gcs_server.counts()
    assert counts["kinds"] == {"insert.multipart": 1}
    assert (counts["class_a"], counts["look_ups"]) == (1, 0)
    [request] = gcs_server.requests
    assert request.query["ifGenerationMatch"] == "0"
    assert request.content_length is not None
    assert request.content_length > size


async def test_an_object_is_an_octet_stream_without_more_metadata_than_given(
    gcs: GcsStore, gcs_server: GcsServer
) -> None:
    await gcs.create(NAME, b"content", {"codec": "opus"})

    resource = gcs_server.objects()[NAME].resource()
    assert resource["contentType"] == "application/octet-stream"
    assert resource["metadata"] == {"codec": "opus"}


async def test_a_copy_that_the_store_does_not_finish_is_an_error(gcs: GcsStore, gcs_server: GcsServer) -> None:
    await gcs.create(NAME, b"content", {})
    gcs_server.fail("rewrite", "other_json", body={"done": False})

    with pytest.raises(StoreError, match="finish") as caught:
        await gcs.copy(NAME, "chunks/target")

    assert caught.value.cause == "unexpected"


async def test_creates_share_one_connection(gcs: GcsStore, gcs_server: GcsServer) -> None:
    for n in range(5):
        await gcs.create(f"chunks/{n}", b"", {})

    assert gcs_server.connections == 1


async def test_the_server_verifies_the_checksum_of_an_upload(gcs: GcsStore, gcs_server: GcsServer) -> None:
    gcs_server.fail("insert.*", "corrupt")

    with pytest.raises(StoreError, match="CRC32C") as caught:
        await gcs.create(NAME, b"content", {})

    assert (caught.value.cause, caught.value.status) == ("corrupt", 400)
    assert not gcs_server.objects()


async def test_a_store_that_keeps_other_bytes_is_found_out_and_the_repeat_stores_the_right_ones(
    gcs: GcsStore, gcs_server: GcsServer
) -> None:
    gcs_server.fail("insert.*", "keep_other_bytes")

    with pytest.raises(StoreError) as caught:
        await gcs.create(NAME, b"content", {})
    assert caught.value.cause == "corrupt"
    await gcs.create(NAME, b"content", {})

    assert gcs_server.objects()[NAME].data == b"content"


async def test_read_notices_bytes_damaged_on_the_way(gcs: GcsStore, gcs_server: GcsServer) -> None:
    await gcs.create(NAME, b"content", {})
    gcs_server.fail("download", "corrupt")

    with pytest.raises(StoreError) as caught:
        await gcs.read(NAME)

    assert caught.value.cause == "corrupt"
    assert await gcs.read(NAME) == b"content"


async def test_read_checks_against_the_metadata_when_the_reply_has_no_checksum(
    gcs: GcsStore, gcs_server: GcsServer
) -> None:
    gcs_server.api.send_hashes = False
    await gcs.create(NAME, b"content", {})
    assert await gcs.read(NAME) == b"content"
    gcs_server.fail("download", "corrupt")

    with pytest.raises(StoreError) as caught:
        await gcs.read(NAME)

    assert caught.value.cause == "corrupt"


async def test_read_notices_a_reply_that_ends_early(gcs: GcsStore, gcs_server: GcsServer) -> None:
    await gcs.create(NAME, bytes(MIB), {})
    gcs_server.fail("download", "truncate")

    with pytest.raises(StoreError) as caught:
        await gcs.read(NAME)

    assert caught.value.cause == "network"


@pytest.mark.parametrize("action", ["drop_reply", "stall"])
async def test_a_failed_create_is_not_repeated_by_itself(gcs_server: GcsServer, action: Action) -> None:
    gcs = GcsStore(gcs_server.bucket, emulator_host=gcs_server.url, request_timeout=0.3)
    await gcs.check()  # a kept connection is what libraries like to retry on
    gcs_server.fail("insert.*", action, times=9)

    with pytest.raises(StoreError):
        await gcs.create(NAME, b"content", {})

    assert gcs_server.count("insert.*") == 1
    await gcs.close()


async def test_a_create_whose_reply_was_lost_is_there_when_repeated(gcs: GcsStore, gcs_server: GcsServer) -> None:
    gcs_server.fail("insert.*", "drop_reply")

    with pytest.raises(StoreError) as caught:
        await gcs.create(NAME, b"content", {"first-entry": "1-0"})
    assert caught.value.cause == "network"
    with pytest.raises(ObjectExists):
        await gcs.create(NAME, b"content", {"first-entry": "1-0"})

    info = await gcs.stat(NAME)
    assert info is not None
    assert info.metadata == {"first-entry": "1-0"}


async def test_a_copy_whose_reply_was_lost_is_there_when_repeated(gcs: GcsStore, gcs_server: GcsServer) -> None:
    await gcs.create(NAME, b"content", {})
    gcs_server.fail("rewrite", "drop_reply")

    with pytest.raises(StoreError):
        await gcs.copy(NAME, "chunks/target")
    with pytest.raises(ObjectExists):
        await gcs.copy(NAME, "chunks/target")


async def cancel_create(gcs: GcsStore, gcs_server: GcsServer, data: bytes, stage: Stage) -> None:
    """Begin to create an object, and cancel that when the server has come to this stage."""
    gate = gcs_server.hold("insert.*", stage)
    upload = asyncio.create_task(gcs.create(NAME, data, {}))
    await gate.reached()
    upload.cancel()
    with pytest.raises(asyncio.CancelledError):
        await upload
    gate.open()
    await gcs_server.settled()


async def test_cancelling_a_create_in_the_middle_publishes_nothing(gcs: GcsStore, gcs_server: GcsServer) -> None:
    await cancel_create(gcs, gcs_server, os.urandom(32 * MIB), "request")

    assert gcs_server.aborted == 1
    assert not gcs_server.objects()
    await gcs.create(NAME, b"content", {})


async def test_what_the_server_had_completely_may_be_stored_after_a_cancel_but_never_torn(
    gcs: GcsStore, gcs_server: GcsServer
) -> None:
    data = os.urandom(200_000)

    await cancel_create(gcs, gcs_server, data, "commit")

    assert gcs_server.objects()[NAME].data == data


async def test_list_pages_through_any_number_of_objects_with_their_metadata(
    gcs: GcsStore, gcs_server: GcsServer
) -> None:
    gcs_server.api.max_page = 3
    for n in range(10):
        await gcs.create(f"chunks/{n}", bytes(n), {"n": str(n)})

    infos = [info async for info in gcs.list("chunks/")]

    assert [(info.name, info.size, info.metadata) for info in infos] == [
        (f"chunks/{n}", n, {"n": str(n)}) for n in range(10)
    ]
    assert infos[4].crc32c == google_crc32c.value(bytes(4))
    assert gcs_server.count("list") == 4
    assert gcs_server.count("get") == 0


async def test_a_copy_that_takes_several_requests_is_finished(gcs: GcsStore, gcs_server: GcsServer) -> None:
    await gcs.create(NAME, b"content", {"codec": "opus"})
    gcs_server.api.rewrite_requests = 3

    await gcs.copy(NAME, "chunks/target")

    assert gcs_server.objects()["chunks/target"].metadata == {"codec": "opus"}
    assert gcs_server.count("rewrite") == 3
    assert gcs_server.count("download") == 0


def calls(store: GcsStore) -> dict[str, Callable[[], Awaitable[object]]]:
    async def listing() -> None:
        async for _ in store.list("chunks/"):
            pass

    return {
        "create": lambda: store.create("chunks/new", b"content", {}),
        "stat": lambda: store.stat(NAME),
        "list": listing,
        "read": lambda: store.read(NAME),
        "copy": lambda: store.copy(NAME, "chunks/target"),
        "delete": lambda: store.delete(NAME),
    }


FAULTS = {
    "permission": {"status": 403, "reason": "forbidden", "message": "denied"},
    "unauthorized": {"status": 401, "reason": "authError", "message": "Invalid Credentials"},
    "rate": {"status": 403, "reason": "rateLimitExceeded", "message": "rateLimitExceeded"},
    "throttled": {"status": 429, "reason": "rateLimitExceeded", "message": "slow down", "retry_after": 7},
    "missing-bucket": {"status": 404, "reason": "notFound", "message": "The specified bucket does not exist."},
    "timeout": {"status": 408, "reason": "timeout", "message": "Request Timeout"},
    "request": {"status": 400, "reason": "invalid", "message": "Invalid argument."},
    "server": {"status": 503, "reason": "backendError", "message": "Backend Error"},
    "teapot": {"status": 418, "reason": "teapot", "message": "I'm a teapot"},
}
CAUSES = {"unauthorized": "permission", "rate": "throttled", "teapot": "unexpected"}


@pytest.mark.slow
@pytest.mark.parametrize("call", ["create", "stat", "list", "read", "copy", "delete"])
@pytest.mark.parametrize("fault", FAULTS)
async def test_a_refusal_has_a_cause_a_status_and_the_servers_words(
    gcs: GcsStore, gcs_server: GcsServer, call: str, fault: str
) -> None:
    await gcs.create(NAME, b"content", {})
    details = FAULTS[fault]
    gcs_server.fail("*", "status", **details)

    with pytest.raises(StoreError) as caught:
        await calls(gcs)[call]()

    assert caught.value.cause == CAUSES.get(fault, fault)
    assert caught.value.status == details["status"]
    assert str(details["message"]) in str(caught.value)
    assert caught.value.retry_after == details.get("retry_after")
    await calls(gcs)[call]()


@pytest.mark.parametrize(
    ("refusal", "cause", "advice"),
    [
        ("forbidden", "permission", "grant the service account roles/storage.objectUser on the bucket"),
        ("retention", "held", "release the hold, or try again when the retention period has ended"),
        ("temporary hold", "held", "release the hold"),
        ("event hold", "held", "release the hold"),
        ("billing", "billing", "enable billing for the project"),
        ("closed billing", "billing", "enable billing for the project"),
        ("requester pays", "requester-pays", "turn requester pays off for the bucket"),
        ("no user project", "requester-pays", "turn requester pays off for the bucket"),
    ],
)
@pytest.mark.parametrize("call", ["create", "stat", "list", "read", "copy", "delete"])
async def test_a_refusal_is_explained_by_its_real_cause(
    gcs: GcsStore, gcs_server: GcsServer, call: str, refusal: str, cause: str, advice: str
) -> None:
    await gcs.create(NAME, b"content", {})
    gcs_server.refuse("*", refusal)

    with pytest.raises(StoreError, match=advice) as caught:
        await calls(gcs)[call]()

    assert caught.value.cause == cause
    assert ("objectUser" in str(caught.value)) is (cause == "permission")


async def test_words_of_an_objects_name_are_no_cause(gcs: GcsStore, gcs_server: GcsServer) -> None:
    gcs_server.fail("download", status=403, reason="forbidden", message="No access to chunks/quotaExceeded/x.")

    with pytest.raises(StoreError) as caught:
        await gcs.read("chunks/quotaExceeded/x")

    assert caught.value.cause == "permission"


@pytest.mark.slow
@pytest.mark.parametrize("call", ["create", "stat", "list", "read", "copy", "delete"])
@pytest.mark.parametrize(("action", "cause"), [("reset", "network"), ("stall", "timeout")])
async def test_a_broken_connection_has_a_cause_and_no_status(
    gcs_server: GcsServer, call: str, action: Action, cause: str
) -> None:
    gcs = GcsStore(gcs_server.bucket, emulator_host=gcs_server.url, request_timeout=0.3)
    gcs_server.fail("*", action, times=2)

    with pytest.raises(StoreError) as caught:
        await calls(gcs)[call]()

    assert (caught.value.cause, caught.value.status) == (cause, None)
    await gcs.close()


@pytest.mark.parametrize(
    ("call", "action"),
    [(call, "garbage") for call in ("create", "stat", "list", "copy")]
    + [(call, "other_json") for call in ("create", "stat", "list")],
)
async def test_a_reply_that_is_not_from_cloud_storage_is_unexpected(
    gcs: GcsStore, gcs_server: GcsServer, call: str, action: Action
) -> None:
    await gcs.create(NAME, b"content", {})
    gcs_server.fail("*", action)

    with pytest.raises(StoreError) as caught:
        await calls(gcs)[call]()

    assert caught.value.cause == "unexpected"


async def test_a_reply_that_is_not_even_http_is_a_network_error() -> None:
    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mail.example ESMTP\r\n\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    gcs = GcsStore("bucket-name", emulator_host=f"http://127.0.0.1:{port}")

    with pytest.raises(StoreError) as caught:
        await gcs.check()

    assert (caught.value.cause, caught.value.status) == ("network", None)
    await gcs.close()
    server.close()
    await server.wait_closed()


async def test_a_server_that_is_not_there_is_a_network_error(gcs: GcsStore, gcs_server: GcsServer) -> None:
    await gcs_server.stop()

    with pytest.raises(StoreError) as caught:
        await gcs.check()
    assert caught.value.cause == "network"
    assert not isinstance(caught.value, ObjectMissing)
    await gcs_server.start()

    await gcs.check()


@pytest.mark.parametrize("call", ["create", "stat", "list", "read", "copy", "delete"])
async def test_a_missing_bucket_is_not_taken_for_a_missing_object(gcs_server: GcsServer, call: str) -> None:
    gcs = GcsStore("no-such-bucket", emulator_host=gcs_server.url)

    with pytest.raises(StoreError, match="STORE_URL") as caught:
        await calls(gcs)[call]()

    assert caught.value.cause == "missing-bucket"
    await gcs.close()


async def test_check_says_which_setting_names_a_missing_bucket(gcs_server: GcsServer) -> None:
    gcs = GcsStore("no-such-bucket", emulator_host=gcs_server.url)

    with pytest.raises(SettingsError, match=r"STORE_URL.*gs://no-such-bucket.*create it"):
        await gcs.check()
    await gcs.close()


async def test_check_says_what_to_grant_when_it_is_refused(gcs: GcsStore, gcs_server: GcsServer) -> None:
    gcs_server.fail("*", "status", status=403, reason="forbidden", message="no storage.objects.list access")

    with pytest.raises(SettingsError, match=r"STORE_URL.*no storage.objects.list access.*roles/storage"):
        await gcs.check()


@pytest.mark.parametrize("status", [429, 500, 503])
async def test_check_leaves_passing_trouble_to_be_retried(gcs: GcsStore, gcs_server: GcsServer, status: int) -> None:
    gcs_server.fail("*", "status", status=status)

    with pytest.raises(StoreError):
        await gcs.check()


async def test_a_closed_store_refuses(gcs: GcsStore) -> None:
    await gcs.close()

    with pytest.raises(StoreError) as caught:
        await gcs.create(NAME, b"", {})

    assert caught.value.cause == "closed"


async def test_an_emulator_in_the_environment_is_left_to_the_settings(
    gcs_server: GcsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", "http://127.0.0.1:1")
    gcs = GcsStore(gcs_server.bucket, emulator_host=gcs_server.url)

    await gcs.create(NAME, b"", {})

    assert list(gcs_server.objects()) == [NAME]
    await gcs.close()


async def test_an_object_with_a_damaged_checksum_field_can_still_be_listed(
    gcs: GcsStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    await gcs.create(NAME, b"", {})
    monkeypatch.setattr("tests.support.gcs.objects.crc32c", lambda _: base64.b64encode(b"long").decode() + "!")

    [info] = [info async for info in gcs.list("")]

    assert info.crc32c is None
