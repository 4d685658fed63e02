"""A seal is set once, over exactly what is pending, or refused with the reason."""

from __future__ import annotations

import pytest

from tests.support.partition_owner import Desk, Raw, sealed
from worker.model.causes import RewindCause
from worker.stream.entries import Refused
from worker.stream.keys import GROUP


async def test_seal_is_set_once_and_may_be_repeated(desk: Desk, raw: Raw) -> None:
    seal = sealed(await desk.accepted(3))
    for _ in range(2):
        assert await desk.entries.seal(desk.lease, [seal]) == [None]
    assert await raw.hgetall(desk.keys.ready(0)) == {seal.id.encode(): seal.to_json().encode()}


async def test_seal_of_another_composition_is_refused(desk: Desk) -> None:
    ids = await desk.accepted(3)
    await desk.entries.seal(desk.lease, [sealed(ids[:2])])
    assert await desk.entries.seal(desk.lease, [sealed(ids)]) == [Refused(RewindCause.OTHER, [])]
    assert await desk.entries.seals(0) == [sealed(ids[:2])]


async def test_seal_is_refused_while_somebody_else_has_pending_entries(desk: Desk, raw: Raw) -> None:
    ids = await desk.accepted(1)
    await desk.push(1)
    await raw.xreadgroup(GROUP, "paused", {desk.keys.stream(0): ">"})
    assert await desk.entries.seal(desk.lease, [sealed(ids)]) == [Refused(RewindCause.FOREIGN, [])]


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
    assert await desk.entries.seal(desk.lease, [sealed(ids)]) == [Refused(RewindCause.DELETED, [])]


async def test_seal_over_vanished_entries_is_refused_and_names_them(desk: Desk, raw: Raw) -> None:
    ids = await desk.accepted(3)
    await raw.xdel(desk.keys.stream(0), ids[1])
    assert await desk.entries.seal(desk.lease, [sealed(ids[:2], ids[2])]) == [Refused(RewindCause.VANISHED, [ids[1]])]
    assert await desk.entries.seals(0) == []


async def test_one_refusal_does_not_keep_other_batches_from_being_sealed(desk: Desk, raw: Raw) -> None:
    ids = await desk.accepted(2)
    await raw.xdel(desk.keys.stream(0), ids[0])
    assert await desk.entries.seal(desk.lease, [sealed(ids[:1]), sealed(ids[1:])]) == [
        Refused(RewindCause.VANISHED, [ids[0]]),
        None,
    ]
