"""Proves a conversation complete, or tells which chunks are missing, doubled, still in Redis or dead letters.

The metadata of a blob tells which chunks it holds, so the audit reads and decrypts no blob. Alternatives, for example
those that an interrupted conversion leaves, count once, as in a download. The proof needs the `seq` of chunks. Without
it only the times can be compared, and silence of the pusher looks like a loss.

Numbers count within a session, and within the conversation that chunks were pushed to. So each numbering has a name:
its session, or "" without one. "conversation/" precedes it for blobs that were copied from another conversation.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from codec.manifest import Manifest, claimed, verified
from codec.seqs import Span, count, doubled, format_spans, merged, without
from codec.sessions import Numbers, from_text
from codec.sessions import count as numbers_in
from worker.archive.blobs.alternatives import AudioAlternatives, group_alternatives
from worker.archive.blobs.key_ids import missing_secret, missing_secrets
from worker.archive.blobs.listing import Blob, UnknownObject, list_blobs
from worker.archive.blobs.provenance import COPIED
from worker.archive.upkeep.continuity import Discontinuity, Interval, discontinuities_in
from worker.model.done_event import DoneEvent
from worker.model.ids import START, EntryId, entry_order
from worker.stores.base import Store
from worker.stream.inspection.conversation_view import ChunkFacts, ConversationView, HeldChunk
from worker.stream.inspection.dead_letters import DeadLetter, DeadLetters


@dataclass(frozen=True, slots=True)
class Evidence:
    """All facts that are known about a conversation.

    `deleted` is the last entry that its deletion covers, `announced` are the done events after it. `secrets`
    authenticate manifests; without secrets, the audit believes what blobs say of themselves. `unknown` are objects
    among the blobs that are none.
    """

    blobs: Sequence[Blob]
    held: Sequence[HeldChunk] = ()
    letters: Sequence[DeadLetter] = ()
    deleted: EntryId | None = None
    announced: Sequence[DoneEvent] = ()
    secrets: Sequence[str] = ()
    unknown: Sequence[UnknownObject] = ()

    @property
    def absent(self) -> list[str]:
        """Objects that were announced but are not in the store, also not under another name."""
        names = {blob.path for blob in self.blobs}
        held = set(map(self._content, self.blobs))
        entries = {blob.facts.first_entry for blob in self.blobs}
        return [
            event.object
            for event in self.announced
            if event.object not in names
            and (event.stream or "", event.chunks_digest or "") not in held
            and (event.stream or event.first_entry not in entries)  # events of older versions tell only this
        ]

    def manifest(self, blob: Blob) -> Manifest | None:
        """What a blob proves to hold (without secrets: claims); None if the object is not the one that was uploaded."""
        info, name = blob.info, blob.name
        if self.secrets:
            manifest = verified(info.metadata, name.uid, name.conversation_id, all_secrets=self.secrets)
        else:
            manifest = claimed(info.metadata)
        if manifest is None:
            return None
        crc32c = manifest.crc32c if info.crc32c is None else info.crc32c  # not every listing gives it
        return manifest if manifest.fits(info.size, crc32c) else None

    def lacks_the_secret(self, blob: Blob) -> bool:
        """Whether a blob names a secret that is not among the given ones: then it can neither prove nor disprove."""
        return bool(self.secrets) and missing_secret(blob, self.secrets) is not None

    def numbering(self, blob: Blob) -> tuple[Numbers, Numbers]:
        """The numbers that a blob holds, and those that ends told; none where a manifest is due and proves nothing.

        A copy has none: it counts in a numbering of its own. A blob of an unknown secret is a doubt in any case.
        """
        due = self.secrets and COPIED not in blob.info.metadata and not self.lacks_the_secret(blob)
        if due and self.manifest(blob) is None:
            return {}, {}
        return from_text(blob.facts.seqs) or {}, from_text(blob.facts.ends) or {}

    def _content(self, blob: Blob) -> tuple[str | None, str | None]:
        """Stream and digest of a blob's chunks; done events have the same two."""
        if not self.secrets or self.lacks_the_secret(blob):
            return blob.facts.stream, blob.facts.chunks_digest
        manifest = self.manifest(blob)
        return (None, None) if manifest is None else (manifest.stream, manifest.digest)


