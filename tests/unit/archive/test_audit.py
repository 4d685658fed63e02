"""The audit: complete only what is stored whole and once, and exact about the rest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import pytest

from codec.crypto import key_id
from codec.manifest import Manifest
from codec.seqs import Span
from tests.support.secret import TEST_SECRET
from worker.archive.audit import AuditReport, AuditVerdict, Evidence, audit_conversation
from worker.archive.blobs.listing import Blob
from worker.model.done_event import DoneEvent
from worker.stores.base import BlobInfo
from worker.stream.inspection.conversation_view import ChunkFacts, HeldChunk
from worker.stream.inspection.dead_letters import DeadLetter

TOLERANCE = 2.0
MANY = [number.to_bytes(8, "big") for number in range(600)]
NOTHING: Mapping[str, str] = MappingProxyType({})


def event_of(name: str, stream: str | None = None, digest: str | None = None) -> DoneEvent:
    return DoneEvent("u", "c", name, first_entry="1-0", stream=stream, chunks_digest=digest)


def blob(
    start: float,
    seqs: str | None = None,
    *,
    seconds: float = 5,
    chunks: int = 5,
    entry: str = "1-0",
    more: Mapping[str, str] = NOTHING,
) -> Blob:
    metadata = {"sample-rate": "16000", "samples": str(round(16000 * seconds)), "chunks": str(chunks)}
    metadata |= {"first-entry": entry} | ({} if seqs is None else {"seqs": seqs})
    metadata |= more
    return Blob.of(BlobInfo(f"chunks/u/c/{start:.3f}.opus", 1000, metadata))


def facts(seq: int | None, session: str = "") -> ChunkFacts:
    return ChunkFacts(session, seq, 1000.0, 16000, 16000)


def held(seq: int | None, *, session: str = "", identity: bytes | None = None) -> HeldChunk:
    return HeldChunk("9-0", facts(seq, session), identity)


def holding(*identities: bytes, secret: str = TEST_SECRET) -> dict[str, str]:
    """The manifest of a blob that holds these chunks."""
    return Manifest.of("5d" * 16, b"".join(identities), 1000, 7).to_mapping("u", "c", secret)


def letter(seq: int | None) -> DeadLetter:
    return DeadLetter(0, "9-1", "poison", "8-0", 100, 5, "u", "c", facts(seq))


def judged(
    *evidence: Blob | HeldChunk | DeadLetter,
    last_seq: int | None = None,
    deleted: str | None = None,
    secrets: Sequence[str] = (),
) -> AuditReport:
    return audit_conversation(
        Evidence(
            [item for item in evidence if isinstance(item, Blob)],
            [item for item in evidence if isinstance(item, HeldChunk)],
            [item for item in evidence if isinstance(item, DeadLetter)],
            deleted,
            secrets=secrets,
        ),
        gap_tolerance=TOLERANCE,
        last_seq=last_seq,
    )


def test_consecutive_numbers_prove_a_conversation_complete() -> None:
    report = judged(blob(0, "0-4"), blob(5, "5-9"))

    assert report.complete
    assert report.last == {"": 9}


@pytest.mark.parametrize(
    ("report", "problem"),
    [
        (judged(), "nothing is known of this conversation"),
        (judged(blob(0, "0-4"), blob(8, "8-12")), "missing: seq 5-7 (3 chunks)"),
        (judged(blob(0, "1-5")), "missing: seq 0 (1 chunk)"),
        (judged(blob(0, "0-4"), last_seq=6), "missing: seq 5-6 (2 chunks)"),
        (judged(blob(0, "0-4"), blob(3, "3-7")), "doubled: seq 3-4 (2 chunks)"),
        (judged(blob(0, "0-4"), held(5), held(6)), "still in Redis: seq 5-6 (2 chunks)"),
        (judged(blob(0, "0-4"), held(None)), "still in Redis: 1 chunk"),
        (judged(blob(0, "0-4"), letter(5)), "in the dead letters: seq 5 (1 chunk)"),
        (judged(blob(0, "0-4"), blob(5)), "not provable: of 2 blobs, 1 don't tell which seq they hold"),
        (judged(blob(0, "0-3", chunks=5)), "not provable: of 1 blobs, 1 don't tell which seq they hold"),
        (judged(blob(0, "#900", chunks=900), last_seq=0), "missing: seq 0 (1 chunk)"),
        (judged(blob(0, "0-4"), deleted="5-0"), "it was deleted"),
        (judged(blob(0, "a:0-4"), blob(5, "b:1-5")), "missing: session b: seq 0 (1 chunk)"),
        (judged(blob(0, "a:0-4", more={"ends": "a:7"})), "missing: session a: seq 5-6 (2 chunks)"),
        (judged(blob(0, "a:0-4"), blob(5, "a:4-8")), "doubled: session a: seq 4 (1 chunk)"),
        (judged(blob(0, "a:0-4"), held(5, session="a")), "still in Redis: session a: seq 5 (1 chunk)"),
        (
            judged(blob(0, "1-5", more={"copied-from": "other/0.000.opus"})),
            "missing: copied from other: seq 0 (1 chunk)",
        ),
        (judged(blob(0), blob(9)), "no audio for 4.0 s in 1 places, and no seq to tell why"),
        (judged(blob(0), blob(2)), "audio over audio for 3.0 s in 1 places, and no seq to tell why"),
    ],
)
def test_whatever_speaks_against_completeness_is_told(report: AuditReport, problem: str) -> None:
    assert problem in list(report.problems())
    assert not report.complete


@pytest.mark.parametrize(
    ("report", "verdict"),
    [
        (judged(blob(0, "0-4")), AuditVerdict.COMPLETE),
        (judged(blob(0), blob(5)), AuditVerdict.COMPLETE),
        (judged(), AuditVerdict.UNKNOWN),
        (judged(blob(0, "0-4"), blob(5)), AuditVerdict.UNKNOWN),
        (judged(blob(0, "#300", chunks=300)), AuditVerdict.UNKNOWN),
        (judged(blob(0, "#600", chunks=600, more=holding(*MANY)), held(7, session="a")), AuditVerdict.UNKNOWN),
        (judged(blob(0, "0-599", chunks=600, more=holding(*MANY)), held(600)), AuditVerdict.INCOMPLETE),
        (judged(blob(0, "0-4"), blob(8, "8-12")), AuditVerdict.INCOMPLETE),
        (judged(blob(0, "0-4"), blob(8, "8-12"), blob(13)), AuditVerdict.UNKNOWN),  # it may hold 5-7
        (judged(blob(0, "0-4"), blob(3, "3-7"), blob(13)), AuditVerdict.INCOMPLETE),
        (judged(blob(0, "#300", chunks=300), letter(5)), AuditVerdict.INCOMPLETE),
        (judged(deleted="5-0"), AuditVerdict.INCOMPLETE),
        (judged(blob(0), blob(9)), AuditVerdict.INCOMPLETE),
    ],
)
def test_what_can_not_be_told_is_neither_complete_nor_incomplete(report: AuditReport, verdict: AuditVerdict) -> None:
    assert report.verdict is verdict


def test_chunks_in_redis_or_in_the_dead_letters_are_not_missing() -> None:
    assert judged(blob(0, "0-4"), held(5), letter(6), blob(7, "7-11")).missing == {}


def test_chunk_that_a_blob_is_proven_to_hold_is_stored_although_redis_has_it_too() -> None:
    stored = blob(0, "0-4", more=holding(b"the one.", b"another.", b"a third.", b"a fourth", b"a fifth."))

    assert judged(stored, held(2, identity=b"a third."), secrets=[TEST_SECRET]).complete
    assert judged(stored, held(2, identity=b"a third.")).complete
    assert not judged(stored, held(2, identity=b"new one."), secrets=[TEST_SECRET]).complete


def test_what_nobody_authenticates_proves_nothing() -> None:
    forged = blob(0, "0-0", chunks=1, more=holding(b"the one.", secret="somebody else's secret of 32 bytes"))

    assert not judged(forged, held(0, identity=b"the one."), secrets=[TEST_SECRET]).complete


def test_numbers_that_nobody_authenticates_do_not_hide_a_loss() -> None:
    """Who may write to the bucket changes what a blob says of itself: its own numbers, or the end's."""
    facts = {"seqs": "0", "ends": "2"}
    manifest = Manifest.of("5d" * 16, b"the one.", 1000, 7).to_mapping("u", "c", TEST_SECRET, facts=facts)

    def told(**changes: str) -> AuditReport:
        return judged(blob(0, chunks=1, more={**facts, **manifest, **changes}), secrets=[TEST_SECRET])

    assert told().missing == {"": [Span(1, 1)]}
    assert told().verdict is AuditVerdict.INCOMPLETE
    assert told(seqs="0-1").verdict is told(ends="1").verdict is AuditVerdict.UNKNOWN
    assert not told(seqs="0-1").last
    del facts["ends"]
    assert told().verdict is AuditVerdict.UNKNOWN


