"""Blobs for a spool that no worker made."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import google_crc32c

from codec.manifest import Manifest
from codec.metadata import BlobMetadata
from codec.names import Kind, object_name
from tests.support.secret import TEST_SECRET
from worker.model.seal import Seal
from worker.spool.names import FileState, SpoolOwner, parse_spool_name
from worker.spool.record import Record, make_record, stem_of
from worker.spool.volume import Volume

ORIGIN = SpoolOwner("gs://test-bucket", "pcm")
SEAL = Seal(
    object="",
    uid="user",
    conversation_id="talk",
    start=1000.0,
    last_start=1010.0,
    sample_rate=16000,
    samples=240_000,
    protection="enhanced",
    codec="opus",
    trigger="audio",
    entries=(),
    stream="5d" * 16,
)


def seal_of(
    *entries: str, conversation_id: str = "talk", start: float = 1000.0, uid: str = "user", **changes: object
) -> Seal:
    name = object_name(uid, conversation_id, start, kind=Kind.OPUS_ENCRYPTED)
    chosen = replace(SEAL, object=name, uid=uid, conversation_id=conversation_id, start=start, entries=entries)
    return replace(chosen, **changes)  # type: ignore[arg-type]


def record_of(seal: Seal, blob: bytes = b"", *, origin: SpoolOwner = ORIGIN, partition: int = 0) -> Record:
    """A record of `seal`, whose blob is incompressible nonsense unless given."""
    content = blob or nonsense(seal.object)
    return make_record(origin, partition, seal, metadata_of(seal.entries, content, *seal.conversation), content)


def metadata_of(
    entries: Sequence[str], blob: bytes, uid: str = "user", conversation_id: str = "talk"
) -> dict[str, str]:
    """What an object says that holds the chunks of these entries."""
    facts = BlobMetadata(codec="opus", first_entry=entries[0], last_entry=entries[-1])
    identities = b"".join(hashlib.blake2b(entry.encode(), digest_size=8).digest() for entry in entries)
    manifest = Manifest.of(SEAL.stream, identities, len(blob), google_crc32c.value(blob))
    return facts.to_mapping() | manifest.to_mapping(uid, conversation_id, TEST_SECRET)


def nonsense(name: str, size: int = 5000) -> bytes:
    return hashlib.shake_256(name.encode()).digest(size)


def spool(volume: Volume, *records: Record) -> None:
    for one in records:
        content = one.to_bytes()
        volume.write(stem_of(one.header, len(content)), content)


def states(directory: Path) -> list[str]:
    """The state of every file, oldest audio first; nothing else may be there."""
    listing = Volume(directory).scan()
    assert listing.unknown == []
    return [str(file.state) for file in listing.files]


def in_state(directory: Path, state: FileState) -> list[Path]:
    return [path for path in directory.iterdir() if (file := parse_spool_name(path.name)) and file.state is state]
