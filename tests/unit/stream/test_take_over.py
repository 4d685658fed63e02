"""What a new owner finds and claims, and how it tells entries that may have killed the owner before."""

from __future__ import annotations

import pytest

from tests.support.partition_owner import Desk, Raw, pending, sealed
from worker.errors import StreamError
from worker.model.ids import Conversation, last_of_ms
from worker.stream.client import Client
from worker.stream.entries import CLAIM_PAGE
from worker.stream.keys import GROUP, Keys


async def test_taking_over_claims_everything_whoever_had_it_in_pages(desk: Desk, raw: Raw) -> None:
    ids = await desk.accepted(2 * CLAIM_PAGE + 1)
    await raw.xgroup_createconsumer(desk.keys.stream(0), GROUP, "idle")
    successor = await Desk.open(desk.client, desk.keys, "two")
    assert await pending(raw, desk) == dict.fromkeys(ids, ("two", 2))
    consumers = await raw.xinfo_consumers(desk.keys.stream(0), GROUP)
    assert [name for consumer in consumers if not (name := consumer["name"]).startswith(b"stream:")] == [b"two"]
    assert (await successor.entries.take_over(successor.lease)).vanished == []


async def test_consumer_with_pending_entries_is_not_swept_away(desk: Desk, raw: Raw) -> None:
    """Whatever a paused owner still draws between our claim and our sweep must not vanish with its consumer."""
    (mine,) = await desk.accepted(1)
    (drawn,) = await desk.push(1)
    await raw.xreadgroup(GROUP, "paused", {desk.keys.stream(0): ">"})
    await desk.client.run(desk.entries._fenced("sweep", desk.lease, "one"))
    assert await pending(raw, desk) == {mine: ("one", 1), drawn: ("paused", 1)}


async def test_death_of_an_owner_is_counted_and_a_clean_release_is_not(desk: Desk, raw: Raw) -> None:
    ids = await desk.accepted(2)
    await desk.leases.release(desk.lease)
    second = await Desk.open(desk.client, desk.keys, "two")
    assert second.lease.clean
    assert await pending(raw, desk) == dict.fromkeys(ids, ("two", 1))
    third = await Desk.open(desk.client, desk.keys, "three")
    assert not third.lease.clean
    assert await pending(raw, desk) == dict.fromkeys(ids, ("three", 2))


async def test_survivors_of_a_death_are_told_apart(desk: Desk) -> None:
    ids = await desk.accepted(2)
    await desk.client.redis.delete(desk.keys.lease(0))
    (lease,), _ = await desk.leases.acquire([0], "two")
    await desk.push(1)
    assert (await desk.entries.take_over(lease)).survivors == set(ids)


async def test_vanished_entries_are_reported_once_and_leave_the_group(desk: Desk, raw: Raw) -> None:
    ids = await desk.accepted(3)
    await raw.xdel(desk.keys.stream(0), ids[0], ids[2])
    assert (await desk.entries.take_over(desk.lease)).vanished == [ids[0], ids[2]]
    assert set(await pending(raw, desk)) == {ids[1]}
    assert (await desk.entries.take_over(desk.lease)).vanished == []


async def test_takeover_finds_seals_in_order_and_tombstones(desk: Desk, raw: Raw) -> None:
    ids = await desk.accepted(4)
    seals = [sealed(ids[2:]), sealed(ids[:2])]
    assert await desk.entries.seal(desk.lease, seals) == [None, None]
    await raw.hset(desk.keys.deleted(0), mapping={"u/": "5-0", "u/c": 7})
    found = await desk.entries.take_over(desk.lease)
    assert found.seals == [seals[1], seals[0]]
    assert found.tombstones == {"u/": "5-0", "u/c": last_of_ms(7)}  # of a former version


async def test_seal_that_can_not_be_read_is_left_where_it_is(desk: Desk, raw: Raw) -> None:
    await raw.hset(desk.keys.ready(0), "1-1", '{"v": 99}')
    with pytest.raises(StreamError, match="can't be read") as caught:
        await desk.entries.take_over(desk.lease)
    assert caught.value.cause == "refused"
    assert await raw.hlen(desk.keys.ready(0)) == 1


async def test_group_is_made_at_the_beginning_of_the_stream(client: Client, keys: Keys, raw: Raw) -> None:
    await raw.xadd(keys.stream(0), {"before": "the first worker"})
    await Desk.open(client, keys, "one")
    (group,) = await raw.xinfo_groups(keys.stream(0))
    assert group["last-delivered-id"] == b"0-0"


async def test_trial_counts_until_it_ends(desk: Desk) -> None:
    suspect = Conversation("u", "c")
    assert [await desk.entries.mark_suspect(desk.lease, suspect) for _ in range(3)] == [1, 2, 3]
    assert await desk.entries.mark_suspect(desk.lease, Conversation("u", "other")) == 1
    await desk.entries.clear_suspect(desk.lease, suspect)
    assert await desk.entries.mark_suspect(desk.lease, suspect) == 1
