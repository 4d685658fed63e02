"""Stream entries: audio chunks and ends of conversations, as pushers in any language write them.

Everything in an entry is untrusted: an entry that is not exactly a chunk or an end is refused with a short reason.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from numbers import Real
from typing import Literal, NamedTuple, TypeGuard, get_args

import google_crc32c

from codec.arguments import check_types
from codec.errors import BadEntry, escaped

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
MAX_EXTENSIONS = 16
MAX_EXTENSION_BYTES = 4096
"""Bytes of the names and values of all extensions of an entry: a tracestate may have 512, others are short."""

REQUIRED_FIELDS = (b"uid", b"conversation_id", b"timestamp", b"pcm")
OPTIONAL_FIELDS = (b"sample_rate", b"protection", b"seq", b"session")
END_FIELDS = (b"uid", b"conversation_id", b"end")
OPTIONAL_END_FIELDS = (b"session", b"seq")
TRACE_FIELDS = ("traceparent", "tracestate")
OWN_FIELDS = "x-"
"""Start of the names of fields that pushers may add for purposes of their own."""

_TIMESTAMP = re.compile(rb"[0-9]{1,12}(\.[0-9]{1,30})?")
_SEQ = re.compile(rb"[0-9]{1,15}")
_SAMPLE_RATES = {str(rate).encode(): rate for rate in SAMPLE_RATES}
_PROTECTIONS = {protection.encode(): protection for protection in PROTECTIONS}
_LARGER_UNITS = {13: "milliseconds", 16: "microseconds", 19: "nanoseconds"}
_WHOLE_NUMBER = re.compile(r"([0-9]{13}|[0-9]{16}|[0-9]{19})(\.[0-9]*)?")
_OWN_FIELD = re.compile(r"x-[!-~]{1,62}")
_VISIBLE = re.compile(rb"[ -~\t]{1,4096}")
_FORBIDDEN_IN_IDS = re.compile(r"[/\\\x00-\x1f\x7f-\x9f]")
_IDENTITY = struct.Struct("<qqII")
_NO_SEQ = -1

Extensions = Mapping[str, bytes | str]


class Trace(NamedTuple):
    """A W3C Trace Context: which request of which system the audio belongs to; handed on unread."""

    traceparent: str
    tracestate: str | None


@dataclass(frozen=True, slots=True)
class Chunk:
    """Audio of one conversation: whole samples of s16le mono PCM, the first of them at `timestamp` (Unix seconds).

    `seq` counts the chunks of the conversation and `session`, from 0; a session (1 to 64 bytes) is one life of a
    pusher. `trimmed` says that half a sample at the end was left out. `extensions` are fields that the audio does not
    depend on: `traceparent`, `tracestate` and names that begin with `x-`; text becomes UTF-8.

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
    extensions: Extensions = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        _check_ids(self.uid, self.conversation_id)
        _check_pcm(self.pcm)
        _check_timestamp(self.timestamp)
        if self.sample_rate not in SAMPLE_RATES:
            raise BadEntry(_unsupported_rate(escaped(self.sample_rate)))
        if self.protection not in PROTECTIONS:
            raise BadEntry(_unknown_protection(escaped(self.protection)))
        _check_number(self.seq, self.session)
        if self.extensions != {}:
            object.__setattr__(self, "extensions", _checked_extensions(self.extensions))

    @property
    def trace(self) -> Trace | None:
        """Its trace context; None without a traceparent, or with one that is not printable ASCII."""
        parent, state = (self.extensions.get(name) for name in TRACE_FIELDS)
        if not isinstance(parent, bytes) or not _VISIBLE.fullmatch(parent):
            return None
        visible = isinstance(state, bytes) and _VISIBLE.fullmatch(state)
        return Trace(parent.decode(), state.decode() if visible and isinstance(state, bytes) else None)

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
        that restarts counts from 0 again. Extensions don't count: a retry may be another request of a trace.
        """
        seq = _NO_SEQ if self.seq is None else self.seq
        facts = _IDENTITY.pack(seq, round(self.timestamp * 1e6), len(self.pcm), google_crc32c.value(self.pcm))
        return blake2b(facts + (self.session or b""), digest_size=8).digest()

    def fields(self) -> dict[str, bytes | str]:
        """The fields of the entry, as XADD takes them; the timestamp is written to the microsecond."""
        fields: dict[str, bytes | str] = {
            "uid": self.uid,
            "conversation_id": self.conversation_id,
            "timestamp": f"{abs(float(self.timestamp)):.6f}",
            "pcm": self.pcm,
            "sample_rate": str(int(self.sample_rate)),
            "protection": self.protection,
        }
        return fields | _number_fields(self.seq, self.session) | dict(self.extensions)


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
    extensions: Extensions = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        _check_ids(self.uid, self.conversation_id)
        _check_number(self.seq, self.session)
        if self.extensions != {}:
            object.__setattr__(self, "extensions", _checked_extensions(self.extensions))

    def fields(self) -> dict[str, bytes | str]:
        """The fields of the entry, as XADD takes them."""
        fields: dict[str, bytes | str] = {"uid": self.uid, "conversation_id": self.conversation_id, "end": "1"}
        return fields | _number_fields(self.seq, self.session) | dict(self.extensions)


def parse(fields: Mapping[bytes, bytes]) -> Chunk | End:
    """Turn an entry's raw fields, bytes to bytes, into a chunk or an end.

    An odd byte at the end of the PCM is left out, and the chunk is marked as `trimmed`.

    Raises:
        BadEntry: it is neither; the reason is short for any fields.
        WrongType: it is not a mapping.
    """
    check_types(Mapping, fields=fields)
    if b"end" in fields:
        return _parse_end(fields)
    return _parse_chunk(fields)


def check_id(value: str, what: str) -> None:
    """Make sure that a uid or conversation id can be one component of an object's name.

    Raises:
        BadEntry: it is empty, over 256 bytes, `.` or `..`, or holds a slash, backslash or control character.
    """
    if not isinstance(value, str):
        raise BadEntry(f"{what} is {type(value).__name__}, not text")
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
    """Number of the partition that holds a conversation's entries, from 0.

    Raises:
        WrongType: the id is not text, or `partitions` is not a whole number.
        BadEntry: there is no partition.
    """
    check_types(str, conversation_id=conversation_id)
    check_types(int, partitions=partitions)
    if partitions < 1:
        raise BadEntry(f"partitions is {partitions}; it must be at least 1")
    return partition_of_bytes(conversation_id.encode(), partitions)


def partition_of_bytes(conversation_id: bytes, partitions: int) -> int:
    """The same for a conversation id as an entry has it, which may be invalid."""
    return zlib.crc32(conversation_id) % partitions


def _parse_end(fields: Mapping[bytes, bytes]) -> End:
    _check_field_names(fields, required=END_FIELDS, optional=OPTIONAL_END_FIELDS)
    if fields[b"end"] != b"1":
        raise BadEntry(f"end {shown(fields[b'end'])} is not 1")
    return End(
        uid=_text(fields, b"uid"),
        conversation_id=_text(fields, b"conversation_id"),
        seq=_seq(fields.get(b"seq")),
        session=fields.get(b"session"),
        extensions=_extensions(fields),
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
        extensions=_extensions(fields),
    )


def _check_field_names(
    fields: Mapping[bytes, bytes], *, required: tuple[bytes, ...], optional: tuple[bytes, ...]
) -> None:
    for name in required:
        if name not in fields:
            raise BadEntry(f"{name.decode()} is missing")
    for name in fields:
        if name not in required and name not in optional and not _is_extension(name):
            raise BadEntry(
                f"field {shown(name)} does not belong in this kind of entry; own fields begin with {OWN_FIELDS}"
            )


def is_number(value: object) -> TypeGuard[float]:
    """Whether a value counts something; True and False don't."""
    return isinstance(value, Real) and not isinstance(value, bool)