def test_blobs_of_another_secret_neither_prove_nor_disprove_and_the_secret_is_named() -> None:
    before = "the secret that was in use before, 32 bytes"
    more = holding(b"the one.", secret=before) | {"key-id": key_id(before)}
    second = holding(b"the two.", secret=before) | {"key-id": key_id(before)}
    stored = [blob(0, "a:0", chunks=1, more=more), blob(5, "a:1", chunks=1, more=second)]
    chunk = held(0, session="a", identity=b"the one.")

    asked = judged(*stored, chunk, secrets=[TEST_SECRET])

    assert asked.verdict is AuditVerdict.UNKNOWN
    assert asked.undecided == [chunk]
    [in_redis, secret] = asked.problems()
    assert in_redis == "not provable: 1 chunk in Redis may be in blobs that another secret authenticates"
    assert f"2 blobs are encrypted with the secret {key_id(before)}, which is neither ENCRYPTION_SECRET" in secret
    assert judged(*stored, chunk, secrets=[TEST_SECRET, before]).complete
    assert judged(*stored, held(9, session="a"), secrets=[TEST_SECRET]).verdict is AuditVerdict.INCOMPLETE


def test_blob_of_another_secret_may_be_the_one_that_was_announced() -> None:
    before = "the secret that was in use before, 32 bytes"
    more = holding(b"the one.", secret=before) | {"key-id": key_id(before)}
    event = event_of("chunks/u/c/0.001.opus", more["stream"], more["chunks-digest"])

    assert Evidence([blob(0, "0-0", chunks=1, more=more)], announced=[event], secrets=[TEST_SECRET]).absent == []


