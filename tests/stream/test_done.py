"""Entries leave Redis: in the done step, once and with one event, or discarded because they hold no audio to store."""

from __future__ import annotations

from tests.stream.desk import EVENT, Desk, Raw, pending, sealed
from worker.batch import Conversation
from worker.history import MAX_BYTES


async def test_done_removes_exactly_its_entries_and_leaves_one_event(desk: Desk, raw: Raw) -> None:
    ids = await desk.accepted(4)
    seal = sealed(ids[:2], ids[2])
    await desk.entries.seal(desk.lease, [seal])
    assert await desk.entries.done(0, seal, seal.all_ids, b"8 bytes.", EVENT) == "done"
    assert [entry for entry, _ in await raw.xrange(desk.keys.stream(0))] == [ids[3].encode()]
    assert set(await pending(raw, desk)) == {ids[3]}
    assert await desk.entries.seals(0) == []
    ((_, event),) = await raw.xrange(desk.keys.done(0))
    assert event == {name.encode(): value.encode() for name, value in EVENT.items()}
    assert await desk.entries.seen(0, [seal.conversation, Conversation("u", "other")]) == [b"8 bytes.", b""]


async def test_done_happens_once_whoever_comes_first(desk: Desk, raw: Raw) -> None:
    seal = sealed(await desk.accepted(2))
    await desk.entries.seal(desk.lease, [seal])
    successor = await Desk.open(desk.client, desk.keys, "two")
    outcomes = [await side.entries.done(0, seal, seal.all_ids, b"", EVENT) for side in (desk, successor, desk)]
    assert outcomes == ["done", "gone", "gone"]
    assert await raw.xlen(desk.keys.done(0)) == 1


async def test_done_of_a_seal_that_was_replaced_changes_nothing(desk: Desk, raw: Raw) -> None:
    ids = await desk.accepted(3)
    old, new = sealed(ids[:2]), sealed(ids)
    await desk.entries.seal(desk.lease, [old])
    await desk.entries.unseal(desk.lease, old)
    await desk.entries.seal(desk.lease, [new])
    assert await desk.entries.done(0, old, old.all_ids, b"", EVENT) == "gone"
    assert await raw.xlen(desk.keys.stream(0)) == 3
    assert await desk.entries.seals(0) == [new]


async def test_done_of_deleted_audio_drops_the_entries_without_an_event(desk: Desk, raw: Raw) -> None:
    ids = await desk.accepted(2)
    seal = sealed(ids)
    await desk.entries.seal(desk.lease, [seal])
    await raw.hset(desk.keys.deleted(0), "u/c", ids[0].split("-")[0])
    assert await desk.entries.done(0, seal, seal.all_ids, b"8 bytes.", EVENT) == "deleted"
    assert (await raw.xlen(desk.keys.stream(0)), await raw.xlen(desk.keys.done(0))) == (0, 0)
    assert await desk.entries.seen(0, [seal.conversation]) == [b""]


async def test_seen_keeps_the_latest_and_expires(desk: Desk, raw: Raw) -> None:
    for content in (b"a" * MAX_BYTES, b"b" * 16):
        seal = sealed(await desk.accepted(1))
        await desk.entries.seal(desk.lease, [seal])
        await desk.entries.done(0, seal, seal.all_ids, content, EVENT)
    (seen,) = await desk.entries.seen(0, [seal.conversation])
    assert seen == b"a" * (MAX_BYTES - 16) + b"b" * 16
    assert 3_500_000 < await raw.pttl(desk.keys.seen(0, "u/c")) <= 3_600_000


async def test_batch_of_ten_thousand_entries(desk: Desk, raw: Raw) -> None:
    ids = await desk.accepted(10_000)
    seal = sealed(ids)
    assert await desk.entries.seal(desk.lease, [seal]) == [None]
    assert await desk.entries.done(0, seal, ids, bytes(80_000), EVENT) == "done"
    assert (await raw.xlen(desk.keys.stream(0)), await pending(raw, desk)) == (0, {})


async def test_discard_of_ten_thousand_entries(desk: Desk, raw: Raw) -> None:
    ids = await desk.accepted(10_001)
    await desk.entries.discard(desk.lease, ids[:-1])
    assert set(await pending(raw, desk)) == {ids[-1]}
    assert await raw.xlen(desk.keys.stream(0)) == 1
