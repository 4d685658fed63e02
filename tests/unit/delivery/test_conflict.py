"""What an object is to our batch: its authenticated manifest tells, not its name nor a range of ids."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest

from codec.entry import Chunk
from codec.manifest import MAX_LISTED, Manifest
from tests.support.seals import SEAL
from tests.support.secret import TEST_SECRET
from worker.delivery.conflict import Claim, Judgement, judge
from worker.model.causes import Verdict
from worker.model.ids import EntryId, entry_order
from worker.stores.base import BlobInfo

STREAM, OTHER_STREAM = "5d" * 16, "0b" * 16
SIZE, CRC32C = 1000, 77
PENDING = ("5-0", "7-0", "9-0", "11-0", "12-0", "100-0")
OURS = replace(SEAL, entries=PENDING[:4], markers=(), stream=STREAM)


def identity(entry: EntryId) -> bytes:
    return Chunk("u", "c", float(entry.replace("-", ".")), bytes(640)).identity()


def identities(*entries: EntryId) -> dict[EntryId, bytes]:
    return {entry: identity(entry) for entry in entries}


def manifest(*entries: EntryId, stream: str = STREAM) -> Manifest:
    return Manifest.of(stream, b"".join(map(identity, entries)), SIZE, CRC32C)


def blob(*entries: EntryId, stream: str = STREAM, conversation: str = "c", secret: str = TEST_SECRET) -> BlobInfo:
    """An object that holds the chunks of these entries."""
    ordered = sorted(entries, key=entry_order)
    metadata = manifest(*entries, stream=stream).to_mapping("u", conversation, secret)
    return BlobInfo("any name", SIZE, {**metadata, "first-entry": ordered[0], "last-entry": ordered[-1]}, CRC32C)


def verdict(found: BlobInfo, pending: Mapping[EntryId, bytes] | None = None, *, born: EntryId = "0-0") -> Judgement:
    pending = identities(*PENDING) if pending is None else pending
    judgement = judge(
        Claim(OURS, manifest(*OURS.entries), identities(*OURS.entries), born), found, pending, [TEST_SECRET]
    )
    return replace(judgement, manifest=None)


def test_the_same_chunks_are_this_very_batch() -> None:
    assert verdict(blob(*OURS.entries)) == Judgement(Verdict.SAME, OURS.entries)


def test_shorter_blob_holds_a_part() -> None:
    assert verdict(blob("5-0", "7-0")) == Judgement(Verdict.PART, ("5-0", "7-0"))


def test_longer_blob_covers_pending_entries_beyond_the_batch() -> None:
    assert verdict(blob(*PENDING[:5])) == Judgement(Verdict.PART, PENDING[:5])


def test_a_hole_in_the_blob_is_no_part_of_it() -> None:
    assert verdict(blob("5-0", "9-0")) == Judgement(Verdict.PART, ("5-0", "9-0"))


@pytest.mark.parametrize(
    "found",
    [
        pytest.param(blob("12-0", "100-0"), id="other chunks"),
        pytest.param(blob(*OURS.entries, stream=OTHER_STREAM), id="another stream"),
        pytest.param(blob(*OURS.entries, conversation="d"), id="a copy from another conversation"),
        pytest.param(blob(*OURS.entries, secret="somebody else's secret of 32 bytes"), id="forged"),
        pytest.param(BlobInfo("n", SIZE, {"first-entry": "5-0", "last-entry": "11-0"}, CRC32C), id="of an old version"),
        pytest.param(BlobInfo("n", SIZE, {}, CRC32C), id="without metadata"),
    ],
)
def test_what_proves_nothing_is_foreign_whatever_its_range(found: BlobInfo) -> None:
    assert verdict(found) == Judgement(Verdict.FOREIGN)


@pytest.mark.parametrize(("size", "crc32c"), [(SIZE - 1, CRC32C), (SIZE, CRC32C + 1), (SIZE, None)])
def test_other_bytes_than_were_uploaded_do_not_count(size: int, crc32c: int | None) -> None:
    for found in (blob(*OURS.entries), blob("5-0")):
        assert verdict(replace(found, size=size, crc32c=crc32c)) == Judgement(Verdict.DAMAGED)


def test_other_audio_with_the_ids_of_a_stored_blob_is_not_in_it() -> None:
    """A replica whose clock is behind gives ids again."""
    other = {entry: Chunk("u", "c", 9000.0 + number, bytes(640)).identity() for number, entry in enumerate(PENDING)}
    ours = {entry: other[entry] for entry in OURS.entries}
    mine = Manifest.of(STREAM, b"".join(ours.values()), SIZE, CRC32C)
    assert judge(Claim(OURS, mine, ours), blob(*OURS.entries), other, [TEST_SECRET]).verdict is Verdict.FOREIGN


def test_a_stream_that_forgot_its_id_recognises_what_is_older_than_the_new_one() -> None:
    found = blob(*OURS.entries, stream=OTHER_STREAM)
    assert verdict(found, born="11-0") == Judgement(Verdict.SAME, OURS.entries)
    assert verdict(found, born="7-0") == Judgement(Verdict.PART, ("5-0", "7-0"))


def many(count: int) -> list[EntryId]:
    return [f"{number}-0" for number in range(1, count + 1)]


def test_a_blob_of_too_many_chunks_to_list_is_recognised_by_its_digest() -> None:
    entries = many(MAX_LISTED + 100)
    seal = replace(SEAL, entries=tuple(entries), markers=(), stream=STREAM)
    chunks = identities(*entries)
    found = blob(*entries)
    assert "chunk-ids" not in found.metadata
    assert judge(Claim(seal, manifest(*entries), chunks), found, chunks, [TEST_SECRET]).verdict is Verdict.SAME
    part = replace(seal, entries=tuple(entries[:10]))
    held = identities(*entries[:10])
    judgement = judge(Claim(part, manifest(*entries[:10]), held), found, chunks, [TEST_SECRET])
    assert (judgement.verdict, judgement.covered) == (Verdict.PART, tuple(entries))
    assert judge(Claim(part, manifest(*entries[:10]), held), found, held, [TEST_SECRET]).verdict is Verdict.FOREIGN
