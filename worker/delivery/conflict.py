"""Decide by the manifest of an object what it means for a batch, never by names or ranges of ids.

The bucket is the truth. Redis may have forgotten, because a failover loses its latest writes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from codec.manifest import Manifest, digest_of, verified
from codec.metadata import BlobMetadata
from worker.model.causes import Verdict
from worker.model.ids import START, EntryId, entry_order
from worker.model.seal import Seal
from worker.stores.base import BlobInfo


@dataclass(frozen=True, slots=True)
class Judgement:
    """The verdict, and which of the pending entries the found object holds."""

    verdict: Verdict
    covered: tuple[EntryId, ...] = ()
    manifest: Manifest | None = None


@dataclass(frozen=True, slots=True)
class Claim:
    """The batch at hand: its seal, its manifest, and the identities of its chunks by entry, as far as they are known.

    `born` is that of `StreamIdentity`.
    """

    seal: Seal
    manifest: Manifest
    chunks: Mapping[EntryId, bytes]
    born: EntryId = START


def judge(claim: Claim, found: BlobInfo, pending: Mapping[EntryId, bytes], secrets: Sequence[str]) -> Judgement:
    """Compare a batch with an object.

    `pending` holds the identities of all entries of the conversation that this owner knows to be pending. Only a
    manifest that the user's key authenticates counts, and only one of the same stream. For entries up to `born`, which
    are older than the stream's id, a manifest of any stream counts.
    """
    seal, chunks = claim.seal, claim.chunks
    manifest = verified(found.metadata, *seal.conversation, all_secrets=secrets)
    if manifest is None or not seal.stream:
        return Judgement(Verdict.FOREIGN)
    is_kin = manifest.stream == seal.stream
    if not is_kin:
        chunks, pending = _up_to(claim.born, chunks), _up_to(claim.born, pending)
    same = manifest.digest == claim.manifest.digest and (is_kin or len(chunks) == manifest.chunks)
    covered = seal.entries if same else _covered(manifest, found, {**pending, **chunks})
    if not same and not chunks.keys() & set(covered):
        return Judgement(Verdict.FOREIGN)
    if not manifest.fits(found.size, found.crc32c):
        return Judgement(Verdict.DAMAGED)
    return Judgement(Verdict.SAME if same else Verdict.PART, covered, manifest)


def _up_to(last: EntryId, chunks: Mapping[EntryId, bytes]) -> dict[EntryId, bytes]:
    return {entry: identity for entry, identity in chunks.items() if entry_order(entry) <= entry_order(last)}


def _covered(manifest: Manifest, found: BlobInfo, known: Mapping[EntryId, bytes]) -> tuple[EntryId, ...]:
    stored = stored_identities(manifest, found, known)
    return tuple(entry for entry in sorted(known, key=entry_order) if known[entry] in stored)


def stored_identities(manifest: Manifest, found: BlobInfo, known: Mapping[EntryId, bytes]) -> set[bytes]:
    """The identities of the chunks that an object holds, as far as its manifest proves them.

    If the manifest has only a digest, and the known entries are not all of its chunks, the result is empty. The first
    entry in the metadata is a hint where to look; the digest is the proof.
    """
    if manifest.identities is not None:
        return set(manifest.listed())
    first = BlobMetadata.from_mapping(found.metadata).first_entry
    entries = sorted(known, key=entry_order)
    if first is None or first not in known:
        return set()
    begin = entries.index(first)
    run = list(dict.fromkeys(known[entry] for entry in entries[begin:]))[: manifest.chunks]
    return set(run) if digest_of(b"".join(run)) == manifest.digest else set()
