"""Entries leave Redis: in the done step, once and with one event, or discarded because they hold no audio to store."""

from __future__ import annotations

import pytest

from tests.support.partition_owner import EVENT, UPLOAD, Desk, Raw, pending, sealed
from worker.model.ids import Conversation
from worker.model.recent_chunks import MAX_BYTES


async def test_done_removes_exactly_its_entries_and_leaves_one_event(desk: Desk, raw: Raw) -> None:
    ids = await desk.accepted(4)
    seal = sealed(ids[:2], ids[2])
    await desk.entries.seal(desk.lease, [seal])
    assert await desk.done(seal, b"8 bytes.") == "done"
    assert [entry for entry, _ in await raw.xrange(desk.keys.stream(0))] == [ids[3].encode()]
    assert set(await pending(raw, desk)) == {ids[3]}
    assert await desk.entries.seals(0) == []
    ((_, event),) = await raw.xrange(desk.keys.done(0))
    assert event == {name.encode(): value.encode() for name, value in EVENT.to_fields().items()}
    assert await desk.entries.seen(0, [seal.conversation, Conversation("u", "other")]) == [b"8 bytes.", b""]


async def test_done_happens_once_whoever_comes_first(desk: Desk, raw: Raw) -> None:
    seal = sealed(await desk.accepted(2))
    await desk.entries.seal(desk.lease, [seal])
    successor = await Desk.open(desk.client, desk.keys, "two")
    outcomes = [await side.done(seal) for side in (desk, successor, desk)]
    assert outcomes == ["done", "gone", "gone"]
    assert await raw.xlen(desk.keys.done(0)) == 1


async def test_done_of_a_seal_that_was_replaced_changes_nothing(desk: Desk, raw: Raw) -> None:
    ids = await desk.accepted(3)
    old, new = sealed(ids[:2]), sealed(ids)
    await desk.entries.seal(desk.lease, [old])
    await desk.entries.unseal(desk.lease, old)
    await desk.entries.seal(desk.lease, [new])
    assert await desk.done(old) == "gone"
    assert await raw.xlen(desk.keys.stream(0)) == 3
    assert await desk.entries.seals(0) == [new]


async def test_done_of_deleted_audio_drops_the_entries_without_an_event(desk: Desk, raw: Raw) -> None:
    ids = await desk.accepted(2)
    seal = sealed(ids)
    await desk.entries.seal(desk.lease, [seal])
    await raw.hset(desk.keys.deleted(0), "u/c", ids[-1])
    assert await desk.done(seal, b"8 bytes.") == "deleted"
    assert (await raw.xlen(desk.keys.stream(0)), await raw.xlen(desk.keys.done(0))) == (0, 0)
    assert await desk.entries.seen(0, [seal.conversation]) == [b""]


async def test_deletion_of_an_older_version_is_a_time(desk: Desk, raw: Raw) -> None:
    seal = sealed(await desk.accepted(2))
    await desk.entries.seal(desk.lease, [seal])
    await raw.hset(desk.keys.deleted(0), "u/", seal.id.split("-")[0])
    assert await desk.done(seal) == "deleted"


async def test_what_was_pushed_after_a_deletion_in_the_same_millisecond_is_stored(desk: Desk, raw: Raw) -> None:
    stream = desk.keys.stream(0)
    before, after = [(await raw.xadd(stream, {"a": "1"}, id=f"9999999999999-{number}")).decode() for number in (1, 2)]
    await desk.accept([before, after])
    await raw.hset(desk.keys.deleted(0), "u/c", before)
    (refused,) = await desk.entries.seal(desk.lease, [sealed([before])])
    assert refused is not None
    assert refused.cause == "deleted"
    seal = sealed([after])
    assert await desk.entries.seal(desk.lease, [seal]) == [None]
    assert await desk.done(seal) == "done"


async def test_what_is_stored_is_remembered_until_it_is_deleted(desk: Desk, raw: Raw) -> None:
    seal = sealed(await desk.accepted(1))
    await desk.entries.seal(desk.lease, [seal])
    await desk.done(seal, b"8 bytes.")
    await raw.hset(desk.keys.deleted(0), "u/c", seal.id)
    assert await desk.entries.seen(0, [seal.conversation]) == [b""]
    again = sealed(await desk.accepted(1))
    await desk.entries.seal(desk.lease, [again])
    await desk.done(again, b"others..")
    assert await desk.entries.seen(0, [seal.conversation]) == [b"others.."]


