"""Proves a conversation complete, or tells what is missing, doubled, still in Redis or among the dead letters.

What a blob holds is told by its metadata, so nothing is read or decrypted. The same audio under several names, as an
interrupted conversion leaves it, counts once, as in a download. The proof needs the `seq` of chunks; without it only
the times can be compared, and silence of the pusher looks like a loss. A conversation into which others were merged
can't be proved: their numbers begin at 0 too.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from codec.seqs import Span, count, doubled, from_text, merged, shown, without
from worker.archive.continuity import Seam, Stretch, seams
from worker.archive.listing import Blob, list_blobs
from worker.archive.twins import Source, sources
from worker.batch import Conversation, EntryId, entry_order
from worker.stores import Store
from worker.stream.client import Client
from worker.stream.dead import DeadLetters, Letter
from worker.stream.facts import Announced, HeldChunk, announcements, deleted_ms, held_chunks
from worker.stream.keys import Keys


@dataclass(frozen=True, slots=True)
class Evidence:
    """Everything that is known of a conversation.

    `deleted_ms` is Redis' time of its deletion, `announced` are the done events since.
    """

    blobs: Sequence[Blob]
    held: Sequence[HeldChunk] = ()
    letters: Sequence[Letter] = ()
    deleted_ms: int | None = None
    announced: Sequence[Announced] = ()

    @property
    def absent(self) -> list[str]:
        """Objects that are announced and not in the store, also not under another name."""
        stored = {blob.path for blob in self.blobs} | {blob.facts.first_entry for blob in self.blobs}
        return [event.object for event in self.announced if stored.isdisjoint((event.object, event.first_entry))]


@dataclass(frozen=True, slots=True)
class Report:
    """What the evidence proves.

    `waiting` are chunks that only Redis holds. If chunks are `numbered`, `missing` and `doubled` are exact but for the
    `unnumbered` blobs, which don't tell what they hold; else `seams` is all there is to judge by.
    """

    evidence: Evidence
    waiting: Sequence[HeldChunk]
    numbered: bool
    last_seq: int | None
    missing: Sequence[Span]
    doubled: Sequence[Span]
    unnumbered: Sequence[Blob]
    seams: Sequence[Seam]

    @property
    def complete(self) -> bool:
        """Whether every chunk is stored exactly once, as far as anybody can know."""
        return not list(self.problems())

    def problems(self) -> Iterator[str]:
        """What speaks against completeness, in sentences."""
        evidence = self.evidence
        if not (evidence.blobs or self.waiting or evidence.letters or evidence.absent):
            yield "nothing is known of this conversation"
        if evidence.absent:
            first, number = evidence.absent[0], len(evidence.absent)
            yield f"done, but not in the store: {number} of the blobs, first {first}; in a spool, or deleted since"
        if evidence.deleted_ms is not None:
            yield "it was deleted"
        if self.missing:
            yield f"missing: seq {shown(self.missing)} ({_chunks(count(self.missing))})"
        if self.doubled:
            yield f"doubled: seq {shown(self.doubled)} ({_chunks(count(self.doubled))})"
        if self.numbered and self.unnumbered:
            yield f"not provable: of {len(evidence.blobs)} blobs, {len(self.unnumbered)} don't tell which seq they hold"
        if self.waiting:
            yield f"still in Redis: {_listed(self.waiting)}"
        if evidence.letters:
            yield f"in the dead letters: {_listed(evidence.letters)}"
        if not self.numbered:
            yield from _doubts(self.seams)


def audit(evidence: Evidence, *, gap_tolerance: float, last_seq: int | None = None) -> Report:
    """Judge the evidence.

    Args:
        evidence: what is known.
        gap_tolerance: seconds by which blobs may be off their place in time without a seam.
        last_seq: the number of the last chunk that was pushed, if somebody knows; else the highest one seen.
    """
    found = sources(evidence.blobs)
    told = {blob.path: from_text(blob.facts.seqs) for blob in _heard(found)}
    stored = [span for spans in told.values() for span in spans or ()]
    waiting = [chunk for chunk in evidence.held if not any(_holds(blob, chunk.entry) for blob in evidence.blobs)]
    elsewhere = [*_seqs(waiting), *_seqs(evidence.letters)]
    known = merged([*stored, *elsewhere])
    if last_seq is None and known:
        last_seq = known[-1].last
    return Report(
        evidence,
        waiting=waiting,
        numbered=last_seq is not None or any(blob.facts.seqs for blob in evidence.blobs),
        last_seq=last_seq,
        missing=[] if last_seq is None else without([Span(0, last_seq)], known),
        doubled=doubled(stored),
        unnumbered=[blob for blob in _heard(found) if count(told[blob.path] or ()) < (blob.facts.chunks or 1)],
        seams=list(seams(map(_stretch, _outermost(found)), gap_tolerance)),
    )


async def collect(client: Client, keys: Keys, partition: int, store: Store, conversation: Conversation) -> Evidence:
    """Gather the evidence: Redis first, because audio moves from there to the store while we look.

    Raises:
        BadName: an id can't be part of an object's name.
        StreamError: Redis can't be read.
        StoreError: the store can't be listed.
    """
    held = await held_chunks(client, keys, partition, conversation)
    letters = [
        letter
        async for letter in DeadLetters(client, keys).list(partition)
        if (letter.uid, letter.conversation_id) == conversation
    ]
    deleted = await deleted_ms(client, keys, partition, conversation)
    announced = await announcements(client, keys, partition, conversation, since_ms=deleted or 0)
    listing = await list_blobs(store, *conversation)
    return Evidence(listing.blobs, held, letters, deleted, announced)


def _holds(blob: Blob, entry: EntryId) -> bool:
    first, last = blob.facts.first_entry, blob.facts.last_entry
    if first is None or last is None:
        return False
    try:
        return entry_order(first) <= entry_order(entry) <= entry_order(last)
    except ValueError:
        return False


def _seqs(found: Sequence[HeldChunk] | Sequence[Letter]) -> list[Span]:
    numbers = [item.facts.seq if isinstance(item, HeldChunk) else item.chunk.seq for item in found]
    return [Span(number, number) for number in numbers if number is not None]


def _listed(found: Sequence[HeldChunk] | Sequence[Letter]) -> str:
    spans = merged(_seqs(found))
    return f"seq {shown(spans)} ({_chunks(len(found))})" if spans else _chunks(len(found))


def _chunks(number: int) -> str:
    return "1 chunk" if number == 1 else f"{number} chunks"


def _heard(found: Iterable[Source]) -> list[Blob]:
    """Of the same audio under several names the best."""
    return [source.alternatives[0] for source in found]


def _outermost(found: Iterable[Source]) -> Iterator[Source]:
    """Without those that seem to be parts of a range: chunks of other writers, named within it."""
    reached = -1.0
    for source in found:
        best = source.alternatives[0]
        if source.start > reached or best.facts.first_entry is not None:
            yield source
        reached = max(reached, *(blob.name.end or reached for blob in source.alternatives))


def _stretch(source: Source) -> Stretch:
    known = (blob.duration for blob in source.alternatives if blob.duration is not None)
    return Stretch(source.alternatives[0].path, source.start, next(known, None))


def _doubts(seams: Sequence[Seam]) -> Iterator[str]:
    gaps = [seam.seconds for seam in seams if seam.seconds > 0]
    overlaps = [-seam.seconds for seam in seams if seam.seconds < 0]
    for what, found in (("no audio", gaps), ("audio over audio", overlaps)):
        if found:
            yield f"{what} for {sum(found):.1f} s in {len(found)} places, and no seq to tell why"
