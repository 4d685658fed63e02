"""Entries leave Redis: in the done step, once and with one event, or discarded because they hold no audio to store."""

from __future__ import annotations

import pytest

from codec.metadata import BlobMetadata
from tests.support.partition_owner import EVENT, UPLOAD, PartitionOwner, Raw, pending, sealed
from worker.model.ids import Conversation
from worker.model.recent_chunks import MAX_BYTES
from worker.model.seal import Seal
from worker.model.stored_blob import Orphan, StoredBlob


async def test_done_removes_exactly_its_entries_and_leaves_one_event(owner: PartitionOwner, raw: Raw) -> None:
    ids = await owner.accepted(4)
    seal = sealed(ids[:2], ids[2])
    await owner.entries.seal(owner.lease, [seal])
    assert await owner.done(seal, b"8 bytes.") == "done"
    assert [entry for entry, _ in await raw.xrange(owner.keys.stream(0))] == [ids[3].encode()]
    assert set(await pending(raw, owner)) == {ids[3]}
    assert await owner.entries.seals(0) == []
    ((_, event),) = await raw.xrange(owner.keys.done(0))
    assert event == {name.encode(): value.encode() for name, value in EVENT.to_fields().items()}
    assert await owner.entries.seen(0, [seal.conversation, Conversation("u", "other")]) == [b"8 bytes.", b""]


async def test_done_happens_once_whoever_comes_first(owner: PartitionOwner, raw: Raw) -> None:
    seal = sealed(await owner.accepted(2))
    await owner.entries.seal(owner.lease, [seal])
    successor = await PartitionOwner.open(owner.client, owner.keys, "two")
    outcomes = [await side.done(seal) for side in (owner, successor, owner)]
    assert outcomes == ["done", "gone", "gone"]
    assert await raw.xlen(owner.keys.done(0)) == 1


async def test_done_of_a_seal_that_was_replaced_changes_nothing(owner: PartitionOwner, raw: Raw) -> None:
    ids = await owner.accepted(3)
    old, new = sealed(ids[:2]), sealed(ids)
    await owner.entries.seal(owner.lease, [old])
    await owner.entries.unseal(owner.lease, old)
    await owner.entries.seal(owner.lease, [new])
    assert await owner.done(old) == "gone"
    assert await raw.xlen(owner.keys.stream(0)) == 3
    assert await owner.entries.seals(0) == [new]


async def test_done_of_deleted_audio_drops_the_entries_without_an_event(owner: PartitionOwner, raw: Raw) -> None:
    ids = await owner.accepted(2)
    seal = sealed(ids)
    await owner.entries.seal(owner.lease, [seal])
    await raw.hset(owner.keys.deleted(0), "u/c", ids[-1])
    assert await owner.done(seal, b"8 bytes.") == "deleted"
    assert (await raw.xlen(owner.keys.stream(0)), await raw.xlen(owner.keys.done(0))) == (0, 0)
    assert await owner.entries.seen(0, [seal.conversation]) == [b""]


async def test_deletion_of_an_older_version_is_a_time(owner: PartitionOwner, raw: Raw) -> None:
    seal = sealed(await owner.accepted(2))
    await owner.entries.seal(owner.lease, [seal])
    await raw.hset(owner.keys.deleted(0), "u/", seal.id.split("-")[0])
    assert await owner.done(seal) == "deleted"


async def test_what_was_pushed_after_a_deletion_in_the_same_millisecond_is_stored(
    owner: PartitionOwner, raw: Raw
) -> None:
    stream = owner.keys.stream(0)
    before, after = [(await raw.xadd(stream, {"a": "1"}, id=f"9999999999999-{number}")).decode() for number in (1, 2)]
    await owner.accept([before, after])
    await raw.hset(owner.keys.deleted(0), "u/c", before)
    (refused,) = await owner.entries.seal(owner.lease, [sealed([before])])
    assert refused is not None
    assert refused.cause == "deleted"
    seal = sealed([after])
    assert await owner.entries.seal(owner.lease, [seal]) == [None]
    assert await owner.done(seal) == "done"


async def test_what_is_stored_is_remembered_until_it_is_deleted(owner: PartitionOwner, raw: Raw) -> None:
    seal = sealed(await owner.accepted(1))
    await owner.entries.seal(owner.lease, [seal])
    await owner.done(seal, b"8 bytes.")
    await raw.hset(owner.keys.deleted(0), "u/c", seal.id)
    assert await owner.entries.seen(0, [seal.conversation]) == [b""]
    again = sealed(await owner.accepted(1))
    await owner.entries.seal(owner.lease, [again])
    await owner.done(again, b"others..")
    assert await owner.entries.seen(0, [seal.conversation]) == [b"others.."]


