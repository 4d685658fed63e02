"""Blobs in a Google Cloud Storage bucket, over its JSON API by gcloud-aio-storage."""

from __future__ import annotations

import io
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NoReturn

import aiohttp
import google_crc32c
from gcloud.aio.storage import Storage

from worker.errors import ObjectExists, ObjectMissing, SettingsError, StoreError
from worker.model.causes import StoreCause
from worker.stores.gcs_answers import copy_in, crc32c_in, encode_crc32c, folders_in, object_in, page_in, unexpected
from worker.stores.gcs_credentials import Credentials
from worker.stores.gcs_errors import translated
from worker.stores.gcs_http_session import open_session

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping, Sequence

    from worker.stores.base import BlobInfo

API_ROOT = "https://storage.googleapis.com"
CONTENT_TYPE = "application/octet-stream"
CONNECT_TIMEOUT = 10.0  # seconds for TCP and TLS
REQUEST_TIMEOUT = 60.0  # seconds for a whole request: 8 MiB of PCM at 150 kB/s
CREATE_ONLY = {"ifGenerationMatch": "0"}
LIST_FIELDS = "kind,nextPageToken,items(name,size,crc32c,generation,metadata)"
FOLDER_FIELDS = "kind,nextPageToken,prefixes"
CHECK_REFUSED = (
    StoreCause.PERMISSION,
    StoreCause.MISSING_BUCKET,
    StoreCause.REQUEST,
    StoreCause.BILLING,
    StoreCause.REQUESTER_PAYS,
)