def shown(value: bytes) -> str:
    """An untrusted value for a message: itself if it is a short text, else its size, because it may be audio."""
    try:
        text = value.decode()
    except UnicodeDecodeError:
        return f"of {len(value)} bytes"
    return escaped(text) if text.isprintable() and len(value) <= 32 else f"of {len(value)} bytes"


def _is_extension(name: bytes) -> bool:
    return name.startswith(OWN_FIELDS.encode()) or name in (b"traceparent", b"tracestate")


def _extensions(fields: Mapping[bytes, bytes]) -> Mapping[str, bytes]:
    return {name.decode(errors="replace"): value for name, value in fields.items() if _is_extension(name)}


def _checked_extensions(extensions: Extensions) -> Mapping[str, bytes]:
    if not isinstance(extensions, Mapping):
        raise BadEntry(f"extensions is {type(extensions).__name__}, not a mapping from names to texts")
    if len(extensions) > MAX_EXTENSIONS:
        raise BadEntry(f"there are {len(extensions)} fields for traces and own purposes, more than {MAX_EXTENSIONS}")
    checked = {name: _extension(name, value) for name, value in extensions.items()}
    size = sum(len(name) + len(value) for name, value in checked.items())
    if size > MAX_EXTENSION_BYTES:
        raise BadEntry(f"the fields for traces and own purposes have {size} bytes, more than {MAX_EXTENSION_BYTES}")
    return checked


