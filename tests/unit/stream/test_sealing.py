"""A seal is set once, over exactly what is pending, or refused with the reason."""

from __future__ import annotations

import pytest

from tests.support.partition_owner import PartitionOwner, Raw, sealed
from worker.model.causes import RewindCause
from worker.stream.entries import Refused
from worker.stream.keys import GROUP


async def test_seal_is_set_once_and_may_be_repeated(owner: PartitionOwner, raw: Raw) -> None:
    seal = sealed(await owner.accepted(3))
    for _ in range(2):
        assert await owner.entries.seal(owner.lease, [seal]) == [None]
    assert await raw.hgetall(owner.keys.ready(0)) == {seal.id.encode(): seal.to_json().encode()}


async def test_seal_of_another_composition_is_refused(owner: PartitionOwner) -> None:
    ids = await owner.accepted(3)
    await owner.entries.seal(owner.lease, [sealed(ids[:2])])
    assert await owner.entries.seal(owner.lease, [sealed(ids)]) == [Refused(RewindCause.OTHER, [])]
    assert await owner.entries.seals(0) == [sealed(ids[:2])]


async def test_seal_is_refused_while_somebody_else_has_pending_entries(owner: PartitionOwner, raw: Raw) -> None:
    ids = await owner.accepted(1)
    await owner.push(1)
    await raw.xreadgroup(GROUP, "paused", {owner.keys.stream(0): ">"})
    assert await owner.entries.seal(owner.lease, [sealed(ids)]) == [Refused(RewindCause.FOREIGN, [])]


@pytest.mark.parametrize("tombstone", ["u/", "u/c"])
async def test_seal_is_refused_when_its_audio_was_deleted_after_it_was_pushed(
    owner: PartitionOwner,
    raw: Raw,
    tombstone: str,
) -> None:
    ids = await owner.accepted(2)
    pushed = int(ids[0].split("-")[0])
    await raw.hset(owner.keys.deleted(0), tombstone, pushed - 1)
    assert await owner.entries.seal(owner.lease, [sealed(ids)]) == [None]
    await raw.hset(owner.keys.deleted(0), tombstone, pushed)
    assert await owner.entries.seal(owner.lease, [sealed(ids)]) == [Refused(RewindCause.DELETED, [])]


async def test_seal_over_vanished_entries_is_refused_and_names_them(owner: PartitionOwner, raw: Raw) -> None:
    ids = await owner.accepted(3)
    await raw.xdel(owner.keys.stream(0), ids[1])
    assert await owner.entries.seal(owner.lease, [sealed(ids[:2], ids[2])]) == [Refused(RewindCause.VANISHED, [ids[1]])]
    assert await owner.entries.seals(0) == []


async def test_one_refusal_does_not_keep_other_batches_from_being_sealed(owner: PartitionOwner, raw: Raw) -> None:
    ids = await owner.accepted(2)
    await raw.xdel(owner.keys.stream(0), ids[0])
    assert await owner.entries.seal(owner.lease, [sealed(ids[:1]), sealed(ids[1:])]) == [
        Refused(RewindCause.VANISHED, [ids[0]]),
        None,
    ]
