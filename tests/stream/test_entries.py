"""The way of entries through Redis, script by script."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable

import pytest

from tests.redis_server import RedisServer
from tests.stream.desk import Desk, Raw, sealed
from worker.batch import Conversation
from worker.errors import LeaseLost, StreamError
from worker.history import MAX_BYTES
from worker.stream.client import Client, connect
from worker.stream.entries import CLAIM_PAGE, START, ReadRequest, Refused
from worker.stream.keys import GROUP, Keys

EVENT = {"object": "chunks/u/c/1000.000.opus.enc", "bytes": "7"}


async def pending(raw: Raw, desk: Desk) -> dict[str, tuple[str, int]]:
    """Pending entries → consumer and delivery count."""
    found = await raw.xpending_range(desk.keys.stream(0), GROUP, "-", "+", 100_000)
    return {entry["message_id"].decode(): (entry["consumer"].decode(), entry["times_delivered"]) for entry in found}


FENCED: dict[str, Callable[[Desk, list[str]], Awaitable[object]]] = {
    "take over": lambda desk, _: desk.entries.take_over(desk.lease),
    "discard": lambda desk, ids: desk.entries.discard(desk.lease, ids),
    "bury": lambda desk, ids: desk.entries.bury(desk.lease, dict.fromkeys(ids, "bad")),
    "seal": lambda desk, ids: desk.entries.seal(desk.lease, [sealed(ids)]),
    "unseal": lambda desk, ids: desk.entries.unseal(desk.lease, sealed(ids)),
    "begin trial": lambda desk, _: desk.entries.begin_trial(desk.lease, Conversation("u", "c")),
    "end trial": lambda desk, _: desk.entries.end_trial(desk.lease, Conversation("u", "c")),
}


@pytest.mark.parametrize("step", FENCED)
@pytest.mark.parametrize("successor", [True, False], ids=["taken over", "expired"])
async def test_former_owner_changes_nothing(desk: Desk, raw: Raw, step: str, successor: bool) -> None:
    ids = await desk.accepted(3)
    await raw.delete(desk.keys.lease(0))
    if successor:
        await Desk.open(desk.client, desk.keys, "two")
    before = await everything(raw, desk.keys)
    with pytest.raises(LeaseLost, match="is held by another worker or has expired"):
        await FENCED[step](desk, ids)
    assert await everything(raw, desk.keys) == before


async def test_former_owner_accepts_nothing_while_others_go_on(desk: Desk, raw: Raw) -> None:
    (lease,) = await desk.leases.acquire([1], "one")
    await desk.entries.take_over(lease)
    (ours,) = await desk.push(1)
    theirs = (await raw.xadd(desk.keys.stream(1), {"a": "b"})).decode()
    await raw.delete(desk.keys.lease(0))
    lost, accepted = await desk.entries.accept([(desk.lease, [ours]), (lease, [theirs])])
    assert isinstance(lost, LeaseLost)
    assert accepted == {theirs}
    assert await pending(raw, desk) == {}


async def everything(raw: Raw, keys: Keys) -> dict[bytes, object]:
    """All keys of the partition with their values, and all that the groups hold."""
    names = [name async for name in raw.scan_iter(f"{keys.prefix}:{{0}}*")]
    groups = await raw.xpending_range(keys.stream(0), GROUP, "-", "+", 1000)
    for entry in groups:
        del entry["time_since_delivered"]
    return {name: await raw.dump(name) for name in names if not name.endswith(b"{0}")} | {b"pending": groups}


async def test_reading_changes_nothing_and_may_be_repeated(desk: Desk, raw: Raw) -> None:
    ids = await desk.push(5)
    request = ReadRequest(0, START, 3)
    first, again = await desk.entries.read([request, request])
    assert isinstance(first, list)
    assert first == again
    assert [entry.id for entry in first] == ids[:3]
    assert first[0].fields[b"uid"] == b"u"
    rest, nothing = await desk.entries.read([ReadRequest(0, ids[2], 3), ReadRequest(3, START, 3)])
    assert isinstance(rest, list)
    assert [entry.id for entry in rest] == ids[3:]
    assert nothing == []
    assert await pending(raw, desk) == {}


async def test_key_of_a_wrong_type_spoils_only_its_own_page(desk: Desk, raw: Raw) -> None:
    await raw.set(desk.keys.stream(1), "no stream")
    ids = await desk.push(1)
    wrong, right = await desk.entries.read([ReadRequest(1, START, 1), ReadRequest(0, START, 1)])
    assert isinstance(wrong, StreamError)
    assert wrong.cause == "refused"
    assert isinstance(right, list)
    assert [entry.id for entry in right] == ids


async def test_accepted_entries_are_pending_once_however_often_they_are_accepted(
    desk: Desk,
    raw: Raw,
) -> None:
    ids = await desk.push(3)
    for _ in range(3):
        assert await desk.accept(ids) == set(ids)
    assert await pending(raw, desk) == dict.fromkeys(ids, ("one", 1))


async def test_only_what_still_exists_is_accepted(desk: Desk, raw: Raw) -> None:
    ids = await desk.push(3)
    await raw.xdel(desk.keys.stream(0), ids[1])
    assert await desk.accept(ids) == {ids[0], ids[2]}
    assert set(await pending(raw, desk)) == {ids[0], ids[2]}


async def test_group_that_a_person_looks_at_has_been_delivered_what_was_accepted_but_shows_no_lag(
    desk: Desk,
    raw: Raw,
) -> None:
    """XCLAIM moves the cursor and does not count: the backlog is XLEN, not the group's lag."""
    ids = await desk.push(5)
    await desk.accept(ids[:3])
    (group,) = await raw.xinfo_groups(desk.keys.stream(0))
    assert group["last-delivered-id"].decode() == ids[2]
    assert group["pending"] == 3
    assert group["entries-read"] is None
    assert group["lag"] is None
    assert (await desk.entries.backlog([0, 1])).entries == {0: 5, 1: 0}


