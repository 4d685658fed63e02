"""Which stream it is, up to where its past is certain, and what left it before anybody read it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from tests.support.partition_owner import PARTITIONS, TTL, PartitionOwner, Raw, sealed
from tests.support.redis_cluster import RedisCluster
from worker.model.ids import START, Conversation
from worker.model.layouts import Layouts
from worker.stream.client import Client
from worker.stream.entries import Entries
from worker.stream.keys import GROUP, Keys
from worker.stream.leases import Leases
from worker.stream.servers.connecting import connect
from worker.stream.tombstones import Tombstones


async def identity(owner: PartitionOwner) -> tuple[str, str, str]:
    found = (await owner.entries.take_over(owner.lease)).identity
    return found.stream, found.read_to, found.changed


async def test_a_stream_keeps_its_random_id(owner: PartitionOwner) -> None:
    await owner.accepted(1)
    successor = await PartitionOwner.open(owner.client, owner.keys, "two")
    assert len(owner.identity.stream) == 32
    assert successor.identity.stream == owner.identity.stream


async def test_the_id_dies_with_the_data_and_comes_back_with_it(owner: PartitionOwner, raw: Raw) -> None:
    stream = owner.keys.stream(0)
    await owner.accepted(1)
    before = await raw.dump(stream)
    await raw.delete(stream)
    new, _, _ = await identity(owner)
    assert new != owner.identity.stream
    await raw.restore(stream, 0, before, replace=True)
    assert (await identity(owner))[0] == owner.identity.stream


async def test_the_id_survives_a_server_that_forgot_the_group_but_not_the_entries(
    owner: PartitionOwner, raw: Raw
) -> None:
    ids = await owner.accepted(2)
    await forget_owners(owner, raw)
    assert await identity(owner) == (owner.identity.stream, START, ids[1])


async def test_an_id_that_comes_back_is_younger_than_all_that_others_may_have_stored(
    owner: PartitionOwner, raw: Raw
) -> None:
    """Another owner had the stream under an id of its own meanwhile, and Redis has lost that one, too."""
    await owner.accepted(2)
    await forget_owners(owner, raw)
    successor = await PartitionOwner.open(owner.client, owner.keys, "two")
    (last,) = await successor.accepted(1)
    await forget_owners(owner, raw)
    await successor.leases.release(successor.lease)
    (owner.lease,), _ = await owner.leases.acquire([0], "one")
    found = (await owner.entries.take_over(owner.lease)).identity
    assert successor.identity.stream != owner.identity.stream == found.stream
    assert found.born == last


async def test_an_id_that_a_deletion_makes_is_younger_than_all_entries(owner: PartitionOwner, raw: Raw) -> None:
    ids = await owner.accepted(2)
    await forget_owners(owner, raw)
    tombstones = Tombstones(owner.client, owner.keys, Layouts.single(PARTITIONS))
    deletion = await tombstones.record_deletion("somebody")
    found = (await owner.entries.take_over(owner.lease)).identity
    assert list(deletion.streams) == [found.stream] != [owner.identity.stream]
    assert found.born == ids[1]


async def forget_owners(owner: PartitionOwner, raw: Raw) -> None:
    """As a failover to a replica that has all entries, and nothing of any owner."""
    await raw.xgroup_destroy(owner.keys.stream(0), GROUP)
    await raw.delete(owner.keys.epoch(0))


async def test_what_was_read_before_is_known(owner: PartitionOwner) -> None:
    assert await identity(owner) == (owner.identity.stream, START, START)
    ids = await owner.accepted(3)
    await owner.push(1)
    assert await identity(owner) == (owner.identity.stream, ids[2], START)


async def test_another_server_leaves_all_that_is_there_in_doubt(owner: PartitionOwner, raw: Raw) -> None:
    ids = await owner.accepted(3)
    await raw.hset(owner.keys.epoch(0), "server", "another one")
    assert await identity(owner) == (owner.identity.stream, ids[2], ids[2])
    await owner.accepted(1)
    assert (await identity(owner))[2] == ids[2]


@pytest.mark.slow
async def test_a_stay_at_a_server_that_forgot_it_leaves_doubt_at_the_one_before(
    own_cluster: Callable[..., RedisCluster],
) -> None:
    """The record of the last server is then that of the former stay: it names the very server that answers."""
    cluster, keys = own_cluster(2), Keys("moved")
    stream, epoch = keys.stream(0), keys.epoch(0)
    before = cluster.owner(stream)
    other = next(server for server in cluster.servers if server is not before)
    async with Client(connect(cluster.url)) as client:
        entries = Entries(client, keys, "one")
        (lease,), _ = await Leases(client, keys, PARTITIONS, TTL).acquire([0], "one")
        last = await client.command(lambda pipe: pipe.xadd(stream, {"uid": "u"}), stream)
        assert (await entries.take_over(lease)).identity.changed == last.decode()
        await entries.accept([(lease, [last.decode()])])
        await asyncio.to_thread(cluster.move, stream, other)
        replica = cluster.ask(other, "DUMP", epoch)
        newer = await client.command(lambda pipe: pipe.xadd(stream, {"uid": "u"}), stream)
        assert (await entries.take_over(lease)).identity.changed == newer.decode()
        cluster.ask(other, "RESTORE", epoch, 0, replica, "REPLACE")
        await asyncio.to_thread(cluster.move, stream, before)
        assert (await entries.take_over(lease)).identity.changed == newer.decode()
        newest = await client.command(lambda pipe: pipe.xadd(stream, {"uid": "u"}), stream)
        found = (await entries.take_over(lease)).identity.changed
        assert START < found == newer.decode() < newest.decode()


async def test_a_stream_that_went_back_is_in_doubt_on_the_same_server_too(owner: PartitionOwner, raw: Raw) -> None:
    ids = await owner.accepted(2)
    before = await raw.dump(owner.keys.stream(0))
    await owner.accepted(2)
    await raw.restore(owner.keys.stream(0), 0, before, replace=True)
    assert (await identity(owner))[2] == ids[1]


async def test_a_stream_whose_past_was_lost_is_in_doubt(owner: PartitionOwner, raw: Raw) -> None:
    ids = await owner.accepted(2)
    await raw.delete(owner.keys.epoch(0))
    assert (await identity(owner))[2] == ids[1]


async def test_what_is_read_or_stored_is_not_lost(owner: PartitionOwner) -> None:
    ids = await owner.accepted(3)
    seal = sealed(ids[:2])
    await owner.entries.seal(owner.lease, [seal])
    await owner.done(seal)
    await owner.entries.discard(owner.lease, ids[2:])
    assert await owner.entries.losses.count_unread_losses([owner.lease]) == [0]


async def test_entries_that_went_before_anybody_read_them_are_counted_once(owner: PartitionOwner, raw: Raw) -> None:
    ids = await owner.push(5)
    await raw.xdel(owner.keys.stream(0), ids[1], ids[4])
    assert await owner.entries.losses.count_unread_losses([owner.lease]) == [0]  # there is more to read first
    await owner.accept([ids[0], ids[2], ids[3]])
    assert await owner.entries.losses.count_unread_losses([owner.lease]) == [2]
    successor = await PartitionOwner.open(owner.client, owner.keys, "two")
    assert await successor.entries.losses.count_unread_losses([successor.lease]) == [0]
    await raw.xtrim(owner.keys.stream(0), maxlen=0)
    (last,) = await successor.push(1)
    await raw.xdel(owner.keys.stream(0), last)
    assert await successor.entries.losses.count_unread_losses([successor.lease]) == [1]


async def test_what_was_there_before_the_first_owner_is_not_lost(owner: PartitionOwner, raw: Raw) -> None:
    await raw.delete(owner.keys.stream(0), owner.keys.epoch(0))
    ids = await owner.push(3)
    await raw.xdel(owner.keys.stream(0), ids[0])
    owner = await PartitionOwner.open(owner.client, owner.keys, "one")
    await owner.accept(ids[1:])
    assert await owner.entries.losses.count_unread_losses([owner.lease]) == [0]


async def test_redis_tells_what_became_of_a_batch_that_has_left_it(owner: PartitionOwner, raw: Raw) -> None:
    ids = await owner.accepted(2)
    seal = sealed(ids)
    fine = await owner.entries.standing(0, seal, "up")
    assert (fine.deleted, fine.withdrawn, fine.stream, fine.changed) == (False, False, owner.identity.stream, START)
    await raw.set(owner.keys.withdrawn(0, "up"), "1")
    await raw.hset(owner.keys.deleted(0), "u/c", ids[0])
    await raw.hset(owner.keys.epoch(0), "server", "another one")
    found = await owner.entries.standing(0, seal, "up")
    assert (found.deleted, found.withdrawn) == (True, True)
    assert found.changed > ids[-1]
    nothing = await owner.entries.standing(3, seal, "up")
    assert (nothing.deleted, nothing.withdrawn, nothing.stream) == (False, False, "")


async def test_restored_deletions_never_reach_beyond_the_stream_nor_shrink(owner: PartitionOwner) -> None:
    ids = await owner.accepted(2)
    await owner.entries.restore_tombstone(0, "u/c", "9999999999999-0")
    assert (await owner.entries.take_over(owner.lease)).tombstones == {"u/c": ids[1]}
    await owner.entries.restore_tombstone(0, "u/c", ids[0])
    assert (await owner.entries.take_over(owner.lease)).tombstones == {"u/c": ids[1]}


async def test_chunks_of_one_conversation_are_found_among_others(owner: PartitionOwner, raw: Raw) -> None:
    ids = await owner.push(25)
    await raw.xadd(owner.keys.stream(0), {"uid": "u", "conversation_id": "c", "end": "1"})
    found = await owner.entries.chunks(0, Conversation("u", "c"), ids[1], ids[23])
    assert [chunk.seq for chunk in found] == list(range(1, 24))
    assert await owner.entries.chunks(0, Conversation("u", "d"), ids[1], ids[23]) == []
