"""What a converted blob notes of the one it was made from, so that an interrupted run, or a copy, can go on."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from typing import NamedTuple

import google_crc32c

from codec.errors import BadName
from codec.names import kind_of
from worker.archive.listing import Blob

FILE = "converted-from"
CRC32C = "converted-crc32c"

_CRC32C = re.compile("[0-9]{1,10}")


class Origin(NamedTuple):
    """The file name of a blob, and the checksum of its stored bytes."""

    file: str
    crc32c: int

    @classmethod
    def of(cls, blob: Blob, data: bytes) -> Origin:
        """Describe a blob by the bytes that were read: some stores know of no checksum."""
        return cls(blob.path.rpartition("/")[2], google_crc32c.value(data))

    @classmethod
    def noted(cls, metadata: Mapping[str, str]) -> Origin | None:
        """Read the metadata of a blob; None if it names no blob that it was made from."""
        file, crc32c = metadata.get(FILE, ""), metadata.get(CRC32C, "")
        with suppress(BadName):
            kind_of(file)
            return cls(file, int(crc32c)) if _CRC32C.fullmatch(crc32c) else None
        return None

    @property
    def extension(self) -> str:
        """Of the file."""
        return kind_of(self.file).extension

    def to_mapping(self) -> dict[str, str]:
        """As metadata."""
        return {FILE: self.file, CRC32C: str(self.crc32c)}