async def test_done_on_another_server_waits_until_deletions_were_looked_for(owner: PartitionOwner, raw: Raw) -> None:
    seal = sealed(await owner.accepted(1))
    await owner.entries.seal(owner.lease, [seal])
    assert await owner.done(seal, server="the one before") == "changed"
    assert owner.server == owner.identity.server
    assert await raw.xlen(owner.keys.stream(0)) == 1
    assert await owner.done(seal, server=owner.server) == "done"


def orphan(seal: Seal, name: str = EVENT.object, digest: str | None = None) -> Orphan:
    """An object whose maker has lost the seal."""
    return Orphan(0, seal, StoredBlob(name, 7, BlobMetadata(chunks_digest=digest), seal.entries, UPLOAD))


async def test_object_waits_for_its_entries_to_leave_before_it_is_given_up(owner: PartitionOwner) -> None:
    zombie = sealed(await owner.accepted(2))
    for entry in zombie.entries:
        assert await owner.entries.abandon(orphan(zombie)) == ("waiting", "")
        seal = sealed([entry])
        await owner.entries.seal(owner.lease, [seal])
        assert await owner.done(seal, told=f"chunks/u/c/{entry}") == "done"
    assert await owner.entries.abandon(orphan(zombie)) == ("uncounted", "")


async def test_object_that_its_maker_has_given_up_does_not_count(owner: PartitionOwner, raw: Raw) -> None:
    seal = sealed(await owner.accepted(1))
    await owner.entries.seal(owner.lease, [seal])
    await raw.set(owner.keys.withdrawn(0, UPLOAD), "1")
    assert await owner.done(seal) == "withdrawn"
    assert await owner.done(seal, upload="fedcba9876543210") == "done"


async def test_object_that_an_event_tells_of_is_not_given_up(owner: PartitionOwner) -> None:
    seal = sealed(await owner.accepted(2))
    await owner.entries.seal(owner.lease, [seal])
    await owner.done(seal)
    assert await owner.entries.abandon(orphan(seal)) == ("counted", EVENT.object)
    assert await owner.entries.abandon(orphan(seal, "chunks/u/c/2000.000.opus.enc")) == ("uncounted", "")


async def test_object_is_counted_by_an_event_that_tells_its_chunks_under_another_name(owner: PartitionOwner) -> None:
    """Its maker may not know the name: it was the next one of a name that was taken, or the object was converted."""
    seal = sealed(await owner.accepted(2))
    given_up = orphan(seal, "chunks/u/c/2000.000.opus.enc", "the chunks")
    await owner.entries.seal(owner.lease, [seal])
    await owner.done(seal, digest="the chunks")
    assert await owner.entries.abandon(given_up) == ("counted", EVENT.object)
    assert await owner.entries.abandon(given_up, [EVENT.object]) == ("uncounted", "")
    assert await owner.done(seal) == "gone"


async def test_object_stays_if_older_events_are_gone(owner: PartitionOwner, raw: Raw) -> None:
    seal = sealed(await owner.accepted(2))
    await owner.entries.seal(owner.lease, [seal])
    await owner.done(seal)
    await raw.xadd(owner.keys.done(0), {"object": "another"})
    await raw.xtrim(owner.keys.done(0), maxlen=1, approximate=False)
    assert await owner.entries.abandon(orphan(seal)) == ("unknown", "")
    await raw.delete(owner.keys.done(0))
    assert await owner.entries.abandon(orphan(seal)) == ("unknown", "")


async def test_seen_keeps_the_latest_and_expires(owner: PartitionOwner, raw: Raw) -> None:
    for content in (b"a" * MAX_BYTES, b"b" * 16):
        seal = sealed(await owner.accepted(1))
        await owner.entries.seal(owner.lease, [seal])
        await owner.done(seal, content)
    (seen,) = await owner.entries.seen(0, [seal.conversation])
    assert seen == b"a" * (MAX_BYTES - 16) + b"b" * 16
    assert 3_500_000 < await raw.pttl(owner.keys.seen(0, "u/c")) <= 3_600_000


@pytest.mark.slow
async def test_batch_of_ten_thousand_entries(owner: PartitionOwner, raw: Raw) -> None:
    ids = await owner.accepted(10_000)
    seal = sealed(ids)
    assert await owner.entries.seal(owner.lease, [seal]) == [None]
    assert await owner.done(seal, bytes(80_000)) == "done"
    assert (await raw.xlen(owner.keys.stream(0)), await pending(raw, owner)) == (0, {})


@pytest.mark.slow
async def test_discard_of_ten_thousand_entries(owner: PartitionOwner, raw: Raw) -> None:
    ids = await owner.accepted(10_001)
    await owner.entries.discard(owner.lease, ids[:-1])
    assert set(await pending(raw, owner)) == {ids[-1]}
    assert await raw.xlen(owner.keys.stream(0)) == 1
