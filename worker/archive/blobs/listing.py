"""Lists the blobs of a user or a conversation: one paged listing, metadata included, in time order."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass

from codec.container import PACKET_LENGTH
from codec.crypto import NONCE_BYTES, SEGMENT_LENGTH, TAG_BYTES
from codec.entry import BYTES_PER_SAMPLE, DEFAULT_SAMPLE_RATE, SAMPLE_RATES
from codec.errors import BadName
from codec.metadata import BlobMetadata, ExactSpan
from codec.names import FOLDER, BlobName, Codec, Kind, parse_name, prefix
from codec.opus import FRAMES_PER_SECOND, MAX_DECODED_SECONDS
from worker.archive.blobs.retrying import folder_pages, pages
from worker.stores.base import BlobInfo, Store

NAME_PRECISION = 0.001
"""Seconds: a name rounds a start to the millisecond."""

SEGMENT_OVERHEAD = SEGMENT_LENGTH.size + NONCE_BYTES + TAG_BYTES


@dataclass(frozen=True, slots=True)
class Blob:
    """A stored blob, described by its name, size and metadata; `start` and `end` are in Unix seconds."""

    name: BlobName
    info: BlobInfo
    facts: BlobMetadata

    @classmethod
    def of(cls, info: BlobInfo) -> Blob:
        """Describe a listed object.

        Raises:
            BadName: its name is not a blob's name.
        """
        return cls(parse_name(info.name), info, BlobMetadata.from_mapping(info.metadata))

    @property
    def path(self) -> str:
        """Its full name in the store."""
        return self.info.name

    @property
    def start(self) -> float:
        """Start of its first chunk."""
        return self.name.start

    @property
    def codec(self) -> Codec:
        """The codec of its content."""
        return self.name.kind.codec(self.facts.codec)

    @property
    def sample_rate(self) -> int:
        """The rate at which it decodes, in Hz; 16 kHz if its metadata gives no usable rate."""
        rate = self.facts.sample_rate
        if rate is None or (self.codec == "opus" and rate not in SAMPLE_RATES):
            return DEFAULT_SAMPLE_RATE
        return rate

    @property
    def samples(self) -> int | None:
        """Its exact length, if the size or the metadata give it; else Opus and PCM in several segments must be read.

        Metadata that its size contradicts are not believed.
        """
        if self.codec == "pcm" and self.name.kind is not Kind.BATCH_ENCRYPTED:
            return self._pcm_samples
        said = self._said_samples
        return said if said is not None and said <= self._most_samples else None

    @property
    def said_seconds(self) -> float | None:
        """The length in seconds that the metadata give, whatever the size is; None without it."""
        return None if self._said_samples is None else self._said_samples / self.sample_rate

    @property
    def exact_start(self) -> float | None:
        """Its start in Unix seconds as the newest writers in production note it; None if they don't, or not credibly.

        Their span must fit the name, and the length: a copy with another name keeps the metadata of its source.
        """
        span = ExactSpan.from_mapping(self.info.metadata)
        if span is None or abs(span.start - self.start) > NAME_PRECISION:
            return None
        return span.start if (span.samples, span.sample_rate) == (self.samples, self.sample_rate) else None

    @property
    def duration(self) -> float | None:
        """Its length in seconds; at most a few ms too long for PCM of several encrypted segments; None if unknown."""
        samples = self.samples
        if samples is None and self.codec == "pcm":
            samples = self._pcm_samples
        return None if samples is None else samples / self.sample_rate

    @property
    def end(self) -> float | None:
        """Where it ends in Unix seconds, if its duration is known."""
        duration = self.duration
        return None if duration is None else self.start + duration

    @property
    def ends_by(self) -> float:
        """Where it ends in Unix seconds; the latest possible end, if only reading tells its length."""
        return self.start + self._most_samples / self.sample_rate if self.end is None else self.end

    @property
    def _said_samples(self) -> int | None:
        return self.facts.samples if self.facts.sample_rate == self.sample_rate else None

    @property
    def _most_samples(self) -> int:
        """The most samples that fit into its size."""
        if self.codec == "pcm":
            return self._pcm_samples
        packets = self.info.size // PACKET_LENGTH.size
        return min(packets * self.sample_rate // FRAMES_PER_SECOND, MAX_DECODED_SECONDS * self.sample_rate)

    @property
    def _pcm_samples(self) -> int:
        overhead = SEGMENT_OVERHEAD if self.name.kind.encrypted else 0
        return max(0, self.info.size - overhead) // BYTES_PER_SAMPLE


@dataclass(frozen=True, slots=True)
class UnknownObject:
    """An object among the blobs whose name is not a blob's name, and the reason; `size` in bytes."""

    name: str
    size: int
    reason: str


@dataclass(frozen=True, slots=True)
class Listing:
    """Blobs by conversation and time; `unknown` are all other objects among them."""

    blobs: tuple[Blob, ...]
    unknown: tuple[UnknownObject, ...]


async def list_blobs(store: Store, uid: str, conversation_id: str | None = None) -> Listing:
    """All blobs of a conversation, or of all conversations of a user.

    Raises:
        BadName: an id can't be part of a name.
        StoreError: the store can't be listed.
    """
    start = prefix(uid, conversation_id)
    return sort_out([info async for page in pages(store, start) for info in page])


def sort_out(found: list[BlobInfo]) -> Listing:
    """Separate blobs from other objects, and put the blobs in order."""
    described = [describe_blob(info) for info in found]
    blobs = [each for each in described if isinstance(each, Blob)]
    unknown = [each for each in described if isinstance(each, UnknownObject)]
    return Listing(tuple(sorted(blobs, key=_time_order)), tuple(unknown))


def describe_blob(info: BlobInfo) -> Blob | UnknownObject:
    """Describe a listed object."""
    try:
        return Blob.of(info)
    except BadName as error:
        return UnknownObject(info.name, info.size, str(error))


async def list_users(store: Store) -> AsyncIterator[str]:
    """The users who have objects, in the order of their names; a request per thousand users. Raises `StoreError`."""
    start = f"{FOLDER}/"
    async for page in folder_pages(store, start):
        for folder in page:
            yield folder.removeprefix(start).removesuffix("/")


async def walk(store: Store, start: str) -> AsyncIterator[Blob | UnknownObject]:
    """All objects whose name begins with `start`, in name order; at most one page is held. Raises `StoreError`."""
    async for page in pages(store, start):
        for info in page:
            yield describe_blob(info)


def _time_order(blob: Blob) -> tuple[str, float, str]:
    return blob.name.conversation_id, blob.start, blob.path
