"""The Cloud Storage test server is as strict as the real one where tests lean on it."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import aiohttp
import pytest

from tests.support.gcs.objects import crc32c, md5

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.support.gcs.control import GcsClient
    from tests.support.gcs.server import GcsServer

KIB_256 = 256 * 1024


class Http:
    """Raw requests to the server's bucket."""

    def __init__(self, server: GcsServer, session: aiohttp.ClientSession) -> None:
        self._server = server
        self._session = session
        self.objects = f"/storage/v1/b/{server.bucket}/o"
        self.upload = f"/upload/storage/v1/b/{server.bucket}/o"

    async def call(self, method: str, path: str, **options: object) -> tuple[int, bytes, dict[str, str]]:
        url = path if path.startswith("http") else self._server.url + path
        async with self._session.request(method, url, **options) as reply:  # type: ignore[arg-type]
            return reply.status, await reply.read(), dict(reply.headers)

    async def media(self, name: str, data: bytes, *, headers: dict[str, str] | None = None, **query: str) -> int:
        params = {"uploadType": "media", "name": name, **query}
        return (await self.call("POST", self.upload, params=params, data=data, headers=headers))[0]

    async def multipart(self, resource: dict[str, object], data: bytes, **query: str) -> int:
        parts = [(b"application/json", json.dumps(resource).encode()), (b"audio/x", data)]
        body = b"".join(b"--=b=\r\ncontent-type: %s\r\n\r\n%s\r\n" % part for part in parts) + b"--=b=--\r\n"
        headers = {"Content-Type": 'multipart/related; boundary="=b="'}
        params = {"uploadType": "multipart", **query}
        return (await self.call("POST", self.upload, params=params, data=body, headers=headers))[0]

    async def start(self, name: str, **query: str) -> tuple[int, str]:
        params = {"uploadType": "resumable", **query}
        status, _, headers = await self.call("POST", self.upload, params=params, json={"name": name})
        return status, headers.get("Location", "")

    async def resumable(self, name: str, data: bytes, **query: str) -> int:
        status, location = await self.start(name, **query)
        return (await self.call("PUT", location, data=data))[0] if location else status


@pytest.fixture
async def http(gcs_server: GcsServer) -> AsyncIterator[Http]:
    async with aiohttp.ClientSession() as session:
        yield Http(gcs_server, session)


@pytest.mark.parametrize("kind", ["media", "multipart", "resumable"])
async def test_every_kind_of_upload_obeys_create_only(http: Http, gcs_server: GcsServer, kind: str) -> None:
    async def upload(data: bytes) -> int:
        if kind == "multipart":
            return await http.multipart({"name": "a"}, data, ifGenerationMatch="0")
        return await getattr(http, kind)("a", data, ifGenerationMatch="0")  # type: ignore[no-any-return]

    assert await upload(b"first") == 200
    assert await upload(b"second") == 412

    assert gcs_server.objects()["a"].data == b"first"
    assert gcs_server.count(f"insert.{kind}") == 2


async def test_a_resumable_upload_obeys_create_only_when_it_ends_too(http: Http, gcs_server: GcsServer) -> None:
    _, location = await http.start("a", ifGenerationMatch="0")
    await http.media("a", b"meanwhile")

    assert (await http.call("PUT", location, data=b"late"))[0] == 412
    assert gcs_server.objects()["a"].data == b"meanwhile"


async def test_a_resumable_upload_goes_in_chunks_and_can_be_asked_for_its_progress(
    http: Http, gcs_server: GcsServer
) -> None:
    data = bytes(range(256)) * 1024 + b"tail"
    _, location = await http.start("a")

    async def put(chunk: bytes, span: str) -> tuple[int, str | None]:
        status, _, headers = await http.call("PUT", location, data=chunk, headers={"Content-Range": f"bytes {span}"})
        return status, headers.get("Range")

    assert await put(b"", "*/*") == (308, None)
    assert (await put(data[:1000], "0-999/*"))[0] == 400
    assert await put(data[:KIB_256], f"0-{KIB_256 - 1}/*") == (308, f"bytes=0-{KIB_256 - 1}")
    assert (await put(b"tail", "5-8/9"))[0] == 400
    assert not gcs_server.objects()
    assert (await put(data[KIB_256:], f"{KIB_256}-{len(data) - 1}/{len(data)}"))[0] == 200
    assert gcs_server.objects()["a"].data == data
    assert (await put(b"", f"*/{len(data)}"))[0] == 200


@pytest.mark.parametrize("key", ["crc32c", "md5Hash"])
async def test_an_upload_whose_checksum_differs_is_refused(http: Http, gcs_server: GcsServer, key: str) -> None:
    right = {"crc32c": crc32c, "md5Hash": md5}[key]

    assert await http.multipart({"name": "a", key: right(b"other")}, b"data") == 400
    assert not gcs_server.objects()
    assert await http.multipart({"name": "a", key: right(b"data")}, b"data") == 200


