"""What a new owner finds and claims, and how it tells entries that may have killed the owner before."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest

from tests.support.partition_owner import PARTITIONS, PartitionOwner, Raw, pending, sealed
from worker.errors import StreamError
from worker.model.ids import Conversation, last_of_ms
from worker.stream.client import Client
from worker.stream.keys import GROUP, Keys
from worker.stream.scripting import Call
from worker.stream.servers.node import Callbacks, Command, Node
from worker.stream.takeovers import CLAIM_PAGE, Takeover


async def test_taking_over_claims_everything_whoever_had_it_in_pages(owner: PartitionOwner, raw: Raw) -> None:
    ids = await owner.accepted(2 * CLAIM_PAGE + 1)
    await raw.xgroup_createconsumer(owner.keys.stream(0), GROUP, "idle")
    successor = await PartitionOwner.open(owner.client, owner.keys, "two")
    assert await pending(raw, owner) == dict.fromkeys(ids, ("two", 2))
    consumers = await raw.xinfo_consumers(owner.keys.stream(0), GROUP)
    assert [name for consumer in consumers if not (name := consumer["name"]).startswith(b"stream:")] == [b"two"]
    assert (await successor.entries.take_over(successor.lease)).vanished == []


async def test_consumer_with_pending_entries_is_not_swept_away(owner: PartitionOwner, raw: Raw) -> None:
    """Whatever a paused owner still draws between our claim and our sweep must not vanish with its consumer."""
    (mine,) = await owner.accepted(1)
    (drawn,) = await owner.push(1)
    await raw.xreadgroup(GROUP, "paused", {owner.keys.stream(0): ">"})
    await owner.client.run(
        Call("sweep", [owner.keys.lease(0), owner.keys.stream(0)], [owner.lease.token, GROUP, "one"])
    )
    assert await pending(raw, owner) == {mine: ("one", 1), drawn: ("paused", 1)}


async def test_death_of_an_owner_is_counted_and_a_clean_release_is_not(owner: PartitionOwner, raw: Raw) -> None:
    ids = await owner.accepted(2)
    await owner.leases.release(owner.lease)
    second = await PartitionOwner.open(owner.client, owner.keys, "two")
    assert second.lease.clean
    assert await pending(raw, owner) == dict.fromkeys(ids, ("two", 1))
    third = await PartitionOwner.open(owner.client, owner.keys, "three")
    assert not third.lease.clean
    assert await pending(raw, owner) == dict.fromkeys(ids, ("three", 2))


async def test_survivors_of_a_death_are_told_apart(owner: PartitionOwner) -> None:
    ids = await owner.accepted(2)
    await owner.client.nodes[0].redis.delete(owner.keys.lease(0))
    (lease,), _ = await owner.leases.acquire([0], "two")
    await owner.push(1)
    assert (await owner.entries.take_over(lease)).survivors == set(ids)


async def test_vanished_entries_are_reported_once_and_leave_the_group(owner: PartitionOwner, raw: Raw) -> None:
    ids = await owner.accepted(3)
    await raw.xdel(owner.keys.stream(0), ids[0], ids[2])
    assert (await owner.entries.take_over(owner.lease)).vanished == [ids[0], ids[2]]
    assert set(await pending(raw, owner)) == {ids[1]}
    assert (await owner.entries.take_over(owner.lease)).vanished == []


async def test_takeover_finds_seals_in_order_and_tombstones(owner: PartitionOwner, raw: Raw) -> None:
    ids = await owner.accepted(4)
    seals = [sealed(ids[2:]), sealed(ids[:2])]
    assert await owner.entries.seal(owner.lease, seals) == [None, None]
    await raw.hset(owner.keys.deleted(0), mapping={"u/": "5-0", "u/c": 7})
    found = await owner.entries.take_over(owner.lease)
    assert found.seals == [seals[1], seals[0]]
    assert found.tombstones == {"u/": "5-0", "u/c": last_of_ms(7)}  # of a former version


async def test_taking_many_partitions_over_needs_as_many_round_trips_as_one(
    owner: PartitionOwner, monkeypatch: pytest.MonkeyPatch
) -> None:
    execute, trips = Node.execute, Counter[str]()

    async def counted(node: Node, commands: Sequence[Command], callbacks: Callbacks, *, asking: bool) -> list[Any]:
        trips[what] += 1
        return await execute(node, commands, callbacks, asking=asking)

    others, _ = await owner.leases.acquire(range(1, PARTITIONS), "one")
    monkeypatch.setattr(Node, "execute", counted)
    for what, leases in (("one", [owner.lease]), ("all", [owner.lease, *others])):  # noqa: B007 -- `counted` uses it
        found = await owner.entries.take_over_all(leases)
        assert not [takeover for takeover in found if isinstance(takeover, StreamError)]
    assert trips["all"] == trips["one"]


async def test_failures_of_single_partitions_leave_the_others_alone(owner: PartitionOwner, raw: Raw) -> None:
    ids = await owner.accepted(1)
    others, _ = await owner.leases.acquire(range(1, PARTITIONS), "one")
    lost, broken, unreadable = others
    await raw.delete(owner.keys.lease(lost.partition))
    await raw.set(owner.keys.ready(broken.partition), "no hash")
    await raw.hset(owner.keys.deleted(unreadable.partition), "u/c", "no position")
    found = await owner.entries.take_over_all([lost, broken, unreadable, owner.lease])
    assert [failure.cause for failure in found[:3] if isinstance(failure, StreamError)] == [
        "lease",
        "refused",
        "refused",
    ]
    assert f"RENAME '{owner.keys.ready(broken.partition)}'" in str(found[1])
    assert isinstance(found[3], Takeover)
    assert found[3].identity.read_to == ids[0]


async def test_seal_that_can_not_be_read_is_left_where_it_is(owner: PartitionOwner, raw: Raw) -> None:
    await raw.hset(owner.keys.ready(0), "1-1", '{"v": 99}')
    with pytest.raises(StreamError, match="can't be read") as caught:
        await owner.entries.take_over(owner.lease)
    assert caught.value.cause == "refused"
    assert await raw.hlen(owner.keys.ready(0)) == 1


async def test_group_is_made_at_the_beginning_of_the_stream(client: Client, keys: Keys, raw: Raw) -> None:
    await raw.xadd(keys.stream(0), {"before": "the first worker"})
    await PartitionOwner.open(client, keys, "one")
    (group,) = await raw.xinfo_groups(keys.stream(0))
    assert group["last-delivered-id"] == b"0-0"


async def test_trials_count_the_owners_until_one_survives(client: Client, keys: Keys) -> None:
    suspect = Conversation("u", "c")
    for number in range(1, 4):
        owner = await PartitionOwner.open(client, keys, "the same pod, started again")
        assert await owner.entries.mark_suspect(owner.lease, suspect) == number
    assert await owner.entries.mark_suspect(owner.lease, Conversation("u", "other")) == 1
    await owner.entries.clear_suspect(owner.lease, suspect)
    assert await owner.entries.mark_suspect(owner.lease, suspect) == 1


async def test_trials_of_one_owner_that_could_not_remove_its_mark_do_not_look_like_deaths(
    client: Client, keys: Keys
) -> None:
    suspect = Conversation("u", "c")
    for number in range(1, 3):
        owner = await PartitionOwner.open(client, keys, f"worker {number}")
        assert [await owner.entries.mark_suspect(owner.lease, suspect) for _ in range(5)] == 5 * [number]


async def test_removed_trial_leaves_nothing(owner: PartitionOwner, raw: Raw) -> None:
    await owner.entries.mark_suspect(owner.lease, Conversation("u", "c"))
    await owner.entries.clear_suspect(owner.lease, Conversation("u", "c"))
    assert not await raw.exists(owner.keys.trials(0))
