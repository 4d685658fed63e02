"""The provenance of converted blobs and copies: they note their source blob, so that an interrupted run can resume."""

from __future__ import annotations

import re
from typing import NamedTuple
from urllib.parse import quote

import google_crc32c

from codec.errors import BadName
from codec.manifest import without_manifest
from codec.names import BlobName, parse_name
from worker.archive.blobs.known_deletions import KNOWN
from worker.archive.blobs.listing import Blob
from worker.stores.base import BlobInfo

FILE = "converted-from"
CRC32C = "converted-crc32c"

COPIED = "copied-from"
"""Metadata of a copy: conversation and file name of the blob that was first copied, percent-encoded."""

_CRC32C = re.compile("[0-9]{1,10}")


class Provenance(NamedTuple):
    """The name of a blob, and the checksum of its stored bytes."""

    name: BlobName
    crc32c: int

    @classmethod
    def of(cls, blob: Blob, data: bytes) -> Provenance:
        """Describe a blob by the bytes that were read: some stores give no checksum."""
        return cls(blob.name, google_crc32c.value(data))

    @classmethod
    def noted(cls, info: BlobInfo) -> Provenance | None:
        """Read the metadata of a blob; None if it names no source blob."""
        file, crc32c = info.metadata.get(FILE, ""), info.metadata.get(CRC32C, "")
        try:
            name = parse_name(f"{info.name.rpartition('/')[0]}/{file}")
        except BadName:
            return None
        return cls(name, int(crc32c)) if _CRC32C.fullmatch(crc32c) else None

    def to_mapping(self) -> dict[str, str]:
        """The provenance as metadata."""
        return {FILE: str(self.name).rpartition("/")[2], CRC32C: str(self.crc32c)}


def copy_metadata(blob: Blob) -> dict[str, str]:
    """Metadata for a copy in another conversation: there the copy does not stand for the chunks that were pushed."""
    kept = {key: value for key, value in without_manifest(blob.info.metadata).items() if key != KNOWN}
    file = blob.path.rpartition("/")[2]
    return {COPIED: quote(f"{blob.name.conversation_id}/{file}"), **kept}


def source_conversation(blob: Blob) -> str:
    """The conversation that a blob was pushed to, percent-encoded; for a copy it is not the copy's own."""
    return blob.info.metadata.get(COPIED, quote(f"{blob.name.conversation_id}/")).partition("/")[0]


def last_chunk(blob: Blob) -> float | None:
    """Start of a blob's last chunk in Unix seconds, if its name or that of its source is a range; else None."""
    origin = Provenance.noted(blob.info)
    return origin.name.end if blob.name.end is None and origin is not None else blob.name.end
