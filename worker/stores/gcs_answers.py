"""Parses and checks Cloud Storage's answers about objects: an answer that does not fit its request is an error.

Without the checks, audio could count as stored that is stored nowhere. Names are in full here, the prefix of STORE_URL
included.
"""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any

from worker.errors import StoreError
from worker.model.causes import StoreCause
from worker.stores.base import BlobInfo
from worker.stores.gcs_errors import MAX_DETAIL

if TYPE_CHECKING:
    from collections.abc import Mapping

IDENTIFYING = ("kind", "bucket", "name", "size", "crc32c", "generation", "done", "error")
"""Fields that a message about an answer shows, where it has any of them."""


def object_in(resource: object, bucket: str, name: str, doing: str) -> BlobInfo:
    """The description of exactly this object.

    Raises:
        StoreError: the answer does not describe it; cause "unexpected".
    """
    info = _described(resource, bucket, doing)
    if info.name != name:
        raise unexpected(doing, resource)
    return info


def copy_in(answer: object, bucket: str, name: str, doing: str) -> BlobInfo:
    """The description of a finished copy, with its checksum.

    Raises:
        StoreError: the answer does not describe one; cause "unexpected".
    """
    if not isinstance(answer, dict) or answer.get("done") is not True:
        raise unexpected(f"{doing}: the store did not finish", answer)
    info = object_in(answer.get("resource"), bucket, name, doing)
    if info.crc32c is None:
        raise unexpected(doing, answer["resource"])
    return info


def page_in(answer: object, bucket: str, prefix: str, doing: str) -> tuple[list[BlobInfo], str]:
    """A page of a listing, and the token of the next page, empty if there is none.

    Only its kind tells an empty page from an answer to another request.

    Raises:
        StoreError: the answer is not a page, or lists other objects; cause "unexpected".
    """
    items, token = _page(answer, "items", doing)
    infos = [_described(item, bucket, doing) for item in items]
    for info, item in zip(infos, items, strict=True):
        if not info.name.startswith(prefix):
            raise unexpected(doing, item)
    return infos, token


def folders_in(answer: object, prefix: str, doing: str) -> tuple[list[str], str]:
    """A page of folders, as `page_in` gives objects. Raises as it."""
    found, token = _page(answer, "prefixes", doing)
    for folder in found:
        if not isinstance(folder, str) or not folder.startswith(prefix):
            raise unexpected(doing, folder)
    return found, token


def _page(answer: object, key: str, doing: str) -> tuple[list[Any], str]:
    if not isinstance(answer, dict) or answer.get("kind") != "storage#objects":
        raise unexpected(doing, answer)
    found, token = answer.get(key, []), answer.get("nextPageToken", "")
    if not isinstance(found, list) or not isinstance(token, str):
        raise unexpected(doing, answer)
    return found, token


def unexpected(doing: str, answer: object) -> StoreError:
    """An error that quotes the store's answer."""
    named = {key: answer[key] for key in IDENTIFYING if key in answer} if isinstance(answer, dict) else {}
    words = json.dumps(named or answer)[:MAX_DETAIL]
    return StoreError(f"{doing}: the store answered {words}, which does not fit", cause=StoreCause.UNEXPECTED)


def _described(resource: object, bucket: str, doing: str) -> BlobInfo:
    if not isinstance(resource, dict):
        raise unexpected(doing, resource)
    name, metadata = resource.get("name"), resource.get("metadata", {})
    size, generation = _decimal(resource, "size"), _decimal(resource, "generation")
    if not isinstance(name, str) or not isinstance(metadata, dict) or resource.get("bucket", bucket) != bucket:
        raise unexpected(doing, resource)
    if not size or not generation:
        raise unexpected(doing, resource)
    return BlobInfo(name, int(size), metadata, _crc32c_of(resource), generation)


def _decimal(resource: Mapping[str, Any], key: str) -> str:
    """A 64-bit number, which the API writes as text; empty if it is not a number."""
    text = str(resource.get(key, ""))
    return text if text.isascii() and text.isdigit() and len(text) <= 20 else ""


def encode_crc32c(value: int) -> str:
    """Base64 of the big-endian number, as the object resource's `crc32c` has it."""
    return base64.b64encode(value.to_bytes(4, "big")).decode()


def crc32c_in(hashes: list[str]) -> int | None:
    """The checksum in `x-goog-hash: crc32c=…,md5=…`, in one header or in several."""
    for part in ",".join(hashes).split(","):
        kind, _, value = part.strip().partition("=")
        if kind == "crc32c":
            return _decode_crc32c(value)
    return None


def _crc32c_of(resource: Mapping[str, Any]) -> int | None:
    text = resource.get("crc32c")
    return _decode_crc32c(text) if isinstance(text, str) else None


def _decode_crc32c(text: str) -> int | None:
    try:
        decoded = base64.b64decode(text, validate=True)
    except ValueError:  # binascii.Error, or not ASCII
        return None
    return int.from_bytes(decoded, "big") if len(decoded) == 4 else None
