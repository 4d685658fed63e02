"""The contents of the Cloud Storage test server: buckets in memory with the JSON API's preconditions and checks."""

from __future__ import annotations

import base64
import hashlib
import itertools
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import google_crc32c

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

MAX_NAME_BYTES = 1024
MAX_PAGE = 1000
PRECONDITION = "At least one of the pre-conditions you specified did not hold."
# Fields of a resource that a client may set.
SETTABLE = ("contentType", "contentEncoding", "cacheControl", "contentDisposition", "contentLanguage", "storageClass")


class ApiError(Exception):
    """An error reply of the JSON API."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason

    def body(self) -> dict[str, Any]:
        detail = {"domain": "global", "reason": self.reason, "message": str(self)}
        return {"error": {"code": self.status, "message": str(self), "errors": [detail]}}


@dataclass(frozen=True)
class StoredObject:
    bucket: str
    name: str
    data: bytes
    generation: int
    metageneration: int = 1
    metadata: Mapping[str, str] = field(default_factory=dict)
    settable: Mapping[str, str] = field(default_factory=dict)
    created: str = field(default_factory=lambda: datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"))

    @property
    def crc32c(self) -> str:
        return crc32c(self.data)

    @property
    def md5(self) -> str:
        return md5(self.data)

    def resource(self) -> dict[str, Any]:
        described: dict[str, Any] = {
            "kind": "storage#object",
            "id": f"{self.bucket}/{self.name}/{self.generation}",
            "bucket": self.bucket,
            "name": self.name,
            "size": str(len(self.data)),
            "generation": str(self.generation),
            "metageneration": str(self.metageneration),
            "crc32c": self.crc32c,
            "md5Hash": self.md5,
            "etag": f"e{self.generation}/{self.metageneration}",
            "timeCreated": self.created,
            "updated": self.created,
            "storageClass": "STANDARD",
            **self.settable,
        }
        if self.metadata:
            described["metadata"] = dict(self.metadata)
        return described


@dataclass(frozen=True)
class Page:
    items: list[StoredObject]
    prefixes: list[str]
    next_token: str | None


class Buckets:
    """All objects; a method either happens completely or raises `ApiError` and changes nothing."""

    def __init__(self, names: tuple[str, ...]) -> None:
        self._objects: dict[str, dict[str, StoredObject]] = {name: {} for name in names}
        self._generations = itertools.count(1_700_000_000_000_000)

    def __iter__(self) -> Iterator[str]:
        return iter(self._objects)

    def objects(self, bucket: str) -> dict[str, StoredObject]:
        if bucket not in self._objects:
            raise ApiError(404, "notFound", "The specified bucket does not exist.")
        return self._objects[bucket]

    def add_bucket(self, bucket: str) -> None:
        if bucket in self._objects:
            raise ApiError(409, "conflict", "Your previous request to create the named bucket succeeded.")
        self._objects[bucket] = {}

    def remove_bucket(self, bucket: str) -> None:
        self.objects(bucket)
        del self._objects[bucket]

    def get(self, bucket: str, name: str, query: Mapping[str, str]) -> StoredObject:
        found = self._find(bucket, name, query.get("generation"))
        check_preconditions(found, query)
        return found

    def check_insert(self, bucket: str, name: str, query: Mapping[str, str]) -> None:
        existing = self.objects(bucket).get(name)
        check_name(name)
        check_preconditions(existing, query)

    def insert(
        self, bucket: str, name: str, data: bytes, resource: Mapping[str, Any], query: Mapping[str, str]
    ) -> StoredObject:
        self.check_insert(bucket, name, query)
        _check_sums(data, resource)
        return self.put(bucket, name, data, resource)

    def put(self, bucket: str, name: str, data: bytes, resource: Mapping[str, Any]) -> StoredObject:
        """Store without any check."""
        stored = StoredObject(
            bucket,
            name,
            data,
            generation=next(self._generations),
            metadata=_metadata(resource),
            settable={key: str(resource[key]) for key in SETTABLE if resource.get(key)},
        )
        self.objects(bucket)[name] = stored
        return stored

    def copy(
        self, source: StoredObject, bucket: str, name: str, resource: Mapping[str, Any], query: Mapping[str, str]
    ) -> StoredObject:
        self.check_insert(bucket, name, query)
        # Any resource in the request replaces the source's whole description; an empty one keeps it.
        kept = {"metadata": source.metadata, **source.settable}
        return self.put(bucket, name, source.data, resource or kept)

    def patch(self, bucket: str, name: str, resource: Mapping[str, Any], query: Mapping[str, str]) -> StoredObject:
        found = self.get(bucket, name, query)
        merged = {**found.metadata, **(resource.get("metadata") or {})}
        patched = replace(
            found,
            metageneration=found.metageneration + 1,
            metadata={key: str(value) for key, value in merged.items() if value is not None},
            settable={**found.settable, **{key: resource[key] for key in SETTABLE if key in resource}},
        )
        self.objects(bucket)[name] = patched
        return patched

    def delete(self, bucket: str, name: str, query: Mapping[str, str]) -> None:
        self.get(bucket, name, query)
        del self.objects(bucket)[name]

    def list(self, bucket: str, query: Mapping[str, str], max_page: int) -> Page:
        names = sorted(self.objects(bucket), key=str.encode)
        prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
        after = base64.urlsafe_b64decode(query.get("pageToken", "")).decode()
        start, end = query.get("startOffset", ""), query.get("endOffset")
        limit = max(1, min(int(query.get("maxResults") or max_page), max_page))
        entries: dict[str, StoredObject | None] = {}
        for name in names:
            if not name.startswith(prefix) or name.encode() < start.encode():
                continue
            if end and name.encode() >= end.encode():
                continue
            inner, found, _ = name.removeprefix(prefix).partition(delimiter) if delimiter else (name, "", "")
            key = f"{prefix}{inner}{delimiter}" if found else name
            if key.encode() > after.encode():
                entries.setdefault(key, None if found else self.objects(bucket)[name])
        page = list(entries)[:limit]
        return Page(
            items=[entry for key in page if (entry := entries[key]) is not None],
            prefixes=[key for key in page if entries[key] is None],
            next_token=base64.urlsafe_b64encode(page[-1].encode()).decode() if len(entries) > limit else None,
        )

    def _find(self, bucket: str, name: str, generation: str | None) -> StoredObject:
        found = self.objects(bucket).get(name)
        if found is None or generation not in (None, str(found.generation)):
            raise ApiError(404, "notFound", f"No such object: {bucket}/{name}")
        return found


def check_name(name: str) -> None:
    if not name:
        raise ApiError(400, "required", "Required")
    if len(name.encode()) > MAX_NAME_BYTES or "\r" in name or "\n" in name or name in (".", ".."):
        raise ApiError(400, "invalid", "Invalid object name")


def check_preconditions(existing: StoredObject | None, query: Mapping[str, str], prefix: str = "if") -> None:
    """Apply ifGenerationMatch and its three kin; an object that is not there has generation 0."""
    generation = str(existing.generation) if existing else "0"
    metageneration = str(existing.metageneration) if existing else "0"
    held = [
        query.get(f"{prefix}GenerationMatch", generation) == generation,
        query.get(f"{prefix}GenerationNotMatch", "") != generation,
        query.get(f"{prefix}MetagenerationMatch", metageneration) == metageneration,
        query.get(f"{prefix}MetagenerationNotMatch", "") != metageneration,
    ]
    if not all(held):
        raise ApiError(412, "conditionNotMet", PRECONDITION)


def crc32c(data: bytes) -> str:
    return base64.b64encode(google_crc32c.value(data).to_bytes(4, "big")).decode()


def md5(data: bytes) -> str:
    return base64.b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode()


def _check_sums(data: bytes, resource: Mapping[str, Any]) -> None:
    for key, words, actual in (("crc32c", "CRC32C", crc32c(data)), ("md5Hash", "MD5 hash", md5(data))):
        given = resource.get(key)
        if given is not None and given != actual:
            message = f'Provided {words} "{given}" doesn\'t match calculated {words} "{actual}".'
            raise ApiError(400, "invalid", message)


def _metadata(resource: Mapping[str, Any]) -> dict[str, str]:
    metadata = resource.get("metadata") or {}
    if not all(isinstance(value, str) for value in metadata.values()):
        raise ApiError(400, "invalid", "Metadata values must be strings")
    return dict(metadata)
