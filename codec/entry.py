"""Stream entries: audio chunks and ends of conversations, as pushers in any language write them.

Everything in an entry is untrusted: an entry that is not exactly a chunk or an end is refused with a short reason.
"""

from __future__ import annotations

import re
import struct
import zlib
from dataclasses import dataclass
from hashlib import blake2b
from typing import TYPE_CHECKING, Literal, get_args

import google_crc32c

from codec.errors import BadEntry, escaped

if TYPE_CHECKING:
    from collections.abc import Mapping

Protection = Literal["standard", "enhanced", "e2ee"]

PROTECTIONS: tuple[Protection, ...] = get_args(Protection)
DEFAULT_PROTECTION: Protection = "enhanced"
CLEAR_PROTECTION: Protection = "standard"
SAMPLE_RATES = (8000, 12000, 16000, 24000, 48000)
DEFAULT_SAMPLE_RATE = 16000
BYTES_PER_SAMPLE = 2
MAX_CHUNK_BYTES = 16 * 1024 * 1024
MAX_ID_BYTES = 256
MAX_TIMESTAMP = 1e12  # seconds; 12 digits before the point, also when an object's name rounds it
MAX_SEQ = 10**15 - 1
MAX_SESSION_BYTES = 64

REQUIRED_FIELDS = (b"uid", b"conversation_id", b"timestamp", b"pcm")
OPTIONAL_FIELDS = (b"sample_rate", b"protection", b"seq", b"session")
END_FIELDS = (b"uid", b"conversation_id", b"end")
OPTIONAL_END_FIELDS = (b"session", b"seq")

_TIMESTAMP = re.compile(rb"[0-9]{1,12}(\.[0-9]{1,30})?")
_SEQ = re.compile(rb"[0-9]{1,15}")
_SAMPLE_RATES = {str(rate).encode(): rate for rate in SAMPLE_RATES}
_PROTECTIONS = {protection.encode(): protection for protection in PROTECTIONS}
_FORBIDDEN_IN_IDS = re.compile(r"[/\\\x00-\x1f\x7f-\x9f]")
_IDENTITY = struct.Struct("<qqII")
_NO_SEQ = -1


@dataclass(frozen=True, slots=True)
class Chunk:
    """Audio of one conversation: whole samples of s16le mono PCM, the first of them at `timestamp` (Unix seconds).

    `seq` counts the chunks of the conversation and `session`, from 0; a session (1 to 64 bytes) is one life of a
    pusher. `trimmed` says that half a sample at the end was left out.

    Raises:
        BadEntry: a value is outside the contract.
    """

    uid: str
    conversation_id: str
    timestamp: float
    pcm: bytes
    sample_rate: int = DEFAULT_SAMPLE_RATE
    protection: Protection = DEFAULT_PROTECTION
    seq: int | None = None
    trimmed: bool = False
    session: bytes | None = None

    def __post_init__(self) -> None:
        _check_ids(self.uid, self.conversation_id)
        _check_pcm(self.pcm)
        if not (self.timestamp >= 0 and round(self.timestamp, 3) < MAX_TIMESTAMP):
            raise BadEntry(f"timestamp {escaped(self.timestamp)} is not Unix seconds")
        if self.sample_rate not in SAMPLE_RATES:
            raise BadEntry(f"sample_rate {escaped(self.sample_rate)} is not supported")
        if self.protection not in PROTECTIONS:
            raise BadEntry(f"protection {escaped(self.protection)} is unknown")
        _check_number(self.seq, self.session)

    @property
    def samples(self) -> int:
        """Number of samples."""
        return len(self.pcm) // BYTES_PER_SAMPLE

    @property
    def duration(self) -> float:
        """Length in seconds."""
        return self.samples / self.sample_rate

    @property
    def encrypted(self) -> bool:
        """Whether the stored audio must be encrypted."""
        return self.protection != CLEAR_PROTECTION

    def identity(self) -> bytes:
        """8 bytes that identify this chunk within its conversation; a producer's retry of the chunk has the same.

        They are a digest of `seq`, the timestamp in microseconds, the length and the CRC32C of the PCM, and `session`:
        a retry repeats all of them. A chunk that repeats only some is not a duplicate: silence repeats, and a pusher
        that restarts counts from 0 again.
        """
        seq = _NO_SEQ if self.seq is None else self.seq
        facts = _IDENTITY.pack(seq, round(self.timestamp * 1e6), len(self.pcm), google_crc32c.value(self.pcm))
        return blake2b(facts + (self.session or b""), digest_size=8).digest()

    def fields(self) -> dict[str, bytes | str]:
        """The fields of the entry, as XADD takes them; the timestamp is written to the microsecond."""
        fields: dict[str, bytes | str] = {
            "uid": self.uid,
            "conversation_id": self.conversation_id,
            "timestamp": f"{abs(self.timestamp):.6f}",
            "pcm": self.pcm,
            "sample_rate": str(self.sample_rate),
            "protection": self.protection,
        }
        return fields | _number_fields(self.seq, self.session)


@dataclass(frozen=True, slots=True)
class End:
    """No more audio of this conversation is coming soon; `seq` is the number of chunks that its session has pushed.

    Raises:
        BadEntry: a value is outside the contract.
    """

    uid: str
    conversation_id: str
    seq: int | None = None
    session: bytes | None = None

    def __post_init__(self) -> None:
        _check_ids(self.uid, self.conversation_id)
        _check_number(self.seq, self.session)

    def fields(self) -> dict[str, bytes | str]:
        """The fields of the entry, as XADD takes them."""
        fields: dict[str, bytes | str] = {"uid": self.uid, "conversation_id": self.conversation_id, "end": "1"}
        return fields | _number_fields(self.seq, self.session)