def test_chunk_of_a_blob_that_can_not_list_them_is_told_by_session_and_number() -> None:
    identities = [number.to_bytes(8, "big") for number in range(600)]
    stored = blob(0, "a:0-599", chunks=600, more=holding(*identities))

    assert judged(stored, held(7, session="a", identity=identities[7])).complete
    assert not judged(stored, held(7, session="b", identity=identities[7])).complete


def test_every_life_of_a_pusher_and_every_merged_conversation_counts_from_0() -> None:
    merged = blob(10, "0-4", more={"copied-from": "other/10.000.opus"})
    report = judged(blob(0, "a:0-4"), blob(5, "b:0-4", more={"ends": "b:5"}), merged)

    assert report.complete
    assert report.last == {"a": 4, "b": 4, "other/": 4}


def test_numbers_that_are_only_counted_prove_nothing() -> None:
    report = judged(blob(0, "#300", chunks=300))

    assert report.numbered
    assert list(report.problems()) == ["not provable: of 1 blobs, 1 don't tell which seq they hold"]


def test_blob_that_got_another_name_is_not_absent() -> None:
    stored = blob(0, "0-4", entry="1-0", more={"stream": "5d" * 16, "chunks-digest": "0b" * 16})
    renamed = event_of("chunks/u/c/0.001.opus", "5d" * 16, "0b" * 16)
    of_an_older_version = event_of("chunks/u/c/0.002.opus")
    other = event_of("chunks/u/c/5.000.opus", "1c" * 16, "0b" * 16)

    assert Evidence([stored], announced=[renamed, of_an_older_version, other]).absent == [other.object]