async def test_a_checksum_in_a_header_is_verified_too(http: Http) -> None:
    assert await http.media("a", b"data", headers={"X-Goog-Hash": f"crc32c={crc32c(b'other')}"}) == 400
    assert await http.media("a", b"data", headers={"X-Goog-Hash": f"crc32c={crc32c(b'data')}"}) == 200


@pytest.mark.parametrize("body", [b"", b"--b\r\n\r\n--b--", b"--b\r\ncontent-type: a/b\r\n\r\n{}\r\n--b--"])
async def test_a_malformed_multipart_body_is_refused(http: Http, body: bytes) -> None:
    headers = {"Content-Type": "multipart/related; boundary=b"}
    params = {"uploadType": "multipart", "name": "a"}

    assert (await http.call("POST", http.upload, params=params, data=body, headers=headers))[0] == 400


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ({"ifGenerationMatch": "1"}, 412),
        ({"ifGenerationNotMatch": "{generation}"}, 412),
        ({"ifMetagenerationMatch": "2"}, 412),
        ({"ifMetagenerationNotMatch": "1"}, 412),
        ({"generation": "1"}, 404),
        ({"ifGenerationMatch": "{generation}", "ifMetagenerationMatch": "1"}, 204),
    ],
)
async def test_preconditions_hold_for_deletes(
    http: Http, gcs_server: GcsServer, query: dict[str, str], status: int
) -> None:
    await http.media("a", b"data")
    generation = str(gcs_server.objects()["a"].generation)
    params = {key: value.format(generation=generation) for key, value in query.items()}

    assert (await http.call("DELETE", f"{http.objects}/a", params=params))[0] == status
    assert ("a" in gcs_server.objects()) == (status != 204)


@pytest.mark.parametrize("verb", ["copyTo", "rewriteTo"])
async def test_copies_obey_preconditions_on_both_ends_and_keep_or_replace_metadata(
    http: Http, gcs_server: GcsServer, verb: str
) -> None:
    await http.multipart({"name": "a", "metadata": {"k": "v"}}, b"data")
    path = f"{http.objects}/a/{verb}/b/{gcs_server.bucket}/o"

    assert (await http.call("POST", f"{path}/b", params={"ifSourceGenerationMatch": "1"}))[0] == 412
    assert (await http.call("POST", f"{path}/b", params={"ifGenerationMatch": "0"}))[0] == 200
    assert (await http.call("POST", f"{path}/b", params={"ifGenerationMatch": "0"}))[0] == 412
    assert (await http.call("POST", f"{path}/c", json={"metadata": {"new": "1"}}))[0] == 200

    copied = gcs_server.objects()
    assert copied["b"].metadata == {"k": "v"}
    assert copied["b"].resource()["contentType"] == "audio/x"
    assert copied["c"].metadata == {"new": "1"}


async def test_list_knows_prefixes_delimiters_pages_and_fields(http: Http) -> None:
    for name in ("a/1", "a/2", "a/b/1", "a/b/2", "a/c", "b"):
        await http.media(name, b"x")

    async def page(**params: str) -> dict[str, object]:
        return dict(json.loads((await http.call("GET", http.objects, params=params))[1]))

    first = await page(prefix="a/", delimiter="/", maxResults="3", fields="items(name),prefixes,nextPageToken")
    token = str(first.pop("nextPageToken"))
    assert first == {"items": [{"name": "a/1"}, {"name": "a/2"}], "prefixes": ["a/b/"]}
    second = await page(prefix="a/", delimiter="/", pageToken=token, fields="items/name,prefixes,nextPageToken")
    assert second == {"items": [{"name": "a/c"}]}
    assert await page(prefix="none") == {"kind": "storage#objects"}


@pytest.mark.parametrize(
    ("header", "status", "data", "span"),
    [
        ("bytes=0-3", 206, b"0123", "bytes 0-3/10"),
        ("bytes=7-", 206, b"789", "bytes 7-9/10"),
        ("bytes=-2", 206, b"89", "bytes 8-9/10"),
        ("bytes=5-99", 206, b"56789", "bytes 5-9/10"),
        ("bytes=10-", 416, None, None),
        ("lines=1-2", 200, b"0123456789", None),
    ],
)
async def test_a_download_has_its_checksums_and_may_be_a_range(
    http: Http, header: str, status: int, data: bytes | None, span: str | None
) -> None:
    await http.media("a", b"0123456789")

    got, body, headers = await http.call("GET", f"/download{http.objects}/a?alt=media", headers={"Range": header})

    assert (got, headers.get("Content-Range")) == (status, span)
    if data is not None:
        assert body == data
        assert headers["x-goog-hash"] == f"crc32c={crc32c(b'0123456789')},md5={md5(b'0123456789')}"