def _extension(name: str, value: bytes | str) -> bytes:
    if not isinstance(name, str) or not (name in TRACE_FIELDS or _OWN_FIELD.fullmatch(name)):
        text = shown(name.encode(errors="replace")) if isinstance(name, str) else escaped(name)
        raise BadEntry(
            f"field {text} is not traceparent, tracestate or {OWN_FIELDS} and 1 to 62 printable ASCII characters"
        )
    try:
        raw = value.encode() if isinstance(value, str) else value
    except UnicodeEncodeError:
        raise BadEntry(f"{name} is not valid Unicode") from None
    if not isinstance(raw, bytes):
        raise BadEntry(f"{name} is {type(value).__name__}, not text or bytes")
    return raw


def _check_timestamp(timestamp: float) -> None:
    if not is_number(timestamp):
        raise BadEntry(f"timestamp is {type(timestamp).__name__}, not a number of Unix seconds")
    try:
        seconds = float(timestamp)
    except OverflowError:
        raise BadEntry("timestamp is too large for Unix seconds") from None
    if not (seconds >= 0 and round(seconds, 3) < MAX_TIMESTAMP):
        larger = seconds >= MAX_TIMESTAMP and _larger_unit(f"{seconds:.0f}")
        raise BadEntry(larger or f"timestamp {escaped(timestamp)} is not Unix seconds")


def _larger_unit(text: str) -> str | None:
    """The reason against a timestamp that today's time in another unit would explain."""
    if not (found := _WHOLE_NUMBER.fullmatch(text)):
        return None
    return f"timestamp {found[1]} looks like {_LARGER_UNITS[len(found[1])]}; give Unix seconds"


def _unsupported_rate(shown: str) -> str:
    *others, last = SAMPLE_RATES
    return f"sample_rate {shown} is not supported; give {', '.join(map(str, others))} or {last}"


def _unknown_protection(shown: str) -> str:
    *others, last = PROTECTIONS
    return f"protection {shown} is unknown; give {', '.join(others)} or {last}"


def _check_ids(uid: str, conversation_id: str) -> None:
    check_id(uid, "uid")
    check_id(conversation_id, "conversation_id")


def _check_number(seq: int | None, session: bytes | None) -> None:
    if seq is not None and not (isinstance(seq, int) and is_number(seq) and 0 <= seq <= MAX_SEQ):
        raise BadEntry(f"seq {escaped(seq)} is not a counter from 0 to {MAX_SEQ}")
    if session is not None and not isinstance(session, bytes):
        raise BadEntry(f"session is {type(session).__name__}, not bytes")
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
    if not isinstance(pcm, bytes):
        raise BadEntry(f"pcm is {type(pcm).__name__}, not bytes")
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
        raise BadEntry(f"{name.decode()} {shown(fields[name])} is not UTF-8") from None


def _timestamp(value: bytes) -> float:
    if not _TIMESTAMP.fullmatch(value):
        larger = _larger_unit(value.decode(errors="replace"))
        raise BadEntry(larger or f"timestamp {shown(value)} is not Unix seconds as decimal text")
    return float(value)


def _sample_rate(value: bytes | None) -> int:
    if value is None:
        return DEFAULT_SAMPLE_RATE
    if value not in _SAMPLE_RATES:
        raise BadEntry(_unsupported_rate(shown(value)))
    return _SAMPLE_RATES[value]


def _protection(value: bytes | None) -> Protection:
    if value is None:
        return DEFAULT_PROTECTION
    if value not in _PROTECTIONS:
        raise BadEntry(_unknown_protection(shown(value)))
    return _PROTECTIONS[value]


def _seq(value: bytes | None) -> int | None:
    if value is None:
        return None
    if not _SEQ.fullmatch(value):
        raise BadEntry(f"seq {shown(value)} is not a counter from 0 to {MAX_SEQ}")
    return int(value)