async def test_backlog_bytes_grow_with_the_audio(desk: Desk) -> None:
    await desk.push(20, pcm=bytes(100_000))
    backlog = await desk.entries.backlog([0, 1])
    assert 1_000_000 < backlog.bytes[0] < 6_000_000
    assert backlog.bytes[1] == 0


async def test_taking_over_claims_everything_whoever_had_it_in_pages(desk: Desk, raw: Raw) -> None:
    ids = await desk.accepted(2 * CLAIM_PAGE + 1)
    await raw.xgroup_createconsumer(desk.keys.stream(0), GROUP, "idle")
    successor = await Desk.open(desk.client, desk.keys, "two")
    assert await pending(raw, desk) == dict.fromkeys(ids, ("two", 2))
    consumers = await raw.xinfo_consumers(desk.keys.stream(0), GROUP)
    assert [consumer["name"] for consumer in consumers] == [b"two"]
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
    (lease,) = await desk.leases.acquire([0], "two")
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
    await raw.hset(desk.keys.deleted(0), mapping={"u/": 5, "u/c": 7})
    found = await desk.entries.take_over(desk.lease)
    assert found.seals == [seals[1], seals[0]]
    assert found.tombstones == {"u/": 5, "u/c": 7}


async def test_group_is_made_at_the_beginning_of_the_stream(client: Client, keys: Keys, raw: Raw) -> None:
    await raw.xadd(keys.stream(0), {"before": "the first worker"})
    await Desk.open(client, keys, "one")
    (group,) = await raw.xinfo_groups(keys.stream(0))
    assert group["last-delivered-id"] == b"0-0"


async def test_seal_is_set_once_and_may_be_repeated(desk: Desk, raw: Raw) -> None:
    seal = sealed(await desk.accepted(3))
    for _ in range(2):
        assert await desk.entries.seal(desk.lease, [seal]) == [None]
    assert await raw.hgetall(desk.keys.ready(0)) == {seal.id.encode(): seal.to_json().encode()}


async def test_seal_of_another_composition_is_refused(desk: Desk) -> None:
    ids = await desk.accepted(3)
    await desk.entries.seal(desk.lease, [sealed(ids[:2])])
    assert await desk.entries.seal(desk.lease, [sealed(ids)]) == [Refused("other", [])]
    assert await desk.entries.seals(0) == [sealed(ids[:2])]


async def test_seal_is_refused_while_somebody_else_has_pending_entries(desk: Desk, raw: Raw) -> None:
    ids = await desk.accepted(1)
    await desk.push(1)
    await raw.xreadgroup(GROUP, "paused", {desk.keys.stream(0): ">"})
    assert await desk.entries.seal(desk.lease, [sealed(ids)]) == [Refused("foreign", [])]


@pytest.mark.parametrize("tombstone", ["u/", "u/c"])
async def test_seal_is_refused_when_its_audio_was_deleted_after_it_was_pushed(
    desk: Desk,
    raw: Raw,
    tombstone: str,
) -> None:
    ids = await desk.accepted(2)
    pushed = int(ids[0].split("-")[0])
    await raw.hset(desk.keys.deleted(0), tombstone, pushed - 1)
    assert await desk.entries.seal(desk.lease, [sealed(ids)]) == [None]
    await raw.hset(desk.keys.deleted(0), tombstone, pushed)
    assert await desk.entries.seal(desk.lease, [sealed(ids)]) == [Refused("deleted", [])]


async def test_seal_over_vanished_entries_is_refused_and_names_them(desk: Desk, raw: Raw) -> None:
    ids = await desk.accepted(3)
    await raw.xdel(desk.keys.stream(0), ids[1])
    assert await desk.entries.seal(desk.lease, [sealed(ids[:2], ids[2])]) == [Refused("vanished", [ids[1]])]
    assert await desk.entries.seals(0) == []


async def test_one_refusal_does_not_keep_other_batches_from_being_sealed(desk: Desk, raw: Raw) -> None:
    ids = await desk.accepted(2)
    await raw.xdel(desk.keys.stream(0), ids[0])
    assert await desk.entries.seal(desk.lease, [sealed(ids[:1]), sealed(ids[1:])]) == [
        Refused("vanished", [ids[0]]),
        None,
    ]


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


