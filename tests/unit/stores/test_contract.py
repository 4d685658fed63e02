"""What every store promises, whatever holds the bytes."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING

import google_crc32c
import pytest

from worker.errors import ObjectExists, ObjectMissing, StoreError

if TYPE_CHECKING:
    from worker.stores.base import Store

NAME = "chunks/user/conversation/1000.000.opus.enc"
METADATA = {"codec": "opus", "sample-rate": "16000", "first-entry": "1-0", "note": 'ünïcode "quoted" \\ '}
ODD_NAMES = [
    "chunks/user with space/c/1.000.bin",
    "chunks/what?/c/1.000.bin",
    "chunks/#1/c/1.000.bin",
    "chunks/100%/c/1.000.bin",
    "chunks/%2F%00/c/1.000.bin",
    "chunks/a+b&c=d;e@f:g,h/c/1.000.bin",
    "chunks/ツ\u00a0é/e\u0301/1.000.bin",
    "chunks/.hidden/...c/1.000.bin",
    "chunks/'\"<>*[]{}|^`~$!()/c/1.000.bin",
    f"chunks/{256 * 'u'}/{128 * 'é'}/1.000.bin",
    f"chunks/{253 * 'u'}.../{253 * 'u'}a../1.000.bin",
    f"chunks/{255 * 'u'}/c/{255 * 'x'}",
]


async def names(store: Store, prefix: str = "") -> list[str]:
    return [info.name async for info in store.list(prefix)]


async def test_what_was_created_reads_back_with_its_metadata(store: Store) -> None:
    data = os.urandom(100_000)

    await store.create(NAME, data, METADATA)

    assert await store.read(NAME) == data
    info = await store.stat(NAME)
    assert info is not None
    assert (info.name, info.size, info.metadata) == (NAME, len(data), METADATA)
    assert info.crc32c == google_crc32c.value(data)


async def test_an_object_may_be_empty_and_have_no_metadata(store: Store) -> None:
    await store.create(NAME, b"", {})

    assert await store.read(NAME) == b""
    info = await store.stat(NAME)
    assert info is not None
    assert (info.size, info.metadata) == (0, {})


async def test_create_never_overwrites(store: Store) -> None:
    await store.create(NAME, b"first", METADATA)

    with pytest.raises(ObjectExists) as caught:
        await store.create(NAME, b"second", {"codec": "pcm"})

    assert caught.value.name == NAME
    assert await store.read(NAME) == b"first"
    info = await store.stat(NAME)
    assert info is not None
    assert info.metadata == METADATA


async def test_of_many_creates_at_once_exactly_one_wins_with_its_own_metadata(store: Store) -> None:
    attempts = [store.create(NAME, f"content {n}".encode(), {"writer": str(n)}) for n in range(8)]

    outcomes = await asyncio.gather(*attempts, return_exceptions=True)

    assert [type(outcome) for outcome in outcomes].count(ObjectExists) == 7
    winner = outcomes.index(None)
    info = await store.stat(NAME)
    assert info is not None
    assert info.metadata == {"writer": str(winner)}
    assert await store.read(NAME) == f"content {winner}".encode()


async def test_a_name_is_free_again_after_delete(store: Store) -> None:
    await store.create(NAME, b"first", METADATA)

    assert await store.delete(NAME) is True
    assert await store.delete(NAME) is False
    assert await store.stat(NAME) is None
    await store.create(NAME, b"second", {})

    assert await store.read(NAME) == b"second"
    info = await store.stat(NAME)
    assert info is not None
    assert info.metadata == {}


async def test_an_absent_object_is_none_to_stat_and_missing_to_read_and_copy(store: Store) -> None:
    assert await store.stat(NAME) is None
    for attempt in (store.read(NAME), store.copy(NAME, "chunks/target")):
        with pytest.raises(ObjectMissing) as caught:
            await attempt
        assert caught.value.name == NAME
    assert await names(store) == []


async def test_list_goes_on_after_a_name_that_need_not_be_there(store: Store) -> None:
    for letter in "abcd":
        await store.create(f"chunks/{letter}", b"", {})

    assert [info.name async for info in store.list("chunks/", after="chunks/b")] == ["chunks/c", "chunks/d"]
    assert [info.name async for info in store.list("chunks/", after="chunks/bb")] == ["chunks/c", "chunks/d"]
    assert [info async for info in store.list("chunks/", after="chunks/d")] == []


async def test_copy_keeps_metadata_and_the_source(store: Store) -> None:
    await store.create(NAME, b"content", METADATA)

    await store.copy(NAME, "chunks/user/other/1000.000.opus.enc")

    infos = [info async for info in store.list("chunks/")]
    assert [(info.name.split("/")[2], info.size, info.metadata) for info in infos] == [
        ("conversation", 7, METADATA),
        ("other", 7, METADATA),
    ]
    assert infos[0].crc32c == infos[1].crc32c == google_crc32c.value(b"content")


async def test_copy_replaces_the_metadata_by_those_given(store: Store) -> None:
    await store.create(NAME, b"content", METADATA)

    await store.copy(NAME, "chunks/replaced", {"codec": "pcm"})
    await store.copy(NAME, "chunks/none", {})

    infos = [info async for info in store.list("chunks/")]
    assert [(info.name, info.metadata) for info in infos] == [
        ("chunks/none", {}),
        ("chunks/replaced", {"codec": "pcm"}),
        (NAME, METADATA),
    ]
    assert await store.read("chunks/replaced") == b"content"


async def generation_of(store: Store, name: str) -> str:
    info = await store.stat(name)
    assert info is not None
    return info.generation


async def test_delete_of_a_generation_takes_no_later_object_of_the_name(store: Store) -> None:
    await store.create(NAME, b"first", METADATA)
    first = await generation_of(store, NAME)
    await store.delete(NAME)
    await store.create(NAME, b"second", {})
    second = await generation_of(store, NAME)

    assert first != second
    assert await store.delete(NAME, first) is False
    assert await store.read(NAME) == b"second"
    assert await store.delete(NAME, second) is True
    assert await store.delete(NAME, second) is False
    assert await store.stat(NAME) is None


async def test_list_and_stat_tell_the_same_generation_and_a_copy_has_its_own(store: Store) -> None:
    await store.create(NAME, b"content", METADATA)
    await store.copy(NAME, "chunks/copy")

    infos = [info async for info in store.list("chunks/")]

    assert [info.generation for info in infos] == [await generation_of(store, info.name) for info in infos]
    assert len({info.generation for info in infos}) == 2


async def test_copy_never_overwrites(store: Store) -> None:
    await store.create(NAME, b"source", {})
    await store.create("chunks/target", b"target", {})

    with pytest.raises(ObjectExists) as caught:
        await store.copy(NAME, "chunks/target")

    assert caught.value.name == "chunks/target"
    assert await store.read("chunks/target") == b"target"


async def test_list_is_in_the_order_of_utf8_bytes_whatever_the_order_of_creation(store: Store) -> None:
    # "a.b" sorts before "a/b" by bytes but not by path parts; U+FF61 before U+10000 by bytes but not in UTF-16.
    ordered = ["a.b/x", "a/b", "a/b.c", "a0", "b/B", "b/a", "b/z", "b/\uff61", "b/\U00010000"]
    for name in reversed(ordered):
        await store.create(name, name.encode(), {})

    assert await names(store) == ordered


@pytest.mark.parametrize("prefix", ["chunks/u/", "chunks/u", "chunks/u/c/1", "chunks/absent/", "chunks/u/c/1.000.bin"])
async def test_list_takes_any_prefix_not_only_directories(store: Store, prefix: str) -> None:
    every = ["chunks/u/c/1.000.bin", "chunks/u/c/2.000.bin", "chunks/u2/c/1.000.bin"]
    for name in every:
        await store.create(name, b"", {})

    assert await names(store, prefix) == [name for name in every if name.startswith(prefix)]


@pytest.mark.slow
@pytest.mark.parametrize("name", ODD_NAMES)
async def test_a_name_is_taken_literally(store: Store, name: str) -> None:
    await store.create(name, name.encode(), METADATA)

    assert await names(store, name[:8]) == [name]
    assert await store.read(name) == name.encode()
    info = await store.stat(name)
    assert info is not None
    assert info.name == name
    await store.copy(name, f"{name}2")
    assert await store.delete(name)
    assert await names(store) == [f"{name}2"]


async def test_objects_made_while_listing_do_not_break_it(store: Store) -> None:
    for n in range(5):
        await store.create(f"chunks/{n}", b"", {})
    seen = []

    async for info in store.list("chunks/"):
        seen.append(info.name)
        await store.delete(info.name)

    assert seen == [f"chunks/{n}" for n in range(5)]
    assert await names(store) == []


async def test_check_accepts_a_store_that_works(store: Store) -> None:
    await store.check()
    await store.create(NAME, b"", {})
    await store.check()


async def test_close_may_be_repeated(store: Store) -> None:
    await store.create(NAME, b"", {})

    await store.close()
    await store.close()


async def test_a_name_that_cannot_be_utf8_is_refused(store: Store) -> None:
    with pytest.raises(StoreError):
        await store.create("chunks/\ud800/c/1.000.bin", b"", {})


async def test_folders_are_listed_without_what_is_in_them(store: Store) -> None:
    for name in (*ODD_NAMES, "chunks/user with space/d/1.000.bin", "other/x", "chunks/file"):
        await store.create(name, b"", {})

    folders = [folder async for folder in store.folders("chunks/")]

    assert folders == sorted({f"chunks/{name.split('/')[1]}/" for name in ODD_NAMES}, key=str.encode)
    assert [folder async for folder in store.folders("nothing/")] == []
