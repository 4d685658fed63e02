"""Deletions as the bucket remembers them: nothing that one of them covered is ever forgotten."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import pytest

from worker.errors import ObjectMissing, StoreError
from worker.model.causes import StoreCause
from worker.stores.base import Store
from worker.stores.gcs import GcsStore
from worker.stores.tombstones import (
    FOLDER,
    SPARE,
    find_tombstones,
    read_tombstone,
    record_tombstone,
    tombstone_name,
)

ONE, OTHER = "5d" * 16, "0b" * 16


async def covered(store: Store, stream: str, entry: str) -> bool:
    return any(tombstone.covers(stream, entry) for tombstone in await find_tombstones(store, "u", "c"))


async def names(store: Store) -> list[str]:
    return [info.name async for info in store.list(f"{FOLDER}/")]


async def test_a_deletion_covers_what_was_pushed_to_its_streams_before(store: Store) -> None:
    await record_tombstone(store, "u", "c", {ONE: "1000-5"})
    assert await covered(store, ONE, "1000-5")
    assert await covered(store, ONE, "999-9")
    assert not await covered(store, ONE, "1000-10")
    assert not await covered(store, OTHER, "1-0")
    assert await find_tombstones(store, "u", "d") == []


async def test_a_deletion_of_a_user_covers_every_conversation(store: Store) -> None:
    await record_tombstone(store, "u", None, {ONE: "1000-5"})
    assert await covered(store, ONE, "1000-5")
    assert await find_tombstones(store, "v", "c") == []


async def test_later_deletions_add_and_never_take_away(store: Store) -> None:
    first = await record_tombstone(store, "u", "c", {ONE: "1000-0", OTHER: "7-0"})
    second = await record_tombstone(store, "u", "c", {ONE: "900-0", "1c" * 16: "3-0"})
    assert first.id != second.id
    assert second.streams == {ONE: "1000-0", OTHER: "7-0", "1c" * 16: "3-0"}
    assert await names(store) == [tombstone_name("u", "c")]


async def test_deletions_at_the_same_time_are_all_recorded(store: Store) -> None:
    streams = [f"{number:032x}" for number in range(3)]
    done = await asyncio.gather(
        *(record_tombstone(store, "u", "c", {stream: "1-0"}) for stream in streams), return_exceptions=True
    )
    told = [stream for stream, result in zip(streams, done, strict=True) if not isinstance(result, BaseException)]
    assert told
    for stream in told:
        await record_tombstone(store, "u", "c", {})
        assert await covered(store, stream, "1-0")


async def test_a_deletion_that_was_interrupted_loses_nothing_of_former_ones(
    gcs: GcsStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = tombstone_name("u", "c")
    await record_tombstone(gcs, "u", "c", {ONE: "1000-0"})
    create = gcs.create

    async def dying(created: str, data: bytes, metadata: Mapping[str, str]) -> None:
        if created == name:
            raise StoreError("the process ends here", cause=StoreCause.NETWORK)
        await create(created, data, metadata)

    with monkeypatch.context() as patch:
        patch.setattr(gcs, "create", dying)
        with pytest.raises(StoreError, match="ends here"):
            await record_tombstone(gcs, "u", "c", {OTHER: "5-0"})
    assert await names(gcs) == [name + SPARE]
    assert await covered(gcs, ONE, "1000-0")
    await record_tombstone(gcs, "u", "c", {})
    assert await covered(gcs, ONE, "1000-0")
    assert await names(gcs) == [name]


async def test_a_record_that_is_replaced_meanwhile_is_found(store: Store) -> None:
    """The reader comes when the old record is gone, and looks for the spare when the new record is there."""
    await record_tombstone(store, "u", None, {ONE: "1000-0"})
    asked: list[str] = []

    class Late:
        async def read(self, name: str) -> bytes:
            asked.append(name)
            if len(asked) == 1:
                raise ObjectMissing(name)
            return await store.read(name)

    found = await read_tombstone(Late(), "u")
    assert found is not None
    assert found.covers(ONE, "1000-0")
    assert asked == [tombstone_name("u"), tombstone_name("u") + SPARE, tombstone_name("u")]


async def test_what_is_no_record_is_an_error_and_no_absence(store: Store) -> None:
    await store.create(tombstone_name("u", "c"), b"nonsense", {})
    with pytest.raises(StoreError, match="a person must look"):
        await find_tombstones(store, "u", "c")
