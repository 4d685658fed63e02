"""Reads blobs back and verifies every checksum, tag, container and length."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import NamedTuple

from codec.blob import Audio
from codec.container import HEADER, PACKET_LENGTH, packets, read_header, rendition_bytes
from codec.entry import BYTES_PER_SAMPLE
from worker.archive.blobs.listing import Blob, UnknownObject, walk
from worker.archive.blobs.ordered import ordered
from worker.archive.blobs.read_ahead import AHEAD, AHEAD_BYTES, footprint_of
from worker.archive.blobs.reading import Reader
from worker.errors import Unreadable
from worker.stores.base import Store


class Fingerprint(NamedTuple):
    """Identifies an object's bytes without reading them, if the store knows their checksum."""

    name: str
    size: int
    crc32c: int | None


@dataclass(frozen=True, slots=True)
class BlobVerdict:
    """The verdict on one object: `reason` says what is wrong, None if it is sound.

    `readable` says whether it could be read. `seconds` is the length of its audio, 0 if it couldn't. `extent` is the
    time in seconds that it takes in its conversation: of an object that can't be read, what its metadata say, None if
    they don't. `is_blob` says that it has the name of a blob. `known` says that the verdict is from an earlier run.
    """

    fingerprint: Fingerprint
    reason: str | None
    seconds: float = 0.0
    extent: float | None = None
    known: bool = False
    readable: bool = True
    is_blob: bool = True

    @property
    def name(self) -> str:
        """The object's name."""
        return self.fingerprint.name


NOTHING_KNOWN: Mapping[Fingerprint, BlobVerdict] = MappingProxyType({})


async def verify_blobs(
    store: Store, reader: Reader, start: str, *, known: Mapping[Fingerprint, BlobVerdict] = NOTHING_KNOWN
) -> AsyncGenerator[BlobVerdict, None]:
    """Verify every object whose name begins with `start`, in name order; objects `known` to be sound are not read.

    An object without a checksum is always read: another program that wrote it into a directory may also have replaced
    it. An `UnknownObject` is reported with its reason.

    Raises:
        StoreError: the store does not answer; the objects that were not reported are not verified. An object that the
            store refuses to give raises nothing: it is reported with this reason.
    """

    async def examined(found: Blob | UnknownObject) -> BlobVerdict:
        if isinstance(found, UnknownObject):
            fingerprint = Fingerprint(found.name, found.size, None)
            return BlobVerdict(fingerprint, f"no blob: {found.reason}", readable=False, is_blob=False)
        fingerprint = Fingerprint(found.path, found.info.size, found.info.crc32c)
        if fingerprint.crc32c is not None and fingerprint in known:
            return replace(known[fingerprint], known=True)
        return await _examined(reader, found, fingerprint)

    results = ordered(walk(store, start), examined, limit=AHEAD, weight=_weight, budget=AHEAD_BYTES)
    async with aclosing(results) as verdicts:
        async for verdict in verdicts:
            yield verdict


async def _examined(reader: Reader, blob: Blob, fingerprint: Fingerprint) -> BlobVerdict:
    try:
        content = await reader.content(blob)
        audio = await reader.decoded(blob, content)
    except Unreadable as error:
        return BlobVerdict(fingerprint, str(error), extent=blob.said_seconds, readable=False)
    return BlobVerdict(fingerprint, _flaw(blob, content, audio), audio.duration, audio.duration)


def _flaw(blob: Blob, content: bytes, audio: Audio) -> str | None:
    """A flaw that the decoder tolerates and a writer must not make; None without one."""
    said = blob.facts.samples
    if said is not None and said != audio.samples:
        return f"its metadata says {said} samples, it holds {audio.samples}"
    if blob.codec == "pcm":
        return "it ends inside a sample" if len(content) % BYTES_PER_SAMPLE else None
    used = HEADER.size + sum(PACKET_LENGTH.size + len(packet) for packet in packets(content))
    if used != len(content):
        return f"{len(content) - used} bytes follow its last packet"
    expected = rendition_bytes(audio.samples, audio.sample_rate)
    said_bytes = read_header(content).pcm_bytes
    if said_bytes - said_bytes % BYTES_PER_SAMPLE != expected:  # old writers counted half a sample that they were given
        return f"its header says {said_bytes} bytes of PCM, it holds {expected}"
    return None


def _weight(found: Blob | UnknownObject) -> int:
    return 0 if isinstance(found, UnknownObject) else footprint_of(found)