@pytest.mark.parametrize(
    "fields",
    [
        {b"uid": b"u", b"pcm": bytes(range(256)) * 40},
        {b"\x00\xff": b"", b"": b"empty name"},
        {b"reason": b"theirs", b"entry": b"theirs", b"at": b"theirs"},
        {b"packed": b"theirs"},
        {b"%d" % number: os.urandom(3) for number in range(1999)},
    ],
    ids=["binary", "odd names", "our names", "packed", "1999 fields"],
)
async def test_buried_entry_keeps_its_fields_in_order_with_three_more_at_the_end(
    desk: Desk,
    raw: Raw,
    fields: dict[bytes, bytes],
) -> None:
    entry = await raw.xadd(desk.keys.stream(0), dict(fields))
    await desk.accept([entry.decode()])
    assert await desk.entries.bury(desk.lease, {entry.decode(): "why"}) == 1
    flat = await raw.eval("return redis.call('XRANGE', KEYS[1], '-', '+')[1][2]", 1, desk.keys.dead(0))
    *original, reason_name, reason, entry_name, origin, at_name, at = flat
    if b"packed" in fields:
        assert original[0] == b"packed"
        original = await raw.eval("return cmsgpack.unpack(ARGV[1])", 0, original[1])
    assert original == [part for field in fields.items() for part in field]
    assert (reason_name, reason, entry_name, origin, at_name) == (b"reason", b"why", b"entry", entry, b"at")
    assert abs(float(at) * 1000 - int(entry.split(b"-")[0])) < 5000
    assert (await raw.xlen(desk.keys.stream(0)), await pending(raw, desk)) == (0, {})


async def test_burying_is_repeated_without_harm(desk: Desk, raw: Raw) -> None:
    (entry,) = await desk.accepted(1)
    assert [await desk.entries.bury(desk.lease, {entry: "why"}) for _ in range(2)] == [1, 0]
    assert await raw.xlen(desk.keys.dead(0)) == 1


async def test_entry_with_more_fields_than_a_script_can_pass_on_is_packed(desk: Desk, raw: Raw) -> None:
    fields = {b"%d" % number: os.urandom(2) for number in range(5000)}
    entry = await raw.xadd(desk.keys.stream(0), dict(fields))
    await desk.entries.bury(desk.lease, {entry.decode(): "too much"})
    ((_, letter),) = await raw.xrange(desk.keys.dead(0))
    flat = await raw.eval("return {#cmsgpack.unpack(ARGV[1]), cmsgpack.unpack(ARGV[1])[10000]}", 0, letter[b"packed"])
    assert flat == [10_000, fields[b"4999"]]
    assert letter[b"reason"] == b"too much"


async def test_trial_counts_until_it_ends(desk: Desk) -> None:
    suspect = Conversation("u", "c")
    assert [await desk.entries.begin_trial(desk.lease, suspect) for _ in range(3)] == [1, 2, 3]
    assert await desk.entries.begin_trial(desk.lease, Conversation("u", "other")) == 1
    await desk.entries.end_trial(desk.lease, suspect)
    assert await desk.entries.begin_trial(desk.lease, suspect) == 1


async def test_seal_that_can_not_be_read_is_left_where_it_is(desk: Desk, raw: Raw) -> None:
    await raw.hset(desk.keys.ready(0), "1-1", '{"v": 99}')
    with pytest.raises(StreamError, match="can't be read") as caught:
        await desk.entries.take_over(desk.lease)
    assert caught.value.cause == "refused"
    assert await raw.hlen(desk.keys.ready(0)) == 1


async def test_every_step_works_in_a_full_redis(own_redis: Callable[..., RedisServer]) -> None:
    """maxmemory refuses pushes; what drains Redis must still write."""
    server = own_redis()
    client = Client(connect(server.url))
    desk = await Desk.open(client, Keys("pcm"), "one")
    ids = await desk.push(6, pcm=bytes(100_000))
    await client.redis.config_set("maxmemory", "1mb")
    with pytest.raises(Exception, match="maxmemory"):
        await desk.push(1)
    desk = await Desk.open(client, Keys("pcm"), "two")
    assert await desk.accept(ids) == set(ids)
    assert await desk.entries.begin_trial(desk.lease, Conversation("u", "c")) == 1
    assert await desk.entries.bury(desk.lease, {ids[0]: "bad"}) == 1
    await desk.entries.discard(desk.lease, ids[1:2])
    seal = sealed(ids[2:])
    assert await desk.entries.seal(desk.lease, [seal]) == [None]
    assert await desk.leases.renew([desk.lease]) == []
    assert await desk.entries.done(0, seal, seal.all_ids, b"8 bytes.", EVENT) == "done"
    await desk.leases.release(desk.lease)
    assert (await desk.entries.backlog([0])).entries == {0: 0}
    await client.close()