class GcsStore:
    """A `worker.stores.base.Store` in one bucket; it never repeats a call, because the caller retries.

    A create is one request of known length that carries its CRC32C. Cancelling it drops the connection, so that
    the server has either the whole object or nothing.

    Args:
        bucket: its name, without gs://.
        prefix: put before all names with a "/" between; may be empty.
        emulator_host: `http://host:port` of an emulator, which gets no credentials.
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
        # The library's annotations say seconds, but it passes a timeout object on unchanged.
        self._timeout: Any = aiohttp.ClientTimeout(total=request_timeout, connect=CONNECT_TIMEOUT)
        self._session: aiohttp.ClientSession | None = None
        self._credentials: Credentials | None = None
        self._storage: Storage | None = None
        self._closed = False

    async def create(self, name: str, data: bytes, metadata: Mapping[str, str]) -> None:
        """See `Store.create`: one request, one Class A operation."""
        doing, checksum = f"storing {name}", google_crc32c.value(data)
        with self._request(doing, exists=name):
            answer = await self._client().upload(
                self._bucket,
                self._prefix + name,
                data,
                content_type=CONTENT_TYPE,
                parameters=dict(CREATE_ONLY),
                metadata={"crc32c": encode_crc32c(checksum), "metadata": dict(metadata)},
                force_resumable_upload=False,
                timeout=self._timeout,
            )
        stored = object_in(answer, self._bucket, self._prefix + name, doing)
        if stored.crc32c is None:
            raise unexpected(doing, answer)
        if (stored.size, stored.crc32c) != (len(data), checksum):
            await self._refuse(name, data, stored.generation)

    async def stat(self, name: str) -> BlobInfo | None:
        """See `Store.stat`."""
        doing = f"looking up {name}"
        try:
            with self._request(doing, missing=name):
                answer = await self._client().download_metadata(
                    self._bucket, self._prefix + name, timeout=self._timeout
                )
        except ObjectMissing:
            return None
        return replace(object_in(answer, self._bucket, self._prefix + name, doing), name=name)

    async def list(self, prefix: str, *, after: str = "") -> AsyncIterator[BlobInfo]:
        """See `Store.list`: a request per thousand objects."""
        token = ""
        while True:
            infos, token = await self._page(prefix, after, token)
            for info in infos:
                name = info.name.removeprefix(self._prefix)
                if name != after:  # the listing includes its start
                    yield replace(info, name=name)
            if not token:
                return

    async def folders(self, prefix: str) -> AsyncIterator[str]:
        """See `Store.folders`: a request per thousand folders, whatever is in them."""
        doing, start, token = f"listing the folders of {prefix}", self._prefix + prefix, ""
        params = {"prefix": start, "delimiter": "/", "fields": FOLDER_FIELDS}
        while True:
            if token:
                params["pageToken"] = token
            with self._request(doing):
                answer = await self._client().list_objects(self._bucket, params=params, timeout=self._timeout)
            found, token = folders_in(answer, start, doing)
            for folder in found:
                yield folder.removeprefix(self._prefix)
            if not token:
                return

    async def read(self, name: str) -> bytes:
        """See `Store.read`."""
        with self._request(f"reading {name}", missing=name):
            # Without decompression on the way: a decompressed object would not fit its checksum.
            response = await self._client().download_stream(
                self._bucket, self._prefix + name, headers={"Accept-Encoding": "identity"}, timeout=self._timeout
            )
            async with response as reply:
                data: bytes = await reply.read()
                expected = crc32c_in(reply.headers.getall("x-goog-hash", []))
        if expected is None:
            info = await self.stat(name)
            expected = info.crc32c if info else None
        if expected not in (None, google_crc32c.value(data)):
            raise StoreError(f"reading {name}: its bytes do not fit its CRC32C", cause=StoreCause.CORRUPT)
        return data

    async def copy(self, source: str, target: str, metadata: Mapping[str, str] | None = None) -> None:
        """See `Store.copy`: inside Cloud Storage, in one request unless the bucket's classes or locations differ."""
        doing = f"copying {source} to {target}"
        resource = None if metadata is None else {"contentType": CONTENT_TYPE, "metadata": dict(metadata)}
        with self._request(doing, missing=source, exists=target):
            answer = await self._client().copy(
                self._bucket,
                self._prefix + source,
                self._bucket,
                new_name=self._prefix + target,
                metadata=resource,
                params=dict(CREATE_ONLY),
                timeout=self._timeout,
            )
        copy_in(answer, self._bucket, self._prefix + target, doing)

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
        """See `Store.check`: lists one object, because reading the bucket itself needs a right that workers lack."""
        doing = f"opening gs://{self._bucket}"
        try:
            with self._request(doing):
                answer = await self._client().list_objects(
                    self._bucket,
                    params={"prefix": self._prefix, "maxResults": "1", "fields": "kind,nextPageToken"},
                    timeout=self._timeout,
                )
            page_in(answer, self._bucket, self._prefix, doing)
        except StoreError as error:
            if error.cause in CHECK_REFUSED:
                raise SettingsError(f"STORE_URL: {error}") from error
            raise

    async def identity(self) -> str:
        """See `Store.identity`: empty, because a bucket's name is its id."""
        return ""

    async def close(self) -> None:
        """See `Store.close`; calls made afterwards raise `StoreError`."""
        self._closed = True
        if self._credentials is not None:
            await self._credentials.close()
        if self._session is not None:
            await self._session.close()

    def _client(self) -> Storage:
        if self._closed:
            raise StoreError("the store is closed", cause=StoreCause.CLOSED)
        if self._storage is None:
            self._storage = self._connect()
        return self._storage

    def _connect(self) -> Storage:
        # Made on first use, inside the event loop.
        self._session = self._session or open_session()
        session: Any = self._session  # its type in the library depends on other installed packages
        if self._emulator_host is not None:
            # An empty credentials document keeps the library from looking for real ones.
            return Storage(session=session, api_root=_api_root(self._emulator_host), service_file=io.StringIO("{}"))
        self._credentials = Credentials(self._session)
        # With a given root the library does not read STORAGE_EMULATOR_HOST, which is one of our settings.
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

    async def _page(self, prefix: str, start: str, token: str) -> tuple[Sequence[BlobInfo], str]:
        params = {"prefix": self._prefix + prefix, "projection": "noAcl", "fields": LIST_FIELDS}
        if start:
            params["startOffset"] = self._prefix + start
        if token:
            params["pageToken"] = token
        doing = f"listing {prefix}"
        with self._request(doing):
            answer = await self._client().list_objects(self._bucket, params=params, timeout=self._timeout)
        return page_in(answer, self._bucket, self._prefix + prefix, doing)

    async def _refuse(self, name: str, data: bytes, generation: str) -> NoReturn:
        """Raise because an upload was described as other bytes; remove what is there if it is indeed other bytes.

        The description alone does not tell: another worker may have found the object meanwhile, seen that it is right,
        and let go of its audio in Redis. If it is right, a retry finds it.
        """
        found = "kept other bytes than it was sent"
        try:
            if await self.read(name) == data:
                found = "described other bytes than it was sent, and kept the right ones"
            else:
                await self.delete(name, generation)  # exactly these bytes, so that a retry can succeed
        except Exception as error:  # noqa: BLE001 -- with any error, the audio is not stored
            found += f" and they are still there ({type(error).__name__}: {error})"
        raise StoreError(f"storing {name}: the store {found}", cause=StoreCause.CORRUPT)


def _api_root(host: str) -> str:
    return (host if "://" in host else f"http://{host}").rstrip("/")
