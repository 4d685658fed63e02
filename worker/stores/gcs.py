"""Blobs in a Google Cloud Storage bucket, over its JSON API by gcloud-aio-storage."""

from __future__ import annotations

import base64
import binascii
import io
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import aiohttp
import google_crc32c
from gcloud.aio.storage import Storage

from worker.errors import ObjectExists, ObjectMissing, SettingsError, StoreError
from worker.stores import BlobInfo
from worker.stores.gcs_credentials import Credentials
from worker.stores.gcs_errors import translated

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping

API_ROOT = "https://storage.googleapis.com"
CONTENT_TYPE = "application/octet-stream"
CONNECT_TIMEOUT = 10.0  # seconds for TCP and TLS
REQUEST_TIMEOUT = 60.0  # seconds for a whole request: 8 MiB of PCM at 150 kB/s
CREATE_ONLY = {"ifGenerationMatch": "0"}
LIST_FIELDS = "nextPageToken,items(name,size,crc32c,generation,metadata)"
CHECK_REFUSED = ("permission", "missing-bucket", "request")


class GcsStore:
    """A `worker.stores.Store` in one bucket; no call is repeated here, retrying is the caller's.

    A create is one request of known length that carries its CRC32C. Cancelling it drops the connection, so that
    the server has either the whole object or nothing.

    Args:
        bucket: its name, without gs://.
        prefix: put before all names with a "/" between; may be empty.
        emulator_host: `http://host:port` of an emulator, which is spoken to without credentials.
        request_timeout: seconds for one request, connecting included.
    """

    def __init__(
        self,
        bucket: str,
        prefix: str = "",
        *,
        emulator_host: str | None = None,
        request_timeout: float = REQUEST_TIMEOUT,
    ) -> None:
        self._bucket = bucket
        self._prefix = f"{prefix.strip('/')}/" if prefix.strip("/") else ""
        self._emulator_host = emulator_host
        # The library's annotations say seconds, but it passes a whole timeout on as it is.
        self._timeout: Any = aiohttp.ClientTimeout(total=request_timeout, connect=CONNECT_TIMEOUT)
        self._session: aiohttp.ClientSession | None = None
        self._credentials: Credentials | None = None
        self._storage: Storage | None = None
        self._closed = False

    async def create(self, name: str, data: bytes, metadata: Mapping[str, str]) -> None:
        """See `Store.create`: one request, one Class A operation."""
        checksum = google_crc32c.value(data)
        with self._request(f"storing {name}", exists=name):
            stored = await self._client().upload(
                self._bucket,
                self._prefix + name,
                data,
                content_type=CONTENT_TYPE,
                parameters=dict(CREATE_ONLY),
                metadata={"crc32c": _encode_crc32c(checksum), "metadata": dict(metadata)},
                force_resumable_upload=False,
                timeout=self._timeout,
            )
        if _crc32c_of(_described(stored)) not in (None, checksum):
            await self._discard(name, stored)

    async def stat(self, name: str) -> BlobInfo | None:
        """See `Store.stat`."""
        try:
            with self._request(f"looking up {name}", missing=name):
                resource = await self._client().download_metadata(
                    self._bucket, self._prefix + name, timeout=self._timeout
                )
        except ObjectMissing:
            return None
        return self._info(_described(resource))

    async def list(self, prefix: str, *, after: str = "") -> AsyncIterator[BlobInfo]:
        """See `Store.list`: a request per thousand objects."""
        token = ""
        while True:
            page = await self._page(prefix, after, token)
            for resource in page.get("items", []):
                info = self._info(resource)
                if info.name != after:  # where the listing starts is in it
                    yield info
            token = page.get("nextPageToken", "")
            if not token:
                return

    async def read(self, name: str) -> bytes:
        """See `Store.read`."""
        with self._request(f"reading {name}", missing=name):
            # Asked for as it is: decompressed on the way it would not fit its checksum.
            response = await self._client().download_stream(
                self._bucket, self._prefix + name, headers={"Accept-Encoding": "identity"}, timeout=self._timeout
            )
            async with response as reply:
                data: bytes = await reply.read()
                expected = _crc32c_in(reply.headers.getall("x-goog-hash", []))
        if expected is None:
            info = await self.stat(name)
            expected = info.crc32c if info else None
        if expected not in (None, google_crc32c.value(data)):
            raise StoreError(f"reading {name}: its bytes do not fit its CRC32C", cause="corrupt")
        return data

    async def copy(self, source: str, target: str, metadata: Mapping[str, str] | None = None) -> None:
        """See `Store.copy`: inside Cloud Storage, in one request unless the bucket's classes or locations differ."""
        resource = None if metadata is None else {"contentType": CONTENT_TYPE, "metadata": dict(metadata)}
        with self._request(f"copying {source} to {target}", missing=source, exists=target):
            reply = await self._client().copy(
                self._bucket,
                self._prefix + source,
                self._bucket,
                new_name=self._prefix + target,
                metadata=resource,
                params=dict(CREATE_ONLY),
                timeout=self._timeout,
            )
        if not _described(reply).get("done"):
            raise StoreError(f"copying {source} to {target}: the store did not finish", cause="unexpected")

    async def delete(self, name: str, generation: str | None = None) -> bool:
        """See `Store.delete`."""
        params = {} if generation is None else {"ifGenerationMatch": generation}
        try:
            with self._request(f"deleting {name}", missing=name, exists=name):
                await self._client().delete(self._bucket, self._prefix + name, params=params, timeout=self._timeout)
        except (ObjectMissing, ObjectExists):  # none, or another generation
            return False
        return True

    async def check(self) -> None:
        """See `Store.check`: lists one object, because reading the bucket itself takes a right that workers lack."""
        try:
            with self._request(f"opening gs://{self._bucket}"):
                await self._client().list_objects(
                    self._bucket,
                    params={"prefix": self._prefix, "maxResults": "1", "fields": "nextPageToken"},
                    timeout=self._timeout,
                )
        except StoreError as error:
            if error.cause in CHECK_REFUSED:
                raise SettingsError(f"STORE_URL: {error}") from error
            raise

    async def close(self) -> None:
        """See `Store.close`; calls made afterwards raise `StoreError`."""
        self._closed = True
        if self._credentials is not None:
            await self._credentials.close()
        if self._session is not None:
            await self._session.close()

    def _client(self) -> Storage:
        if self._closed:
            raise StoreError("the store is closed", cause="closed")
        if self._storage is None:
            self._storage = self._connect()
        return self._storage

    def _connect(self) -> Storage:
        # Made on first use, inside the event loop. Callers bound their own concurrency, so the connector does not.
        self._session = self._session or aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))
        session: Any = self._session  # the library's type of it depends on what else is installed
        if self._emulator_host is not None:
            # An empty credentials document keeps the library from looking for real ones.
            return Storage(session=session, api_root=_api_root(self._emulator_host), service_file=io.StringIO("{}"))
        self._credentials = Credentials(self._session)
        # Naming the root keeps the library from reading STORAGE_EMULATOR_HOST behind our settings' back.
        return Storage(session=session, token=self._credentials, api_root=API_ROOT, api_is_dev=False)

    @contextmanager
    def _request(self, doing: str, *, missing: str | None = None, exists: str | None = None) -> Iterator[None]:
        try:
            with translated(doing, missing=missing, exists=exists):
                yield
        except StoreError as error:
            if error.status == 401 and self._credentials is not None:
                self._credentials.forget()
            raise

    async def _page(self, prefix: str, start: str, token: str) -> dict[str, Any]:
        params = {"prefix": self._prefix + prefix, "projection": "noAcl", "fields": LIST_FIELDS}
        if start:
            params["startOffset"] = self._prefix + start
        if token:
            params["pageToken"] = token
        with self._request(f"listing {prefix}"):
            return _described(await self._client().list_objects(self._bucket, params=params, timeout=self._timeout))

    def _info(self, resource: Mapping[str, Any]) -> BlobInfo:
        try:
            return BlobInfo(
                name=resource["name"].removeprefix(self._prefix),
                size=int(resource["size"]),
                metadata=dict(resource.get("metadata", {})),
                crc32c=_crc32c_of(resource),
                generation=str(resource.get("generation", "")),
            )
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            raise StoreError("the store describes an object in an unknown form", cause="unexpected") from error

    async def _discard(self, name: str, stored: Mapping[str, Any]) -> None:
        # The server took the upload and keeps other bytes: remove exactly these, so that a repeat can succeed.
        with self._request(f"discarding {name}", missing=name):
            await self._client().delete(
                self._bucket,
                self._prefix + name,
                params={"ifGenerationMatch": str(stored.get("generation"))},
                timeout=self._timeout,
            )
        raise StoreError(f"storing {name}: the store kept other bytes than it was sent", cause="corrupt")


def _api_root(host: str) -> str:
    return (host if "://" in host else f"http://{host}").rstrip("/")


def _described(reply: object) -> dict[str, Any]:
    if not isinstance(reply, dict):
        raise StoreError("the store's reply is JSON but no description", cause="unexpected")
    return reply


def _encode_crc32c(value: int) -> str:
    """Base64 of the big-endian number, as the object resource's `crc32c` has it."""
    return base64.b64encode(value.to_bytes(4, "big")).decode()


def _decode_crc32c(text: str) -> int | None:
    try:
        return int.from_bytes(base64.b64decode(text, validate=True), "big")
    except binascii.Error:
        return None


def _crc32c_of(resource: Mapping[str, Any]) -> int | None:
    text = resource.get("crc32c")
    return _decode_crc32c(text) if isinstance(text, str) else None


def _crc32c_in(hashes: list[str]) -> int | None:
    """The checksum in `x-goog-hash: crc32c=…,md5=…`, in one header or in several."""
    for part in ",".join(hashes).split(","):
        kind, _, value = part.strip().partition("=")
        if kind == "crc32c":
            return _decode_crc32c(value)
    return None