async def test_a_name_that_is_not_percent_encoded_is_another_path(http: Http) -> None:
    await http.media("a/b", b"data")

    assert (await http.call("GET", f"{http.objects}/a/b"))[0] == 404
    assert (await http.call("GET", f"{http.objects}/a%2Fb"))[0] == 200


async def test_an_error_looks_like_the_json_apis(http: Http) -> None:
    status, body, _ = await http.call("GET", f"{http.objects}/absent")

    assert status == 404
    assert json.loads(body)["error"]["errors"][0]["reason"] == "notFound"
    assert json.loads(body)["error"]["message"] == "No such object: test-bucket/absent"


async def test_a_bucket_can_be_made_looked_at_and_removed(http: Http) -> None:
    assert (await http.call("POST", "/storage/v1/b", json={"name": "new"}))[0] == 200
    assert (await http.call("POST", "/storage/v1/b", json={"name": "new"}))[0] == 409
    assert (await http.call("GET", "/storage/v1/b/new"))[0] == 200
    assert (await http.call("DELETE", "/storage/v1/b/new"))[0] == 204
    assert (await http.call("GET", "/storage/v1/b/new"))[0] == 404


async def test_a_patch_merges_metadata(http: Http, gcs_server: GcsServer) -> None:
    await http.multipart({"name": "a", "metadata": {"keep": "1", "drop": "1"}}, b"data")

    patch = {"metadata": {"drop": None, "add": "1"}}
    assert (await http.call("PATCH", f"{http.objects}/a", json=patch))[0] == 200

    assert gcs_server.objects()["a"].metadata == {"keep": "1", "add": "1"}
    assert gcs_server.objects()["a"].metageneration == 2


async def test_operations_are_counted_by_class(http: Http, gcs_server: GcsServer) -> None:
    await http.media("a", b"data")
    await http.resumable("b", b"data")
    await http.call("GET", http.objects)
    await http.call("GET", f"{http.objects}/a")
    await http.call("GET", f"{http.objects}/a?alt=media")
    await http.call("DELETE", f"{http.objects}/a")
    await http.call("GET", "/somewhere/else")

    counts = gcs_server.counts()
    assert counts.pop("kinds") == {
        "insert.media": 1,
        "insert.resumable": 1,
        "upload.chunk": 1,
        "list": 1,
        "get": 1,
        "download": 1,
        "delete": 1,
        "unknown": 1,
    }
    assert counts == {"class_a": 3, "class_b": 2, "look_ups": 2, "unknown": 1, "aborted": 0}


async def test_a_fault_is_spent_on_the_requests_it_names(http: Http, gcs_server: GcsServer) -> None:
    fault = gcs_server.fail("insert.*", times=2, name="b*", status=503, retry_after=3)

    assert await http.media("a", b"") == 200
    assert [await http.media("b", b"") for _ in range(3)] == [503, 503, 200]
    assert fault.hits == 2


async def test_a_description_may_be_wrong_of_an_object_that_is_right(http: Http, gcs_server: GcsServer) -> None:
    gcs_server.fail("get", "misdescribe", changes={"size": "3"})
    await http.media("a", b"data")

    sizes = [json.loads((await http.call("GET", f"{http.objects}/a"))[1])["size"] for _ in range(2)]

    assert sizes == ["3", "4"]
    assert gcs_server.objects()["a"].data == b"data"


async def test_a_server_that_stops_comes_back_on_its_port_with_its_objects(http: Http, gcs_server: GcsServer) -> None:
    await http.media("a", b"data")
    await gcs_server.stop()
    with pytest.raises(aiohttp.ClientError):
        await http.media("b", b"data")

    await gcs_server.start()

    assert await http.media("b", b"data") == 200
    assert sorted(gcs_server.objects()) == ["a", "b"]


async def test_a_server_in_its_own_process_is_steered_over_http(gcs_process: GcsClient) -> None:
    upload = f"{gcs_process.url}/upload/storage/v1/b/{gcs_process.bucket}/o?uploadType=media&name=a"
    await gcs_process.fail("insert.*", "status", status=429)
    gate = await gcs_process.hold("insert.*", "commit")
    async with aiohttp.ClientSession() as session:
        async with session.post(upload, data=b"data") as reply:
            assert reply.status == 429
        held = asyncio.create_task(session.post(upload, data=b"data"))
        await gcs_process.reached(gate)
        assert await gcs_process.objects() == {}
        await gcs_process.open(gate)
        async with await held as reply:
            assert reply.status == 200

    assert (await gcs_process.objects())["a"]["size"] == "4"
    assert await gcs_process.data("a") == b"data"
    await gcs_process.clear_faults()
    assert await gcs_process.fault_hits() == {"status": 1}
    assert (await gcs_process.counts())["class_a"] == 2
    await gcs_process.clear_counts()
    assert (await gcs_process.counts())["class_a"] == 0
    await gcs_process.set(max_page=1)
    with pytest.raises(aiohttp.ClientResponseError):
        await gcs_process.set(nonsense=1)
