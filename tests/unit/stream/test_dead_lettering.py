"""Entries move to the dead letters, their fields as they were."""

from __future__ import annotations

import os

import pytest

from tests.support.partition_owner import PartitionOwner, Raw, pending


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
    owner: PartitionOwner,
    raw: Raw,
    fields: dict[bytes, bytes],
) -> None:
    entry = await raw.xadd(owner.keys.stream(0), dict(fields))
    await owner.accept([entry.decode()])
    assert await owner.entries.dead_letter(owner.lease, {entry.decode(): "why"}) == 1
    flat = await raw.eval("return redis.call('XRANGE', KEYS[1], '-', '+')[1][2]", 1, owner.keys.dead(0))
    *original, reason_name, reason, entry_name, origin, at_name, at = flat
    if b"packed" in fields:
        assert original[0] == b"packed"
        original = await raw.eval("return cmsgpack.unpack(ARGV[1])", 0, original[1])
    assert original == [part for field in fields.items() for part in field]
    assert (reason_name, reason, entry_name, origin, at_name) == (b"reason", b"why", b"entry", entry, b"at")
    assert abs(float(at) * 1000 - int(entry.split(b"-")[0])) < 5000
    assert (await raw.xlen(owner.keys.stream(0)), await pending(raw, owner)) == (0, {})


async def test_burying_is_repeated_without_harm(owner: PartitionOwner, raw: Raw) -> None:
    (entry,) = await owner.accepted(1)
    assert [await owner.entries.dead_letter(owner.lease, {entry: "why"}) for _ in range(2)] == [1, 0]
    assert await raw.xlen(owner.keys.dead(0)) == 1


async def test_entry_with_more_fields_than_a_script_can_pass_on_is_packed(owner: PartitionOwner, raw: Raw) -> None:
    fields = {b"%d" % number: os.urandom(2) for number in range(5000)}
    entry = await raw.xadd(owner.keys.stream(0), dict(fields))
    await owner.entries.dead_letter(owner.lease, {entry.decode(): "too much"})
    ((_, letter),) = await raw.xrange(owner.keys.dead(0))
    flat = await raw.eval("return {#cmsgpack.unpack(ARGV[1]), cmsgpack.unpack(ARGV[1])[10000]}", 0, letter[b"packed"])
    assert flat == [10_000, fields[b"4999"]]
    assert letter[b"reason"] == b"too much"
