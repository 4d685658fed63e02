"""Object names: `chunks/{uid}/{conversation_id}/{stem}{extension}`, for all six extensions ever written.

A stem is the first chunk's start in Unix seconds as C's `%.3f` prints it; a batch may add `-` and the start of its
last chunk.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from numbers import Real
from typing import Literal

from codec.arguments import NOTHING, check_types
from codec.entry import MAX_TIMESTAMP, check_id, is_number
from codec.errors import BadEntry, BadName, escaped

FOLDER = "chunks"

Codec = Literal["opus", "pcm"]
Naming = Literal["start", "range"]

_DECIMAL = re.compile(r"[0-9]+(\.[0-9]*)?|\.[0-9]+")


class Kind(Enum):
    """What a blob's extension says about it."""

    PCM = (".bin", False, False, False)
    PCM_ENCRYPTED = (".enc", True, False, False)
    OPUS = (".opus", False, False, True)
    OPUS_ENCRYPTED = (".opus.enc", True, False, True)
    BATCH = (".batch.bin", False, True, False)
    BATCH_ENCRYPTED = (".batch.enc", True, True, False)

    def __init__(self, extension: str, encrypted: bool, batch: bool, opus: bool) -> None:
        self.extension = extension
        self.encrypted = encrypted
        self.batch = batch  # may have a range; the metadata names its codec, PCM if they don't
        self.opus = opus  # always an Opus container

    def codec(self, noted: str | None) -> Codec:
        """The codec of a blob of this kind; `noted` is the codec that its metadata notes, None without one."""
        return "opus" if self.opus or (self.batch and noted == "opus") else "pcm"


_LONGEST_EXTENSION_FIRST = sorted(Kind, key=lambda kind: -len(kind.extension))
_KINDS: dict[tuple[Codec, Naming, bool], Kind] = {
    ("opus", "start", False): Kind.OPUS,
    ("opus", "start", True): Kind.OPUS_ENCRYPTED,
    ("opus", "range", False): Kind.BATCH,
    ("opus", "range", True): Kind.BATCH_ENCRYPTED,
    ("pcm", "start", False): Kind.PCM,
    ("pcm", "start", True): Kind.PCM_ENCRYPTED,
    ("pcm", "range", False): Kind.BATCH,
    ("pcm", "range", True): Kind.BATCH_ENCRYPTED,
}


def kind_of_new(codec: Codec, naming: Naming, *, encrypted: bool) -> Kind:
    """The kind of a new blob; names of naming "range" don't tell the codec.

    Raises:
        BadName: the codec or the naming is unknown.
        WrongType: an argument has a wrong type.
    """
    check_types(bool, encrypted=encrypted)
    check_types(str, codec=codec, naming=naming)
    if (codec, naming, encrypted) not in _KINDS:
        given = f"codec {escaped(codec)} and naming {escaped(naming)}"
        raise BadName(f"{given} are unknown: give opus or pcm, and start or range")
    return _KINDS[codec, naming, encrypted]


@dataclass(frozen=True, slots=True)
class BlobName:
    """The parts of a blob's name; `start` and `end` are the starts of its first and last chunk in Unix seconds."""

    uid: str
    conversation_id: str
    start: float
    end: float | None
    kind: Kind
    stem: str

    def __str__(self) -> str:
        return f"{prefix(self.uid, self.conversation_id)}{self.stem}{self.kind.extension}"


def prefix(uid: str, conversation_id: str | None = None) -> str:
    """Start of the names of all blobs of a user or of one conversation, with the slash that ends it.

    Raises:
        BadName: an id can't be part of a name.
    """
    ids = [uid] if conversation_id is None else [uid, conversation_id]
    _check_ids(*ids)
    return "/".join([FOLDER, *ids, ""])


def conversation_prefix(uid: str, conversation_id: str) -> str:
    """As `prefix`, of one conversation only: without its id, all conversations of the user would be meant."""
    if conversation_id is None:
        raise BadName("conversation_id is NoneType, not text")
    return prefix(uid, conversation_id)


def format_timestamp(seconds: float) -> str:
    """A stem's spelling of a time: 3 decimals, correctly rounded from the binary double.

    Raises:
        BadName: the time is negative, infinite or not a number.
    """
    if not is_number(seconds) or not 0 <= seconds < MAX_TIMESTAMP:
        raise BadName(f"{escaped(seconds)} is not Unix seconds")
    return f"{abs(seconds):.3f}"


def object_name(uid: str, conversation_id: str, start: float, *, end: float | None = None, kind: Kind) -> str:
    """Name of a new blob; `start` and `end` are the starts of its first and last chunk in Unix seconds.

    `end` only shows in the names of batches, and is None for a batch of one chunk. Timestamps jitter: an end before the
    start is written as the start, because the reader in production never reads a reversed range.

    Raises:
        BadName: an id or a time can't be part of a name.
        WrongType: another argument has a wrong type.
    """
    check_types(Kind, kind=kind)
    stem = format_timestamp(start)
    check_types(Real, NOTHING, end=end)
    if kind.batch and end is not None:
        stem = f"{stem}-{format_timestamp(max(start, end))}"
    return f"{conversation_prefix(uid, conversation_id)}{stem}{kind.extension}"


def parse_name(name: str) -> BlobName:
    """Split a blob's name into its parts.

    Stems of other spellings than `%.3f` are accepted as long as they are plain decimal numbers.

    Raises:
        BadName: it is not the name of a blob.
    """
    parts = name.split("/") if isinstance(name, str) else []
    if len(parts) != 4 or parts[0] != FOLDER:
        raise BadName(f"{escaped(name)} is not {FOLDER}/uid/conversation/file")
    _, uid, conversation_id, file = parts
    _check_ids(uid, conversation_id)
    kind = _kind_of(file)
    stem = file.removesuffix(kind.extension)
    first, dash, last = stem.partition("-")
    if dash and not kind.batch:
        raise BadName(f"{escaped(file)} has a range, but is not a batch")
    start = _seconds(first)
    end = _seconds(last) if dash else None
    if end is not None and end < start:
        raise BadName(f"the range of {escaped(file)} ends before it starts")
    return BlobName(uid, conversation_id, start, end, kind, stem)


def _kind_of(file: str) -> Kind:
    for kind in _LONGEST_EXTENSION_FIRST:
        if file.endswith(kind.extension):
            return kind
    raise BadName(f"{escaped(file)} has none of the known extensions")


def _seconds(text: str) -> float:
    if not _DECIMAL.fullmatch(text) or (seconds := float(text)) >= MAX_TIMESTAMP:
        raise BadName(f"{escaped(text)} is not a time in seconds")
    return seconds


def _check_ids(uid: str, conversation_id: str | None = None) -> None:
    try:
        check_id(uid, "uid")
        if conversation_id is not None:
            check_id(conversation_id, "conversation_id")
    except BadEntry as error:
        raise BadName(error.reason) from None
