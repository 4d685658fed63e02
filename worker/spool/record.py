"""A spooled blob as a file: a checked header that says what it is and where it belongs, then the blob.

The file holds `8 bytes magic, u32 header length, u32 CRC32C of the header` (big-endian), the header as JSON, and the
blob's bytes. The header holds the length and the CRC32C of these bytes. All of it is one file, so that one rename
publishes all or nothing.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import google_crc32c

from codec.errors import BadName
from codec.names import parse_name
from worker.errors import SpoolDamaged
from worker.model.seal import Seal
from worker.spool.names import SpoolOwner, Stem, conversation_digest

MAGIC = b"absp\r\n\x00\x01"
"""It ends with the format's version; the line end in it shows a transfer that took the file for text."""

HEAD = struct.Struct(">8sII")
MAX_HEADER_BYTES = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class RecordHeader:
    """The description of a spooled blob.

    The object gets the seal's name, or a later one if that is taken. `metadata` is that of the object. `size` and
    `crc32c` are those of the blob's bytes.
    """

    origin: SpoolOwner
    partition: int
    seal: Seal
    metadata: Mapping[str, str]
    size: int
    crc32c: int

    def to_bytes(self) -> bytes:
        """The beginning of the file."""
        facts = {
            "store": self.origin.store_url,
            "prefix": self.origin.prefix,
            "partition": self.partition,
            "seal": self.seal.to_json(),
            "metadata": dict(self.metadata),
            "size": self.size,
            "crc32c": self.crc32c,
        }
        text = json.dumps(facts).encode()
        return HEAD.pack(MAGIC, len(text), google_crc32c.value(text)) + text


@dataclass(frozen=True, slots=True)
class Record:
    """A blob with its header."""

    header: RecordHeader
    blob: bytes

    def to_bytes(self) -> bytes:
        """The file's content."""
        return self.header.to_bytes() + self.blob


def make_record(origin: SpoolOwner, partition: int, seal: Seal, metadata: Mapping[str, str], blob: bytes) -> Record:
    """Describe a finished blob."""
    return Record(RecordHeader(origin, partition, seal, metadata, len(blob), google_crc32c.value(blob)), blob)


def stem_of(header: RecordHeader, file_size: int) -> Stem:
    """The stem of the name of a file that begins with `header`."""
    seal = header.seal
    return Stem(
        seal.entries[0],
        seal.entries[-1],
        header.partition,
        header.origin.digest,
        conversation_digest(seal.conversation),
        file_size,
    )


def read_record(data: bytes, stem: Stem) -> Record:
    """Read and check the whole content of the file whose name has this `stem`.

    Raises:
        SpoolDamaged: the file is torn, or its content is not that of this name.
    """
    header, end = read_record_header(data)
    if stem_of(header, len(data)) != stem:
        raise SpoolDamaged("its name does not fit its content")
    blob = data[end:]
    if len(blob) != header.size:
        raise SpoolDamaged(f"it holds {len(blob)} of the blob's {header.size} bytes")
    if google_crc32c.value(blob) != header.crc32c:
        raise SpoolDamaged("the blob does not fit its CRC32C")
    return Record(header, blob)


def read_record_header(data: bytes) -> tuple[RecordHeader, int]:
    """Read the header from a file's beginning; returns it and where it ends.

    Raises:
        SpoolDamaged: the file has no header, or one that does not fit its checksum.
    """
    end = header_bytes(data)
    text = data[HEAD.size : end]
    if len(data) < end or google_crc32c.value(text) != HEAD.unpack_from(data)[2]:
        raise SpoolDamaged("its header is torn or does not fit its CRC32C")
    return _header(text), end


def header_bytes(data: bytes) -> int:
    """Where the header ends, as the file's first `HEAD.size` bytes tell.

    Raises:
        SpoolDamaged: a file of this version does not begin like that.
    """
    if len(data) < HEAD.size:
        raise SpoolDamaged(f"it has {len(data)} bytes and no header")
    magic, length, _ = HEAD.unpack_from(data)
    if magic != MAGIC or length > MAX_HEADER_BYTES:
        raise SpoolDamaged("it does not begin like a spooled blob of this version")
    return HEAD.size + int(length)


def _header(text: bytes) -> RecordHeader:
    # A checksum finds accidents, not forgeries: a program that writes to the volume can write a fitting one.
    try:
        facts: dict[str, Any] = json.loads(text)
        header = RecordHeader(
            origin=SpoolOwner(str(facts["store"]), str(facts["prefix"])),
            partition=int(facts["partition"]),
            seal=Seal.from_json(facts["seal"]),
            metadata={str(key): str(value) for key, value in facts["metadata"].items()},
            size=int(facts["size"]),
            crc32c=int(facts["crc32c"]),
        )
        _check(header.seal)
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise SpoolDamaged(f"its header makes no sense: {type(error).__name__}") from error
    return header


def _check(seal: Seal) -> None:
    name = parse_name(seal.object)
    if (name.uid, name.conversation_id) != seal.conversation or not seal.entries:
        raise BadName("the object belongs to another conversation")