def parse(fields: Mapping[bytes, bytes]) -> Chunk | End:
    """Turn an entry's raw fields into a chunk or an end.

    An odd byte at the end of the PCM is left out, and the chunk is marked as `trimmed`.

    Raises:
        BadEntry: it is neither; the reason is short for any fields.
    """
    if b"end" in fields:
        return _parse_end(fields)
    return _parse_chunk(fields)


def check_id(value: str, what: str) -> None:
    """Make sure that a uid or conversation id can be one component of an object's name.

    Raises:
        BadEntry: it is empty, over 256 bytes, `.` or `..`, or holds a slash, backslash or control character.
    """
    try:
        size = len(value.encode())
    except UnicodeEncodeError:
        raise BadEntry(f"{what} is not valid Unicode") from None
    if not value:
        raise BadEntry(f"{what} is empty")
    if size > MAX_ID_BYTES:
        raise BadEntry(f"{what} has {size} bytes, more than {MAX_ID_BYTES}")
    if value in (".", "..") or _FORBIDDEN_IN_IDS.search(value):
        raise BadEntry(f"{what} {escaped(value)} can't be part of an object name")


def partition_of(conversation_id: str, partitions: int) -> int:
    """Number of the partition that holds a conversation's entries, from 0."""
    return partition_of_bytes(conversation_id.encode(), partitions)


def partition_of_bytes(conversation_id: bytes, partitions: int) -> int:
    """The same for a conversation id as an entry has it, which may be invalid."""
    return zlib.crc32(conversation_id) % partitions


def _parse_end(fields: Mapping[bytes, bytes]) -> End:
    _check_field_names(fields, required=END_FIELDS, optional=OPTIONAL_END_FIELDS)
    if fields[b"end"] != b"1":
        raise BadEntry(f"end {escaped(fields[b'end'])} is not 1")
    return End(
        uid=_text(fields, b"uid"),
        conversation_id=_text(fields, b"conversation_id"),
        seq=_seq(fields.get(b"seq")),
        session=fields.get(b"session"),
    )


def _parse_chunk(fields: Mapping[bytes, bytes]) -> Chunk:
    _check_field_names(fields, required=REQUIRED_FIELDS, optional=OPTIONAL_FIELDS)
    pcm = fields[b"pcm"]
    odd = len(pcm) % BYTES_PER_SAMPLE
    return Chunk(
        uid=_text(fields, b"uid"),
        conversation_id=_text(fields, b"conversation_id"),
        timestamp=_timestamp(fields[b"timestamp"]),
        pcm=pcm[:-odd] if 1 < len(pcm) <= MAX_CHUNK_BYTES and odd else pcm,
        sample_rate=_sample_rate(fields.get(b"sample_rate")),
        protection=_protection(fields.get(b"protection")),
        seq=_seq(fields.get(b"seq")),
        trimmed=bool(odd),
        session=fields.get(b"session"),
    )


def _check_field_names(
    fields: Mapping[bytes, bytes], *, required: tuple[bytes, ...], optional: tuple[bytes, ...]
) -> None:
    for name in required:
        if name not in fields:
            raise BadEntry(f"{name.decode()} is missing")
    for name in fields:
        if name not in required and name not in optional:
            raise BadEntry(f"field {escaped(name)} does not belong in this kind of entry")


def _check_ids(uid: str, conversation_id: str) -> None:
    check_id(uid, "uid")
    check_id(conversation_id, "conversation_id")


def _check_number(seq: int | None, session: bytes | None) -> None:
    if seq is not None and not 0 <= seq <= MAX_SEQ:
        raise BadEntry(f"seq {escaped(seq)} is not a counter")
    if session is not None and not 0 < len(session) <= MAX_SESSION_BYTES:
        raise BadEntry(f"session has {len(session)} bytes; it needs 1 to {MAX_SESSION_BYTES}")


def _number_fields(seq: int | None, session: bytes | None) -> dict[str, bytes | str]:
    fields: dict[str, bytes | str] = {}
    if seq is not None:
        fields["seq"] = str(seq)
    if session is not None:
        fields["session"] = session
    return fields


def _check_pcm(pcm: bytes) -> None:
    if not pcm:
        raise BadEntry("pcm is empty")
    if len(pcm) > MAX_CHUNK_BYTES:
        raise BadEntry(f"pcm has {len(pcm)} bytes, more than {MAX_CHUNK_BYTES}")
    if len(pcm) % BYTES_PER_SAMPLE:
        raise BadEntry(f"pcm of {len(pcm)} bytes does not end at a whole sample")


def _text(fields: Mapping[bytes, bytes], name: bytes) -> str:
    try:
        return fields[name].decode()
    except UnicodeDecodeError:
        raise BadEntry(f"{name.decode()} {escaped(fields[name])} is not UTF-8") from None


def _timestamp(value: bytes) -> float:
    if not _TIMESTAMP.fullmatch(value):
        raise BadEntry(f"timestamp {escaped(value)} is not Unix seconds as decimal text")
    return float(value)


def _sample_rate(value: bytes | None) -> int:
    if value is None:
        return DEFAULT_SAMPLE_RATE
    if value not in _SAMPLE_RATES:
        raise BadEntry(f"sample_rate {escaped(value)} is not supported")
    return _SAMPLE_RATES[value]


def _protection(value: bytes | None) -> Protection:
    if value is None:
        return DEFAULT_PROTECTION
    if value not in _PROTECTIONS:
        raise BadEntry(f"protection {escaped(value)} is unknown")
    return _PROTECTIONS[value]


def _seq(value: bytes | None) -> int | None:
    if value is None:
        return None
    if not _SEQ.fullmatch(value):
        raise BadEntry(f"seq {escaped(value)} is not a counter")
    return int(value)
