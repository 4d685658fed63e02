"""What is fuzzed: each target takes any bytes and may only end normally, or crash the fuzzer by raising."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress

from codec import entry
from codec.blob import decode
from codec.container import HEADER, packets
from codec.crypto import derive_key, encrypt
from codec.errors import BadBlob, BadEntry, BadName
from codec.metadata import BlobMetadata
from codec.names import Kind, parse_name
from codec.opus import Encoder
from tests.tools.fuzz.batches import FIELDS, batches
from worker.archive.blobs.alternatives import group_alternatives
from worker.archive.blobs.listing import sort_out
from worker.stores.base import BlobInfo

SECRET = "a secret of at least thirty-two bytes"
KINDS = list(Kind)


def blobs(data: bytes) -> None:
    """A blob of any kind; encrypted ones are sealed around the bytes, so that decryption does not end every try."""
    if not data:
        return
    kind = KINDS[data[0] % len(KINDS)]
    content = encrypt(derive_key(SECRET, "u"), data[1:]) if kind.encrypted else data[1:]
    metadata = {"codec": "opus"} if data[0] & 0x80 else {}
    with suppress(BadBlob):
        audio = decode(content, f"chunks/u/c/1.000{kind.extension}", metadata, secrets=[SECRET])
        assert len(audio.pcm) % 2 == 0


def container(data: bytes) -> None:
    """The packets of a container are parts of it."""
    with suppress(BadBlob):
        assert sum(len(packet) for packet in packets(data)) <= len(data) - HEADER.size


def segments(data: bytes) -> None:
    """Bytes that nobody sealed never open, unless there are none."""
    try:
        decode(data, "chunks/u/c/1.000.enc", None, secrets=[SECRET])
    except BadBlob:
        return
    raise AssertionError("forged segments were opened")


def names(data: bytes) -> None:
    """A name that is taken apart is put together again as it was."""
    name = "chunks/" + data.decode(errors="surrogateescape")
    with suppress(BadName):
        assert str(parse_name(name)) == name


def listings(data: bytes) -> None:
    """No blob gets lost when duplicates are put together, whatever names and metadata say."""
    lines = data.decode(errors="replace").split("\n")
    metadata = dict(zip(("samples", "sample-rate", "first-entry", "last-entry", "start"), lines, strict=False))
    found = [BlobInfo(f"chunks/u/c/{line}", len(line), metadata, len(line)) for line in lines]
    listing = sort_out(found)
    assert sum(len(source.alternatives) for source in group_alternatives(listing.blobs)) == len(listing.blobs)


def metadata(data: bytes) -> None:
    """What is written of metadata that was read is read alike."""
    with suppress(ValueError):
        mapping = json.loads(data)
        if isinstance(mapping, dict) and all(isinstance(value, str) for value in mapping.values()):
            known = BlobMetadata.from_mapping(mapping)
            with suppress(BadName):
                assert BlobMetadata.from_mapping(known.to_mapping()).samples == known.samples


def entries(data: bytes) -> None:
    """An entry is a chunk, an end, or refused with a short reason."""
    parts = data.split(b"\n")
    fields = dict(zip(parts[::2], parts[1::2], strict=False))
    with suppress(BadEntry):
        parsed = entry.parse(fields)
        assert entry.parse({name.encode(): _bytes(value) for name, value in parsed.fields().items()})


def _bytes(value: str | bytes) -> bytes:
    return value.encode() if isinstance(value, str) else value


def _lines(*entries: list[bytes]) -> bytes:
    return b"\n".join(value for entry in entries for value in (entry + len(FIELDS) * [b""])[: len(FIELDS)])


TARGETS: dict[str, Callable[[bytes], None]] = {
    target.__name__: target for target in (blobs, container, segments, names, listings, metadata, entries, batches)
}


def seeds() -> dict[str, list[bytes]]:
    """Something real for each target to start from."""
    encoder = Encoder(16000, complexity=5)
    encoder.encode(bytes(range(256)) * 20)
    opus = encoder.finish()
    chunk = entry.Chunk("u", "c", 1.5, b"\0\1" * 20, seq=3)
    fields = b"\n".join(part for name, value in chunk.fields().items() for part in (name.encode(), _bytes(value)))
    pushed = [b"u", b"c", b"1.5", b"\0\1" * 80, b"8000", b"standard"]
    stems = "\n".join(f"1.00{number}{kind.extension}" for number, kind in enumerate(KINDS))
    return {
        "blobs": [bytes([number]) + opus for number in range(len(KINDS))],
        "container": [opus],
        "segments": [encrypt(derive_key(SECRET, "other"), b"x" * 40) * 2],
        "names": [f"u/c/1.000{kind.extension}".encode() for kind in KINDS] + [b"u/c/1.000-2.000.batch.enc"],
        "listings": [stems.encode(), b"16000\n16000\n1.000-9.000.batch.bin\n2.000.bin\n2.000.enc"],
        "metadata": [json.dumps(BlobMetadata(codec="opus", samples=7, start=1.5).to_mapping()).encode()],
        "batches": [_lines([*pushed, b"0"], [*pushed, b"1"], [*pushed, b"1"], [b"u", b"c", *5 * [b""], b"1"])],
        "entries": [fields, b"uid\nu\nconversation_id\nc\nend\n1"],
    }