async def test_done_on_another_server_waits_until_deletions_were_looked_for(desk: Desk, raw: Raw) -> None:
    seal = sealed(await desk.accepted(1))
    await desk.entries.seal(desk.lease, [seal])
    assert await desk.done(seal, server="the one before") == "changed"
    assert desk.server == desk.identity.server
    assert await raw.xlen(desk.keys.stream(0)) == 1
    assert await desk.done(seal, server=desk.server) == "done"


async def test_object_waits_for_its_entries_to_leave_before_it_is_given_up(desk: Desk) -> None:
    zombie = sealed(await desk.accepted(2))
    for entry in zombie.entries:
        assert await desk.entries.abandon(0, zombie, EVENT.object, UPLOAD) == "waiting"
        seal = sealed([entry])
        await desk.entries.seal(desk.lease, [seal])
        assert await desk.done(seal, told=f"chunks/u/c/{entry}") == "done"
    assert await desk.entries.abandon(0, zombie, EVENT.object, UPLOAD) == "uncounted"


async def test_object_that_its_maker_has_given_up_does_not_count(desk: Desk, raw: Raw) -> None:
    seal = sealed(await desk.accepted(1))
    await desk.entries.seal(desk.lease, [seal])
    await raw.set(desk.keys.withdrawn(0, UPLOAD), "1")
    assert await desk.done(seal) == "withdrawn"
    assert await desk.done(seal, upload="fedcba9876543210") == "done"


async def test_object_that_an_event_tells_of_is_not_given_up(desk: Desk) -> None:
    seal = sealed(await desk.accepted(2))
    await desk.entries.seal(desk.lease, [seal])
    await desk.done(seal)
    assert await desk.entries.abandon(0, seal, EVENT.object, UPLOAD) == "counted"
    assert await desk.entries.abandon(0, seal, "chunks/u/c/2000.000.opus.enc", "fedcba9876543210") == "uncounted"


async def test_object_stays_if_older_events_are_gone(desk: Desk, raw: Raw) -> None:
    seal = sealed(await desk.accepted(2))
    await desk.entries.seal(desk.lease, [seal])
    await desk.done(seal)
    await raw.xadd(desk.keys.done(0), {"object": "another"})
    await raw.xtrim(desk.keys.done(0), maxlen=1, approximate=False)
    assert await desk.entries.abandon(0, seal, EVENT.object, UPLOAD) == "unknown"
    await raw.delete(desk.keys.done(0))
    assert await desk.entries.abandon(0, seal, EVENT.object, UPLOAD) == "unknown"


async def test_seen_keeps_the_latest_and_expires(desk: Desk, raw: Raw) -> None:
    for content in (b"a" * MAX_BYTES, b"b" * 16):
        seal = sealed(await desk.accepted(1))
        await desk.entries.seal(desk.lease, [seal])
        await desk.done(seal, content)
    (seen,) = await desk.entries.seen(0, [seal.conversation])
    assert seen == b"a" * (MAX_BYTES - 16) + b"b" * 16
    assert 3_500_000 < await raw.pttl(desk.keys.seen(0, "u/c")) <= 3_600_000


@pytest.mark.slow
async def test_batch_of_ten_thousand_entries(desk: Desk, raw: Raw) -> None:
    ids = await desk.accepted(10_000)
    seal = sealed(ids)
    assert await desk.entries.seal(desk.lease, [seal]) == [None]
    assert await desk.done(seal, bytes(80_000)) == "done"
    assert (await raw.xlen(desk.keys.stream(0)), await pending(raw, desk)) == (0, {})


@pytest.mark.slow
async def test_discard_of_ten_thousand_entries(desk: Desk, raw: Raw) -> None:
    ids = await desk.accepted(10_001)
    await desk.entries.discard(desk.lease, ids[:-1])
    assert set(await pending(raw, desk)) == {ids[-1]}
    assert await raw.xlen(desk.keys.stream(0)) == 1
