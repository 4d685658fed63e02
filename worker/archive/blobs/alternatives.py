"""Finds blobs that are alternatives: the same audio under different names."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from codec.manifest import Manifest, claimed
from codec.names import Kind, format_timestamp
from worker.archive.blobs.listing import Blob
from worker.archive.blobs.provenance import source_conversation

PREFERENCE = (
    Kind.BATCH_ENCRYPTED,
    Kind.BATCH,
    Kind.OPUS_ENCRYPTED,
    Kind.PCM_ENCRYPTED,
    Kind.OPUS,
    Kind.PCM,
)
"""The order in which alternatives are read, by their kinds; the reader in production has the same order."""

SHORTER = 0.5
"""Seconds by which a blob must be shorter than another of the same start to be only a part of it."""

NEAR_SECONDS = 1.0
"""Seconds between the starts of alternatives: one may start some ms off because its own name was taken."""

SAME_BYTES_SECONDS = 0.02
"""Seconds: copies whose name was taken start some ms later; equal unencrypted bytes further apart may be silence."""


@dataclass(slots=True)
class AudioAlternatives:
    """Blobs that hold the same audio, in the order in which they are read."""

    alternatives: list[Blob]

    @property
    def start(self) -> float:
        """Start of the first alternative in Unix seconds."""
        return self.alternatives[0].start


def group_alternatives(blobs: Iterable[Blob]) -> list[AudioAlternatives]:
    """Group blobs that have the same audio; `blobs` are of one conversation, and in time order, as is the result."""
    alternatives: list[list[Blob]] = []
    known: dict[Hashable, list[Blob]] = {}
    for blob in blobs:
        keys = list(_keys(blob))
        group = next((known[key] for key in keys if key in known and _alike(known[key], blob)), None)
        if group is None and alternatives and _copied(alternatives[-1][-1], blob):
            group = alternatives[-1]
        if group is None:
            group = []
            alternatives.append(group)
        group.append(blob)
        known.update(dict.fromkeys(keys, group))
    found = [AudioAlternatives(_by_preference(group)) for group in alternatives]
    return sorted(found, key=lambda source: source.start)


def all_exact(sources: Iterable[AudioAlternatives]) -> bool:
    """Whether all blobs tell where they begin more exactly than by their names; then these starts can be trusted."""
    return all(blob.exact_start is not None for source in sources for blob in source.alternatives)


def longer(seconds: float, than: float) -> bool:
    """Whether a blob is so much longer than another of the same start that the other is only a part of it, or empty."""
    return seconds > than + SHORTER or seconds > than == 0.0


def _keys(blob: Blob) -> Iterator[Hashable]:
    """Keys that blobs with other audio of the conversation do not have."""
    yield "start", format_timestamp(blob.start)
    if (manifest := _manifest(blob)) is not None:
        yield "chunks", manifest.stream, manifest.digest
    elif claimed(blob.info.metadata) is None and blob.facts.first_entry and blob.facts.last_entry:
        # Ids are clock readings: other streams may have the same ones. So all other known facts must agree.
        yield "entries", source_conversation(blob), *_facts(blob)
    if blob.name.kind.encrypted and blob.info.crc32c is not None:
        yield "bytes", blob.info.size, blob.info.crc32c  # every encryption draws its own nonce


def _facts(blob: Blob) -> Iterator[Hashable]:
    facts = blob.facts
    yield from (facts.first_entry, facts.last_entry, facts.chunks, facts.seqs, blob.info.metadata.get("session"))
    yield from (facts.samples, facts.sample_rate)


def _alike(group: Sequence[Blob], blob: Blob) -> bool:
    return abs(group[0].start - blob.start) < NEAR_SECONDS and not any(_distinct(other, blob) for other in group)


def _distinct(one: Blob, other: Blob) -> bool:
    """Whether manifests say that two blobs have no chunk in common."""
    manifests = _manifest(one), _manifest(other)
    ours, theirs = [set(manifest.listed() if manifest else []) for manifest in manifests]
    return bool(ours and theirs) and ours.isdisjoint(theirs)


def _manifest(blob: Blob) -> Manifest | None:
    """The manifest that the blob claims, if it fits its bytes; that of a rewritten file proves nothing."""
    manifest = claimed(blob.info.metadata)
    return manifest if manifest is not None and manifest.fits(blob.info.size, blob.info.crc32c) else None


def _copied(earlier: Blob, later: Blob) -> bool:
    same = (earlier.info.size, earlier.info.crc32c) == (later.info.size, later.info.crc32c)
    near = later.start - earlier.start < SAME_BYTES_SECONDS
    return same and later.info.crc32c is not None and near and not _distinct(earlier, later)


def _by_preference(group: Sequence[Blob]) -> list[Blob]:
    longest = max((blob.duration or 0.0 for blob in group), default=0.0)

    def rank(blob: Blob) -> tuple[bool, int]:
        only_a_part = blob.duration is not None and longer(longest, blob.duration)
        return only_a_part, PREFERENCE.index(blob.name.kind)

    return sorted(group, key=rank)
