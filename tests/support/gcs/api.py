"""The JSON API of the Cloud Storage test server: which call a request is, and what it does to the buckets."""

from __future__ import annotations

import re
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote

from tests.support.gcs.objects import MAX_PAGE, ApiError, Buckets, StoredObject, check_preconditions
from tests.support.gcs.wire import content_range, parse_json, requested_range, select, split_multipart, sums

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

BUCKET = r"/storage/v1/b/(?P<bucket>[^/]+)"
OBJECT = rf"{BUCKET}/o/(?P<name>[^/]+)"
TARGET = r"b/(?P<to_bucket>[^/]+)/o/(?P<to_name>[^/]+)"
ROUTES = [
    (method, re.compile(pattern), kind)
    for method, pattern, kind in (
        ("GET", "/storage/v1/b", "buckets.list"),
        ("POST", "/storage/v1/b", "buckets.insert"),
        ("GET", BUCKET, "buckets.get"),
        ("DELETE", BUCKET, "buckets.delete"),
        ("GET", f"{BUCKET}/o", "list"),
        ("GET", OBJECT, "get"),
        ("GET", f"/download{OBJECT}", "download"),
        ("PATCH", OBJECT, "patch"),
        ("DELETE", OBJECT, "delete"),
        ("POST", f"{OBJECT}/rewriteTo/{TARGET}", "rewrite"),
        ("POST", f"{OBJECT}/copyTo/{TARGET}", "copy"),
        ("POST", f"(/resumable)?/upload{BUCKET}/o", "insert"),
        ("PUT", f"(/resumable)?/upload{BUCKET}/o", "upload.chunk"),
        ("DELETE", f"(/resumable)?/upload{BUCKET}/o", "upload.cancel"),
        ("POST", "/token", "token"),
    )
]
# https://cloud.google.com/storage/pricing#operations-by-class; deletes are free, chunks belong to their insert
CLASS_A = ("insert.*", "list", "copy", "rewrite", "patch", "buckets.insert", "buckets.list")
CLASS_B = ("get", "download", "buckets.get")
LOOK_UPS = ("get", "list", "buckets.get")
CHUNK_MULTIPLE = 256 * 1024


@dataclass
class Call:
    """One request: its kind as in `ROUTES` (uploads with their type), what it is about, and what it brought."""

    kind: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    bucket: str = ""
    name: str = ""
    to_bucket: str = ""
    to_name: str = ""
    resource: Mapping[str, Any] = field(default_factory=dict)
    data: bytes = b""

    @classmethod
    def classify(cls, method: str, raw_path: str, query: Mapping[str, str], headers: Mapping[str, str]) -> Call:
        """Names are percent-encoded in one path segment each; a plain "/" in one makes it another, unknown path."""
        for wanted, pattern, kind in ROUTES:
            match = pattern.fullmatch(raw_path.partition("?")[0])
            if match and wanted == method:
                call = cls(_full_kind(kind, query), query, headers, name=query.get("name", ""))
                for key, value in match.groupdict().items():
                    setattr(call, key, unquote(value, errors="strict"))
                return call
        return cls("unknown", query, headers)

    def take(self, body: bytes) -> None:
        """Split the body into resource and data."""
        if self.kind == "insert.multipart":
            self.resource, self.data, content_type = split_multipart(self.headers.get("Content-Type", ""), body)
            self.resource = {"contentType": content_type, **self.resource}
        elif self.kind in ("insert.media", "upload.chunk"):
            self.resource, self.data = {"contentType": self.headers.get("Content-Type")}, body
        elif self.kind != "token":
            self.resource = parse_json(body)
        self.name = self.name or str(self.resource.get("name", ""))


@dataclass
class Reply:
    status: int = 200
    json: Mapping[str, Any] | None = None
    data: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class Session:
    """A resumable upload."""

    call: Call
    received: bytearray = field(default_factory=bytearray)
    stored: StoredObject | None = None