def test_renamed_blob_that_nobody_authenticates_does_not_stand_for_an_announced_one() -> None:
    proven, forged = holding(b"the one."), holding(b"the one.", secret="somebody else's secret of 32 bytes")
    event = event_of("chunks/u/c/0.001.opus", proven["stream"], proven["chunks-digest"])

    def absent(more: Mapping[str, str], *secrets: str) -> list[str]:
        return Evidence([blob(0, "0-0", chunks=1, more=more)], announced=[event], secrets=secrets).absent

    assert absent(proven, TEST_SECRET) == []
    assert absent(forged, TEST_SECRET) == [event.object]
    assert absent(forged) == []


@pytest.mark.parametrize("secrets", [[], [TEST_SECRET]])
def test_manifest_of_another_object_proves_nothing(secrets: list[str]) -> None:
    other = Manifest.of("5d" * 16, b"the one.", 999, 7).to_mapping("u", "c", TEST_SECRET)

    assert not judged(blob(0, "0-0", chunks=1, more=other), held(0, identity=b"the one."), secrets=secrets).complete


@pytest.mark.parametrize(
    ("seqs", "chunk", "undecided"),
    [
        ("0-599", held(7), True),  # it may be that one, or of a pusher that restarted
        ("0-599", held(600), False),
        ("#600", held(7, session="a"), True),
        (None, held(None), True),
        ("a:0-599", held(7, session="b"), False),
    ],
)
def test_chunk_that_may_be_in_a_blob_that_lists_none_is_not_provable(
    seqs: str | None, chunk: HeldChunk, undecided: bool
) -> None:
    identities = [number.to_bytes(8, "big") for number in range(600)]
    report = judged(blob(0, seqs, chunks=600, more=holding(*identities)), chunk)
    problem = "not provable: 1 chunk in Redis may be in blobs that list no identities"

    assert report.waiting == [chunk]
    assert (problem in report.problems()) is undecided


def test_numbers_excuse_a_pause_of_the_pusher() -> None:
    report = judged(blob(0, "0-4"), blob(100, "5-9"))

    assert report.complete
    assert [(discontinuity.ended, discontinuity.seconds) for discontinuity in report.discontinuities] == [(5.0, 95.0)]


def test_jitter_of_timestamps_is_no_gap() -> None:
    assert judged(blob(0), blob(5 + TOLERANCE), blob(10)).complete


@pytest.mark.parametrize("seqs", ["0-4", None])
def test_blob_beside_the_one_it_was_converted_from_counts_once(seqs: str | None) -> None:
    old = Blob.of(BlobInfo("chunks/u/c/0.000.bin", 160_000, {"chunks": "5"} | ({} if seqs is None else {"seqs": seqs})))

    report = judged(old, blob(0, seqs), blob(5, seqs and "5-9"))

    assert list(report.problems()) == []
    assert report.discontinuities == []


def test_length_that_only_a_duplicate_tells_is_told() -> None:
    name, described = "chunks/u/c/0.000", blob(5)
    duplicates = [Blob.of(BlobInfo(f"{name}.bin", 160_000)), Blob.of(BlobInfo(f"{name}.opus", 1000))]

    assert judged(*duplicates, described).complete
    assert not judged(*duplicates, blob(20)).complete


def test_singles_beside_the_range_that_was_made_of_them_are_no_overlap() -> None:
    singles = [Blob.of(BlobInfo(f"chunks/u/c/{start:.3f}.bin", 160_000)) for start in (1000, 1005)]
    whole = Blob.of(BlobInfo("chunks/u/c/1000.000-1005.000.batch.bin", 320_000))

    assert judged(singles[0], whole, singles[1], blob(1010)).discontinuities == []
