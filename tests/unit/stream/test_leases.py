"""Heartbeats and leases: who lives, who owns what."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from tests.support.harness import eventually
from tests.support.partition_owner import PARTITIONS, TTL, Raw
from worker.stream.client import Client
from worker.stream.keys import Keys
from worker.stream.leases import LIST, USABLE_SHARE, Lease, Leases, Member


async def test_free_leases_are_taken_and_held_ones_are_not(leases: Leases) -> None:
    first, refused = await leases.acquire([0, 2], "one")
    second, _ = await leases.acquire([0, 1, 2], "two")
    assert [lease.partition for lease in first] == [0, 2]
    assert [lease.partition for lease in second] == [1]
    assert refused == []
    assert await leases.owners() == ["one", "two", "one", None]


async def test_one_of_many_that_ask_at_once_gets_it(leases: Leases) -> None:
    answers = await asyncio.gather(*(leases.acquire([0], f"w{number}") for number in range(10)))
    assert sum(len(taken) for taken, _ in answers) == 1


async def test_a_lease_of_another_type_is_an_error_and_not_a_held_lease(leases: Leases, keys: Keys, raw: Raw) -> None:
    await raw.xadd(keys.lease(1), {"uid": "u"})
    taken, (refused,) = await leases.acquire([0, 1, 2, 3], "one")
    assert [lease.partition for lease in taken] == [0, 2, 3]
    assert f"{keys.lease(1)} is a stream, where a string belongs" in str(refused)
    assert "streams move" in str(refused)


async def test_without_a_list_of_workers_each_counts_as_the_only_one(
    leases: Leases, client: Client, keys: Keys, raw: Raw
) -> None:
    await raw.xadd(keys.workers, {"uid": "u"})
    seconds, _ = await raw.time()

    assert await leases.heartbeat(Member("one", "a")) == [Member("one", "a")]
    assert f"{keys.workers} is a stream, where a hash belongs" in leases.broken
    await client.observe_nodes()
    assert client.now_ms() // 1000 >= seconds  # Redis' time is known all the same

    await raw.delete(keys.workers)
    await leases.heartbeat(Member("one", "a"))
    assert leases.broken == ""


async def test_broken_keys_cost_only_their_own_partitions(leases: Leases, keys: Keys, raw: Raw) -> None:
    await raw.set(keys.epoch(1), "no hash")
    taken, (refused,) = await leases.acquire([0, 1, 2, 3], "one")
    assert [lease.partition for lease in taken] == [0, 2, 3]
    assert refused.cause == "refused"
    assert f"{keys.epoch(1)} is a string, where a hash belongs" in str(refused)
    await raw.delete(keys.lease(2))
    await raw.rpush(keys.lease(2), "no lease")
    await leases.renew(taken)
    assert [lease.partition for lease in taken if lease.lost] == [2]
    assert await leases.owners() == ["one", None, None, "one"]


async def test_worker_id_may_hold_spaces(leases: Leases) -> None:
    await leases.acquire([3], "my worker 1")
    assert (await leases.owners())[3] == "my worker 1"


async def test_generation_grows_with_every_owner(leases: Leases) -> None:
    tokens = []
    for number in range(3):
        (lease,), _ = await leases.acquire([0], "one")
        tokens.append(lease.token)
        assert lease.generation == number + 1
        await leases.release(lease)
    assert len(set(tokens)) == 3


async def test_first_owner_counts_as_coming_after_a_clean_one(leases: Leases) -> None:
    (lease,), _ = await leases.acquire([0], "one")
    assert lease.clean


async def test_lease_expires_without_renewal(client: Client, keys: Keys) -> None:
    short = Leases(client, keys, PARTITIONS, 0.05)
    (lease,), _ = await short.acquire([0], "one")

    async def expired() -> bool:
        return (await short.owners())[0] is None

    await eventually(expired)
    await short.renew([lease])
    assert lease.lost
    (successor,), _ = await short.acquire([0], "two")
    assert not successor.clean


async def test_renewal_prolongs_and_notes_when_it_was_sent(leases: Leases, keys: Keys, raw: Raw) -> None:
    (lease,), _ = await leases.acquire([0], "one")
    acquired = lease.renewed
    await raw.pexpire(keys.lease(0), 5000)
    assert await leases.renew([lease]) == []
    assert await raw.pttl(keys.lease(0)) > 1000 * TTL - 1000
    assert lease.renewed > acquired


async def test_renewal_tells_lost_leases_from_held_ones(leases: Leases, keys: Keys, raw: Raw) -> None:
    (first, second), _ = await leases.acquire([0, 1], "one")
    await raw.delete(keys.lease(0))
    await leases.acquire([0], "two")
    await leases.renew([first, second])
    assert (first.lost, second.lost) == (True, False)


async def test_released_lease_of_another_owner_is_left_alone(leases: Leases, keys: Keys, raw: Raw) -> None:
    (lease,), _ = await leases.acquire([0], "one")
    await raw.delete(keys.lease(0))
    await leases.acquire([0], "two")
    await leases.release(lease)
    assert (await leases.owners())[0] == "two"
    assert await raw.hget(keys.epoch(0), "clean") == b"0"


def test_lease_is_usable_for_a_part_of_its_time_only() -> None:
    """Redis counts from when the renewal arrives, which is later than when it was sent: stop before it does."""
    lease = Lease(0, "one 1 x", ttl=15.0, renewed=100.0)
    assert lease.usable(100 + 15 * USABLE_SHARE - 0.01)
    assert not lease.usable(100 + 15 * USABLE_SHARE)
    lease.lost = True
    assert not lease.usable(100)


async def test_heartbeat_lists_all_who_live(leases: Leases) -> None:
    one, two = Member("one", "a", 5, trouble="the store refuses"), Member("two", "b", 7)
    await leases.heartbeat(one)
    members = await leases.heartbeat(two)
    assert sorted(members, key=lambda member: member.worker) == [one, two]


async def test_the_clock_is_that_of_redis(client: Client, raw: Raw) -> None:
    await client.observe_nodes()
    seconds, microseconds = await raw.time()
    assert client.now_ms() == pytest.approx(seconds * 1000 + microseconds / 1000, abs=500)


async def test_list_of_workers_comes_only_when_it_has_changed(
    leases: Leases, client: Client, keys: Keys, raw: Raw
) -> None:
    others = Leases(client, keys, PARTITIONS, TTL)
    alone = await leases.heartbeat(Member("one"))
    assert await leases.heartbeat(Member("one", trouble="the store refuses")) is alone  # this one is for people
    assert b"the store refuses" in (await raw.hgetall(keys.workers))[b"one"]

    await others.heartbeat(Member("two"))
    both = await leases.heartbeat(Member("one"))
    assert names(both) == ["one", "two"]
    assert await leases.heartbeat(Member("one")) is both

    restarted = Leases(client, keys, PARTITIONS, TTL)
    await restarted.heartbeat(Member("two", "another revision"))
    changed = await leases.heartbeat(Member("one"))
    assert {member.revision for member in changed} == {"", "another revision"}

    await restarted.leave("two")
    assert names(await leases.heartbeat(Member("one"))) == ["one"]


async def test_list_of_workers_that_redis_has_lost_is_made_again(leases: Leases, keys: Keys, raw: Raw) -> None:
    before = await leases.heartbeat(Member("one"))
    await raw.delete(keys.workers)
    after = await leases.heartbeat(Member("one"))
    assert after == before
    assert after is not before


async def test_dead_worker_is_noticed_by_those_who_live_on(client: Client, keys: Keys, raw: Raw) -> None:
    """Each of them hears of it, though only one of them has looked."""
    living = {name: Leases(client, keys, PARTITIONS, TTL) for name in ("one", "two")}
    await Leases(client, keys, PARTITIONS, TTL).heartbeat(Member("dead"))
    for name, leases in living.items():
        await leases.heartbeat(Member(name))
    assert names(await living["one"].heartbeat(Member("one"))) == ["dead", "one", "two"]

    await raw.hset(keys.workers, "dead", "1 {}")  # its last heartbeat is long ago
    await raw.hset(keys.workers, LIST, (await raw.hget(keys.workers, LIST)).rpartition(b" ")[0] + b" 1")
    for name, leases in living.items():
        assert names(await leases.heartbeat(Member(name))) == ["one", "two"]


def names(members: Sequence[Member]) -> list[str]:
    return sorted(member.worker for member in members)


async def test_silent_worker_is_forgotten(client: Client, keys: Keys, raw: Raw) -> None:
    await Leases(client, keys, PARTITIONS, 0.001).heartbeat(Member("silent"))
    leases = Leases(client, keys, PARTITIONS, TTL)

    async def alone() -> bool:
        return [member.worker for member in await leases.heartbeat(Member("one"))] == ["one"]

    await eventually(alone)
    assert await raw.hkeys(keys.workers) == [LIST.encode(), b"one"]


async def test_leaving_worker_is_off_the_list_at_once(leases: Leases) -> None:
    await leases.heartbeat(Member("one"))
    await leases.leave("one")
    assert [member.worker for member in await leases.heartbeat(Member("two"))] == ["two"]


def test_all_keys_of_a_partition_start_with_its_stream_key_whose_braces_come_first(keys: Keys) -> None:
    """So that Redis Cluster hashes them alike, whatever a conversation's id holds."""
    makers = (keys.lease, keys.epoch, keys.ready, keys.done, keys.dead, keys.trials, keys.deleted)
    names = [make(7) for make in makers] + [keys.seen(7, "u/{c}")]
    assert keys.stream(7) == f"{keys.prefix}:{{7}}"
    assert all(name.startswith(f"{keys.stream(7)}:") for name in names)
