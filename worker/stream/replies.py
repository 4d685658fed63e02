"""Replies of Redis as values: entries, chunks, seals, and positions of deletions. What Redis holds is not trusted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from codec.entry import Chunk, parse
from codec.errors import BadEntry
from worker.errors import StreamError
from worker.model.causes import StreamCause
from worker.model.ids import EntryId, entry_order, last_of_ms
from worker.model.seal import Seal
from worker.stream.servers.failures import stream_error


class Entry(NamedTuple):
    """A stream entry as it was pushed; if it is too large to be read, `oversize` is its number of bytes.

    `repeated` is the name of a field that it has more than once: `fields` has only the last value then.
    """

    id: EntryId
    fields: dict[bytes, bytes]
    oversize: int = 0
    repeated: bytes | None = None


def size_of(entry: Entry) -> int:
    """Bytes of an entry's values."""
    return entry.oversize + sum(map(len, entry.fields.values()))


def tombstone_position(key: str, value: bytes) -> EntryId:
    """The last entry that a deletion covers. Older versions wrote a time, which covers its whole millisecond.

    Raises:
        StreamError: the hash `key` holds something else.
    """
    try:
        text = value.decode()
        position = text if "-" in text else last_of_ms(int(text))
        entry_order(position)
    except ValueError as error:
        raise StreamError(f"{key} holds no position of a stream: {error}", cause=StreamCause.REFUSED) from error
    return position


def parse_tombstones(key: str, fields: Mapping[bytes, bytes]) -> dict[str, EntryId]:
    """The hash `key` of deleted users and conversations → the last entry that each covers. Raises `StreamError`."""
    return {field.decode(errors="replace"): tombstone_position(key, last) for field, last in fields.items()}


def chunk_of(flat: Sequence[bytes]) -> Chunk | None:
    """The chunk with these field names and values in turn; None if it is not one."""
    try:
        content = parse(dict(zip(flat[::2], flat[1::2], strict=True)))
    except BadEntry:
        return None
    return content if isinstance(content, Chunk) else None


def parse_seal(field: bytes, value: bytes) -> Seal:
    """A seal as a field of its hash. Raises `StreamError`."""
    try:
        seal = Seal.from_json(value)
        for entry in (seal.id, *seal.all_ids):  # fails unless there are some and all are ids
            entry_order(entry)
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        # Perhaps a newer version wrote it: leave the partition to that version, and do not stop other partitions.
        raise StreamError(f"the seal {field!r} can't be read: {error}", cause=StreamCause.REFUSED) from error
    return seal


def parse_seals(fields: Mapping[bytes, bytes]) -> list[Seal]:
    """All seals of a hash, the oldest first. Raises `StreamError`."""
    seals = [parse_seal(field, value) for field, value in fields.items()]
    return sorted(seals, key=lambda seal: entry_order(seal.id))


def entries_by_stream(reply: Any) -> dict[str, list[Entry]] | StreamError:
    """The entries by stream key; streams without new entries are left out."""
    if isinstance(reply, Exception):
        return stream_error(reply)
    return {key.decode(): [entry_of(entry, flat) for entry, flat in entries] for key, entries in reply or []}


def entry_of(entry: bytes, flat: Sequence[bytes]) -> Entry:
    """An entry from its id and its field names and values in turn."""
    names = flat[::2]
    fields = dict(zip(names, flat[1::2], strict=True))
    repeated = None if len(fields) == len(names) else next(name for name in fields if names.count(name) > 1)
    return Entry(entry.decode(), fields, repeated=repeated)
