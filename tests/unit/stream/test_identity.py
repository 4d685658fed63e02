"""Which stream it is, up to where its past is certain, and what left it before anybody read it."""

from __future__ import annotations

from tests.support.partition_owner import Desk, Raw, sealed
from worker.model.ids import START, Conversation
from worker.stream.keys import GROUP


async def identity(desk: Desk) -> tuple[str, str, str]:
    found = (await desk.entries.take_over(desk.lease)).identity
    return found.stream, found.read_to, found.changed


async def test_a_stream_keeps_its_random_id(desk: Desk) -> None:
    await desk.accepted(1)
    successor = await Desk.open(desk.client, desk.keys, "two")
    assert len(desk.identity.stream) == 32
    assert successor.identity.stream == desk.identity.stream


async def test_the_id_dies_with_the_data_and_comes_back_with_it(desk: Desk, raw: Raw) -> None:
    stream = desk.keys.stream(0)
    await desk.accepted(1)
    before = await raw.dump(stream)
    await raw.delete(stream)
    new, _, _ = await identity(desk)
    assert new != desk.identity.stream
    await raw.restore(stream, 0, before, replace=True)
    assert (await identity(desk))[0] == desk.identity.stream


async def test_the_id_survives_a_server_that_forgot_the_group_but_not_the_entries(desk: Desk, raw: Raw) -> None:
    ids = await desk.accepted(2)
    await raw.xgroup_destroy(desk.keys.stream(0), GROUP)
    await raw.delete(desk.keys.epoch(0))
    assert await identity(desk) == (desk.identity.stream, START, ids[1])


async def test_what_was_read_before_is_known(desk: Desk) -> None:
    assert await identity(desk) == (desk.identity.stream, START, START)
    ids = await desk.accepted(3)
    await desk.push(1)
    assert await identity(desk) == (desk.identity.stream, ids[2], START)


async def test_another_server_leaves_all_that_is_there_in_doubt(desk: Desk, raw: Raw) -> None:
    ids = await desk.accepted(3)
    await raw.hset(desk.keys.epoch(0), "server", "another one")
    assert await identity(desk) == (desk.identity.stream, ids[2], ids[2])
    await desk.accepted(1)
    assert (await identity(desk))[2] == ids[2]


async def test_a_stream_that_went_back_is_in_doubt_on_the_same_server_too(desk: Desk, raw: Raw) -> None:
    ids = await desk.accepted(2)
    before = await raw.dump(desk.keys.stream(0))
    await desk.accepted(2)
    await raw.restore(desk.keys.stream(0), 0, before, replace=True)
    assert (await identity(desk))[2] == ids[1]


async def test_a_stream_whose_past_was_lost_is_in_doubt(desk: Desk, raw: Raw) -> None:
    ids = await desk.accepted(2)
    await raw.delete(desk.keys.epoch(0))
    assert (await identity(desk))[2] == ids[1]


async def test_what_is_read_or_stored_is_not_lost(desk: Desk) -> None:
    ids = await desk.accepted(3)
    seal = sealed(ids[:2])
    await desk.entries.seal(desk.lease, [seal])
    await desk.done(seal)
    await desk.entries.discard(desk.lease, ids[2:])
    assert await desk.entries.count_unread_losses(desk.lease) == 0


async def test_entries_that_went_before_anybody_read_them_are_counted_once(desk: Desk, raw: Raw) -> None:
    ids = await desk.push(5)
    await raw.xdel(desk.keys.stream(0), ids[1], ids[4])
    assert await desk.entries.count_unread_losses(desk.lease) == 0  # there is more to read first
    await desk.accept([ids[0], ids[2], ids[3]])
    assert await desk.entries.count_unread_losses(desk.lease) == 2
    successor = await Desk.open(desk.client, desk.keys, "two")
    assert await successor.entries.count_unread_losses(successor.lease) == 0
    await raw.xtrim(desk.keys.stream(0), maxlen=0)
    (last,) = await successor.push(1)
    await raw.xdel(desk.keys.stream(0), last)
    assert await successor.entries.count_unread_losses(successor.lease) == 1


async def test_what_was_there_before_the_first_owner_is_not_lost(desk: Desk, raw: Raw) -> None:
    await raw.delete(desk.keys.stream(0), desk.keys.epoch(0))
    ids = await desk.push(3)
    await raw.xdel(desk.keys.stream(0), ids[0])
    owner = await Desk.open(desk.client, desk.keys, "one")
    await owner.accept(ids[1:])
    assert await owner.entries.count_unread_losses(owner.lease) == 0


async def test_redis_tells_what_became_of_a_batch_that_has_left_it(desk: Desk, raw: Raw) -> None:
    ids = await desk.accepted(2)
    seal = sealed(ids)
    fine = await desk.entries.standing(0, seal, "up")
    assert (fine.deleted, fine.withdrawn, fine.stream, fine.changed) == (False, False, desk.identity.stream, START)
    await raw.set(desk.keys.withdrawn(0, "up"), "1")
    await raw.hset(desk.keys.deleted(0), "u/c", ids[0])
    await raw.hset(desk.keys.epoch(0), "server", "another one")
    found = await desk.entries.standing(0, seal, "up")
    assert (found.deleted, found.withdrawn) == (True, True)
    assert found.changed > ids[-1]
    nothing = await desk.entries.standing(3, seal, "up")
    assert (nothing.deleted, nothing.withdrawn, nothing.stream) == (False, False, "")


async def test_restored_deletions_never_reach_beyond_the_stream_nor_shrink(desk: Desk) -> None:
    ids = await desk.accepted(2)
    await desk.entries.restore_tombstone(0, "u/c", "9999999999999-0")
    assert await desk.entries.tombstones(0) == {"u/c": ids[1]}
    await desk.entries.restore_tombstone(0, "u/c", ids[0])
    assert await desk.entries.tombstones(0) == {"u/c": ids[1]}


async def test_chunks_of_one_conversation_are_found_among_others(desk: Desk, raw: Raw) -> None:
    ids = await desk.push(25)
    await raw.xadd(desk.keys.stream(0), {"uid": "u", "conversation_id": "c", "end": "1"})
    found = await desk.entries.chunks(0, Conversation("u", "c"), ids[1], ids[23])
    assert [chunk.seq for chunk in found] == list(range(1, 24))
    assert await desk.entries.chunks(0, Conversation("u", "d"), ids[1], ids[23]) == []