class AuditVerdict(StrEnum):
    """The answer of an audit."""

    COMPLETE = "complete"
    INCOMPLETE = "incomplete"  # something is missing, doubled, deleted or not stored yet; without seq, there is a gap
    UNKNOWN = "unknown"  # nothing speaks against it, but it can't be proven


@dataclass(frozen=True, slots=True)
class AuditReport:
    """The conclusions from the evidence.

    `waiting` are chunks in Redis that are not proven to be in a blob. `undecided` are those of them that may be in a
    blob without listed identities. If chunks are `numbered`, `missing` and `doubled` are exact, except for the
    `unnumbered` blobs, which don't tell which numbers they hold. Otherwise only `discontinuities` show a loss, except
    beside the `unmeasured` blobs, which don't tell their length. `last` has the last number of each numbering.
    """

    evidence: Evidence
    waiting: Sequence[HeldChunk]
    undecided: Sequence[HeldChunk]
    numbered: bool
    last: Mapping[str, int]
    missing: Numbers
    doubled: Numbers
    unnumbered: Sequence[Blob]
    discontinuities: Sequence[Discontinuity]
    unmeasured: Sequence[Interval] = ()

    @property
    def complete(self) -> bool:
        """Whether every chunk is stored exactly once, as far as the evidence shows."""
        return self.verdict is AuditVerdict.COMPLETE

    @property
    def verdict(self) -> AuditVerdict:
        """The answer to the question whether the conversation is stored complete."""
        if any(self._faults()):
            return AuditVerdict.INCOMPLETE
        return AuditVerdict.UNKNOWN if any(self._doubts()) else AuditVerdict.COMPLETE

    def problems(self) -> Iterator[str]:
        """The reasons against completeness, as sentences: first what speaks against it, then what can't be told."""
        yield from self._faults()
        yield from self._doubts()

    def _faults(self) -> Iterator[str]:
        evidence = self.evidence
        if evidence.absent:
            first, number = evidence.absent[0], len(evidence.absent)
            yield f"done, but not in the store: {number} of the blobs, first {first}; in a spool, or deleted since"
        if evidence.deleted is not None:
            yield "it was deleted"
        if not self.unnumbered:
            yield from _sentences("missing", self.missing)
        yield from _sentences("doubled", self.doubled)
        if surely := [chunk for chunk in self.waiting if chunk not in self.undecided]:
            yield f"still in Redis: {_listed(surely)}"
        if evidence.letters:
            yield f"in the dead letters: {_listed(evidence.letters)}"
        if not self.numbered:
            yield from _discontinuities(self.discontinuities)

    def _doubts(self) -> Iterator[str]:
        evidence = self.evidence
        if not (evidence.blobs or self.waiting or evidence.letters or evidence.absent):
            yield "nothing is known of this conversation"
        if self.unnumbered:  # these may hold them
            yield from _sentences("missing", self.missing)
        if self.numbered and self.unnumbered:
            yield f"not provable: of {len(evidence.blobs)} blobs, {len(self.unnumbered)} don't tell which seq they hold"
        if flawed := [blob for blob in evidence.blobs if blob.info.flaw]:
            yield f"not provable: the metadata of {_of(flawed, evidence.blobs)} can't be read, first {flawed[0].path}"
        if self.unmeasured and not self.numbered:
            told, first = _of(self.unmeasured, evidence.blobs), self.unmeasured[0].name
            yield f"not provable: no chunk has a seq, and the length of {told} is not known, first {first}"
        if self.undecided:
            yield f"not provable: {_chunks(len(self.undecided))} in Redis may be in blobs that {self._silence}"
        yield from (f"not provable: {reason}" for reason in missing_secrets(evidence.blobs, evidence.secrets))

    @property
    def _silence(self) -> str:
        """Why blobs don't prove which chunks they hold."""
        unreadable = any(map(self.evidence.lacks_the_secret, self.evidence.blobs))
        return "another secret authenticates" if unreadable else "list no identities"