class Api:
    """Performs calls; errors are `ApiError`."""

    def __init__(self, buckets: Buckets) -> None:
        self.buckets = buckets
        self.max_page = MAX_PAGE
        self.rewrite_requests = 1  # requests that one rewrite takes, as for objects copied between locations
        self.send_hashes = True  # x-goog-hash with downloads
        self.access_token: str | None = None  # demanded of every call when set; POST /token hands it out
        self.token_reply: dict[str, Any] = {}  # in place of the usual one
        self._sessions: dict[str, Session] = {}
        self._rewrites: dict[str, int] = {}

    def perform(self, call: Call, base_url: str) -> Reply:
        handlers: dict[str, Callable[[Call], Reply]] = {
            "buckets.list": lambda _: Reply(json={"items": [_bucket(name) for name in self.buckets]}),
            "buckets.insert": self._insert_bucket,
            "buckets.get": self._get_bucket,
            "buckets.delete": self._delete_bucket,
            "list": self._list,
            "get": lambda call: Reply(json=self.buckets.get(call.bucket, call.name, call.query).resource()),
            "download": self._download,
            "patch": self._patch,
            "delete": self._delete,
            "rewrite": self._rewrite,
            "copy": lambda call: Reply(json=self._copied(call).resource()),
            "insert.media": self._insert,
            "insert.multipart": self._insert,
            "insert.resumable": lambda call: self._start(call, base_url),
            "upload.chunk": self._chunk,
            "upload.cancel": self._cancel,
            "token": self._token,
        }
        if call.kind not in handlers:
            raise ApiError(404, "notFound", "Not Found")
        if self.access_token and call.kind != "token" and not self._authorized(call):
            raise ApiError(401, "authError", "Invalid Credentials")
        reply = handlers[call.kind](call)
        if reply.json is not None and "fields" in call.query:
            reply.json = select(reply.json, call.query["fields"])
        return reply

    def _authorized(self, call: Call) -> bool:
        return call.headers.get("Authorization") == f"Bearer {self.access_token}"

    def _token(self, _: Call) -> Reply:
        return Reply(json=self.token_reply or {"access_token": self.access_token, "expires_in": 3600})

    def _insert_bucket(self, call: Call) -> Reply:
        name = str(call.resource.get("name", ""))
        self.buckets.add_bucket(name)
        return Reply(json=_bucket(name))

    def _get_bucket(self, call: Call) -> Reply:
        self.buckets.objects(call.bucket)
        return Reply(json=_bucket(call.bucket))

    def _delete_bucket(self, call: Call) -> Reply:
        self.buckets.remove_bucket(call.bucket)
        return Reply(status=204)

    def _list(self, call: Call) -> Reply:
        page = self.buckets.list(call.bucket, call.query, self.max_page)
        body: dict[str, Any] = {"kind": "storage#objects"}
        if page.items:
            body["items"] = [item.resource() for item in page.items]
        if page.prefixes:
            body["prefixes"] = page.prefixes
        if page.next_token:
            body["nextPageToken"] = page.next_token
        return Reply(json=body)

    def _download(self, call: Call) -> Reply:
        found = self.buckets.get(call.bucket, call.name, call.query)
        headers = {
            "Content-Type": found.settable.get("contentType", "application/octet-stream"),
            **({"x-goog-hash": f"crc32c={found.crc32c},md5={found.md5}"} if self.send_hashes else {}),
            "x-goog-generation": str(found.generation),
            "x-goog-metageneration": str(found.metageneration),
            "x-goog-stored-content-length": str(len(found.data)),
            "x-goog-stored-content-encoding": "identity",
        }
        span = requested_range(call.headers.get("Range"), len(found.data))
        if span is None:
            return Reply(data=found.data, headers=headers)
        headers["Content-Range"] = f"bytes {span[0]}-{span[1] - 1}/{len(found.data)}"
        return Reply(status=206, data=found.data[slice(*span)], headers=headers)

    def _patch(self, call: Call) -> Reply:
        return Reply(json=self.buckets.patch(call.bucket, call.name, call.resource, call.query).resource())

    def _delete(self, call: Call) -> Reply:
        self.buckets.delete(call.bucket, call.name, call.query)
        return Reply(status=204)

    def _copied(self, call: Call) -> StoredObject:
        source = self.buckets.get(call.bucket, call.name, {})
        check_preconditions(source, call.query, "ifSource")
        return self.buckets.copy(source, call.to_bucket, call.to_name, call.resource, call.query)

    def _rewrite(self, call: Call) -> Reply:
        token = call.query.get("rewriteToken") or uuid.uuid4().hex
        done = self._rewrites[token] = self._rewrites.get(token, 0) + 1
        if done < self.rewrite_requests:
            self.buckets.get(call.bucket, call.name, {})
            return Reply(json={"kind": "storage#rewriteResponse", "done": False, "rewriteToken": token})
        stored = self._copied(call)
        size = str(len(stored.data))
        answer = {"kind": "storage#rewriteResponse", "done": True, "objectSize": size, "totalBytesRewritten": size}
        return Reply(json={**answer, "resource": stored.resource()})

    def _insert(self, call: Call) -> Reply:
        resource = {**call.resource, **sums(call.headers)}
        return Reply(json=self.buckets.insert(call.bucket, call.name, call.data, resource, call.query).resource())

    def _start(self, call: Call, base_url: str) -> Reply:
        self.buckets.check_insert(call.bucket, call.name, call.query)
        session = uuid.uuid4().hex
        call.resource = {"contentType": call.headers.get("X-Upload-Content-Type"), **call.resource}
        self._sessions[session] = Session(call)
        location = f"{base_url}/upload/storage/v1/b/{quote(call.bucket)}/o?uploadType=resumable&upload_id={session}"
        return Reply(headers={"Location": location})

    def _chunk(self, call: Call) -> Reply:
        session = self._sessions.get(call.query.get("upload_id", ""))
        if session is None:
            raise ApiError(404, "notFound", "No such upload session")
        first, last, total = content_range(call.headers, len(call.data))
        if session.stored is None and first is not None:
            self._append(session, call.data, first, last, total)
        if session.stored is None and total == len(session.received):
            started = session.call
            resource = {**started.resource, **sums(call.headers)}
            session.stored = self.buckets.insert(
                started.bucket, started.name, bytes(session.received), resource, started.query
            )
        if session.stored is not None:
            return Reply(json=session.stored.resource())
        received = {"Range": f"bytes=0-{len(session.received) - 1}"} if session.received else {}
        return Reply(status=308, headers=received)

    def _append(self, session: Session, data: bytes, first: int, last: int, total: int | None) -> None:
        if first != len(session.received) or last - first + 1 != len(data):
            raise ApiError(400, "invalid", "Invalid request: the range does not continue the upload")
        if last + 1 != total and len(data) % CHUNK_MULTIPLE:
            raise ApiError(400, "invalid", "Invalid request: a chunk's size must be a multiple of 256 KiB")
        session.received += data

    def _cancel(self, call: Call) -> Reply:
        self._sessions.pop(call.query.get("upload_id", ""), None)
        return Reply(status=499)


def _full_kind(kind: str, query: Mapping[str, str]) -> str:
    if kind == "insert":
        upload_type = query.get("uploadType")
        return f"insert.{upload_type}" if upload_type in ("media", "multipart", "resumable") else "unknown"
    return "download" if kind == "get" and query.get("alt") == "media" else kind


def _bucket(name: str) -> dict[str, str]:
    return {"kind": "storage#bucket", "id": name, "name": name, "location": "US", "storageClass": "STANDARD"}