def audit_conversation(evidence: Evidence, *, gap_tolerance: float, last_seq: int | None = None) -> AuditReport:
    """Judge the evidence.

    Args:
        evidence: the known facts.
        gap_tolerance: seconds by which blobs may be off their place in time without a discontinuity.
        last_seq: the number of the last chunk that was pushed without a session, if it is known. Otherwise, and for
            each session, an end tells it, or the highest number seen counts.
    """
    found = group_alternatives(evidence.blobs)
    numbering = {blob.path: evidence.numbering(blob) for blob in _heard(found)}
    told = {path: numbers for path, (numbers, _) in numbering.items()}
    stored = _joined(_within(blob, told[blob.path]) for blob in _heard(found))
    intervals = list(map(_interval, _outermost(found)))
    waiting = list(_only_in_redis(evidence))
    elsewhere = [_numbers(waiting), _numbers(evidence.letters)]
    known = _joined([stored, *elsewhere])
    ends = [_within(blob, numbering[blob.path][1]) for blob in _heard(found)]
    last = _last(known, ends) | ({} if last_seq is None else {"": last_seq})
    missing = {name: without([Span(0, last[name])], known.get(name, ())) for name in last}
    return AuditReport(
        evidence,
        waiting=waiting,
        undecided=list(_undecided(evidence, waiting)),
        numbered=bool(last) or any(blob.facts.seqs for blob in evidence.blobs),
        last=last,
        missing=_present(missing),
        doubled=_present({name: doubled(spans) for name, spans in stored.items()}),
        unnumbered=[blob for blob in _heard(found) if numbers_in(told[blob.path]) < (blob.facts.chunks or 1)],
        discontinuities=list(discontinuities_in(intervals, gap_tolerance)),
        unmeasured=[interval for interval in intervals if interval.seconds is None],
    )


async def collect(views: Sequence[ConversationView], store: Store, secrets: Sequence[str]) -> Evidence:
    """Gather the evidence: Redis first, because audio moves from Redis to the store meanwhile.

    `views` are of one conversation: more than one while the number of partitions is being changed.

    Raises:
        BadName: an id can't be part of an object's name.
        StreamError: Redis can't be read.
        StoreError: the store can't be listed.
    """
    held: list[HeldChunk] = []
    letters: list[DeadLetter] = []
    deletions: list[EntryId] = []
    announced: list[DoneEvent] = []
    for view in views:
        held += await view.held_chunks()
        letters += [
            letter
            async for letter in DeadLetters(view.client, view.keys).list(view.partition)
            if (letter.uid, letter.conversation_id) == view.conversation
        ]
        deleted = await view.deletion()
        deletions += [] if deleted is None else [deleted]
        announced += await view.announcements(after=deleted or START)
    listing = await list_blobs(store, *views[0].conversation)
    last = max(deletions, key=entry_order, default=None)
    return Evidence(listing.blobs, held, letters, last, announced, secrets, listing.unknown)


def _only_in_redis(evidence: Evidence) -> Iterator[HeldChunk]:
    """Held chunks that no blob proves to hold, by identity, or by session and seq if it lists no identities."""
    manifests = [manifest for blob in evidence.blobs if (manifest := evidence.manifest(blob)) is not None]
    listed = {identity for manifest in manifests for identity in manifest.listed()}
    counted = _joined(from_text(blob.facts.seqs) or {} for blob in _unlisted(evidence))
    for chunk in evidence.held:
        # Without a session a number proves nothing: a pusher that restarts uses it again.
        is_counted = bool(chunk.facts.session) and _has(counted, chunk.facts)
        if chunk.identity not in listed and not is_counted:
            yield chunk


def _undecided(evidence: Evidence, waiting: Sequence[HeldChunk]) -> Iterator[HeldChunk]:
    """Waiting chunks that may be in a blob without listed identities: it has their number, or not all its numbers.

    A blob that another secret authenticates proves nothing, but it may hold what it claims to.
    """
    foreign = filter(evidence.lacks_the_secret, evidence.blobs)
    manifests = [manifest for blob in foreign if (manifest := claimed(blob.info.metadata)) is not None]
    unproven = {identity for manifest in manifests for identity in manifest.listed()}
    unlisted = _unlisted(evidence)
    counted = _joined(from_text(blob.facts.seqs) or {} for blob in unlisted)
    silent = any(numbers_in(from_text(blob.facts.seqs) or {}) < (blob.facts.chunks or 1) for blob in unlisted)
    for chunk in waiting:
        if silent or chunk.identity in unproven or _has(counted, chunk.facts):
            yield chunk


def _unlisted(evidence: Evidence) -> list[Blob]:
    """Blobs with so many chunks that their manifests don't list the identities."""
    manifests = [(blob, evidence.manifest(blob)) for blob in evidence.blobs]
    return [blob for blob, manifest in manifests if manifest is not None and manifest.identities is None]


def _has(numbers: Numbers, facts: ChunkFacts) -> bool:
    if facts.seq is None:
        return False
    return not without([Span(facts.seq, facts.seq)], numbers.get(facts.session, ()))


def _numbers(found: Sequence[HeldChunk] | Sequence[DeadLetter]) -> Numbers:
    numbers: Numbers = {}
    for item in found:
        facts = item.facts if isinstance(item, HeldChunk) else item.chunk
        if facts.seq is not None:
            numbers.setdefault(facts.session, []).append(Span(facts.seq, facts.seq))
    return numbers


def _within(blob: Blob, numbers: Numbers) -> Numbers:
    """A blob's numbers under the names of their numberings."""
    source, slash, _ = blob.info.metadata.get(COPIED, "").partition("/")
    return {source + slash + session: spans for session, spans in numbers.items()}


def _last(known: Numbers, ends: Iterable[Numbers]) -> dict[str, int]:
    """The last number of each numbering: the one that an end tells, or the highest one seen."""
    last = {name: merged(spans)[-1].last for name, spans in known.items() if spans}
    for end in ends:
        for name, spans in end.items():
            told = max(span.last for span in spans) - 1
            last[name] = max(told, last.get(name, told))
    return {name: number for name, number in last.items() if number >= 0}


def _joined(several: Iterable[Numbers]) -> Numbers:
    joined: Numbers = {}
    for numbers in several:
        for name, spans in numbers.items():
            joined.setdefault(name, []).extend(spans)
    return joined


def _present(numbers: Mapping[str, list[Span]]) -> Numbers:
    return {name: spans for name, spans in numbers.items() if spans}


def named(numbering: str) -> str:
    """The words before the numbers of a numbering in a sentence: its source conversation and its session, if any."""
    source, slash, session = numbering.rpartition("/")
    copied = f"copied from {source}: " if slash else ""
    return copied + (f"session {session}: " if session else "")


def _sentences(what: str, numbers: Numbers) -> Iterator[str]:
    for numbering, spans in numbers.items():
        yield f"{what}: {named(numbering)}seq {format_spans(spans)} ({_chunks(count(spans))})"


def _listed(found: Sequence[HeldChunk] | Sequence[DeadLetter]) -> str:
    numbers = ", ".join(f"{named(name)}seq {format_spans(merged(spans))}" for name, spans in _numbers(found).items())
    return f"{numbers} ({_chunks(len(found))})" if numbers else _chunks(len(found))


def _chunks(number: int) -> str:
    return "1 chunk" if number == 1 else f"{number} chunks"


def _heard(found: Iterable[AudioAlternatives]) -> list[Blob]:
    """The best alternative of each."""
    return [source.alternatives[0] for source in found]


def _outermost(found: Iterable[AudioAlternatives]) -> Iterator[AudioAlternatives]:
    """Leave out those that seem to be parts of a range: chunks of other writers whose names lie within it."""
    reached = -1.0
    for source in found:
        best = source.alternatives[0]
        if source.start > reached or best.facts.first_entry is not None:
            yield source
        reached = max(reached, *(blob.name.end or reached for blob in source.alternatives))


def _interval(source: AudioAlternatives) -> Interval:
    known = (blob.duration for blob in source.alternatives if blob.duration is not None)
    return Interval(source.alternatives[0].path, source.start, next(known, None))


def _of(some: Sequence[object], blobs: Sequence[Blob]) -> str:
    return f"{len(some)} of {len(blobs)} blobs"


def _discontinuities(discontinuities: Sequence[Discontinuity]) -> Iterator[str]:
    gaps = [discontinuity.seconds for discontinuity in discontinuities if discontinuity.seconds > 0]
    overlaps = [-discontinuity.seconds for discontinuity in discontinuities if discontinuity.seconds < 0]
    for what, found in (("no audio", gaps), ("audio over audio", overlaps)):
        if found:
            yield f"{what} for {sum(found):.1f} s in {len(found)} places, and no seq to tell why"
