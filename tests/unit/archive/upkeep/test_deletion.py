"""What is deleted in the store: exactly what was meant, all of it, and it is said."""

from __future__ import annotations

import asyncio

import pytest

from codec.errors import BadName
from tests.support.gcs.server import GcsServer
from tests.support.speech import speech
from tests.support.stored_blobs import EXTENSIONS, T0, ConversationFolder
from worker.archive import Archive
from worker.errors import StoreError
from worker.stores.base import Store
from worker.stores.tombstones import FOLDER


async def names(store: Store) -> list[str]:
    """All objects but the records of deletions."""
    return [info.name async for info in store.list("") if not info.name.startswith(f"{FOLDER}/")]


@pytest.mark.slow
async def test_a_conversation_goes_with_all_that_is_derived_from_it(archive: Archive, store: Store) -> None:
    doomed = ConversationFolder(store)
    for number, extension in enumerate(EXTENSIONS):
        await doomed.put(extension, T0 + number, speech(1))
    await doomed.put_bytes("notes.txt", b"x")
    derived = ["audio/user/talk/a.wav", "merged/user/talk/b.wav", "playback/user/talk/c/d.mp3"]
    kept = [
        "audio/user/talk2/a.wav",
        "playback/user/talk2/c.mp3",
        "playback/user2/talk/c.mp3",
        "chunks/user/talk2/1.000.bin",
        "chunks/user2/talk/1.000.bin",
        "other",
    ]
    for name in [*derived, *kept]:
        await store.create(name, b"x", {})

    deletion = await archive.delete("user", "talk", tombstones=None)

    assert sorted(deletion.names) == sorted([*doomed.names, *derived])
    assert deletion.left == []
    assert sorted(await names(store)) == sorted(kept)


async def test_a_user_goes_and_one_whose_id_begins_alike_stays(archive: Archive, store: Store) -> None:
    for uid in ("abc", "abcd"):
        for conversation in ("one", "two"):
            await ConversationFolder(store, uid, conversation).put(".enc", T0, speech(1))
    await store.create("playback/abc/one/d.mp3", b"x", {})

    deletion = await archive.delete("abc", tombstones=None)

    assert len(deletion.names) == 3
    assert await names(store) == [f"chunks/abcd/{which}/{T0:.3f}.enc" for which in ("one", "two")]


@pytest.mark.slow
async def test_timestamps_delete_singles_and_ranges_that_start_there(archive: Archive, store: Store) -> None:
    folder = ConversationFolder(store)
    for extension in EXTENSIONS:
        await folder.put(extension, T0, speech(1))
    ranged = await folder.put(".batch.enc", T0 + 60, speech(1), end=T0 + 115)
    kept = await folder.put(".batch.enc", T0 + 180, speech(1), end=T0 + 235)

    deletion = await archive.delete_chunks("user", "talk", [T0, T0 + 60.0004, T0 + 185, T0 + 999])

    assert len(deletion.names) == 7
    assert ranged in deletion.names
    assert deletion.absent == [T0 + 185, T0 + 999]
    assert await names(store) == [kept]


async def test_a_dry_run_says_what_would_go_and_deletes_nothing(archive: Archive, store: Store) -> None:
    name = await ConversationFolder(store).put(".enc", T0, speech(1))

    deletion = await archive.delete("user", "talk", tombstones=None, dry_run=True)
    chunks = await archive.delete_chunks("user", "talk", [T0], dry_run=True)

    assert deletion.names == chunks.names == [name]
    assert await names(store) == [name]


async def test_nothing_to_delete_is_no_error(archive: Archive) -> None:
    assert (await archive.delete("nobody", "nothing", tombstones=None)).names == []
    assert (await archive.delete_chunks("nobody", "nothing", [T0])).absent == [T0]


@pytest.mark.parametrize(("uid", "conversation"), [("", None), ("user", ""), ("a/b", None), ("..", "x")])
async def test_an_id_that_would_widen_the_deletion_is_refused(
    archive: Archive, uid: str, conversation: str | None
) -> None:
    with pytest.raises(BadName):
        await archive.delete(uid, conversation, tombstones=None)


async def test_what_comes_while_deleting_goes_too(gcs: Store, gcs_server: GcsServer) -> None:
    folder = ConversationFolder(gcs)
    await folder.put(".enc", T0, speech(1))
    gate = gcs_server.hold("delete", "reply", name="chunks/*")

    async def interfere() -> None:
        await gate.reached()
        await folder.put(".enc", T0 + 60, speech(1))
        gate.open()

    async with asyncio.TaskGroup() as group:
        group.create_task(interfere())
        deletion = await Archive(gcs).delete("user", "talk", tombstones=None)

    assert len(deletion.names) == 2
    assert await names(gcs) == []


async def test_what_will_not_go_is_said(gcs: Store, gcs_server: GcsServer, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = ConversationFolder(gcs)
    name = await folder.put(".enc", T0, speech(1))

    really = gcs.delete

    async def pretend(deleted: str, generation: str | None = None) -> bool:
        return True if deleted == name else await really(deleted, generation)

    monkeypatch.setattr(gcs, "delete", pretend)

    assert [left.name for left in (await Archive(gcs).delete("user", "talk", tombstones=None)).left] == [name]
    assert name in gcs_server.objects()


@pytest.mark.slow
async def test_what_the_store_refuses_to_delete_stays_alone_and_says_why(gcs: Store, gcs_server: GcsServer) -> None:
    folder = ConversationFolder(gcs)
    for number in range(50):
        await folder.put(".bin", T0 + number, b"ab")
    held = folder.names[7]
    gcs_server.fail("delete", status=403, reason="forbidden", message="under a hold", name=held, times=99)

    deletion = await Archive(gcs).delete("user", "talk", tombstones=None)

    assert await names(gcs) == [held]
    assert sorted(deletion.names) == sorted(set(folder.names) - {held})
    assert [(left.name, "under a hold" in left.reason) for left in deletion.left] == [(held, True)]
    tried = [request.name for request in gcs_server.requests if request.kind == "delete"]
    assert sorted(name for name in tried if name in folder.names) == sorted(folder.names)


async def test_nothing_is_deleted_twice_where_the_store_refuses_all(gcs: Store, gcs_server: GcsServer) -> None:
    for number in range(3):
        await ConversationFolder(gcs).put(".bin", T0 + number, b"ab")
    gcs_server.fail("delete", status=403, reason="forbidden", times=99)

    deletion = await Archive(gcs).delete_chunks("user", "talk", [T0, T0 + 1])

    assert (deletion.names, len(deletion.left), gcs_server.count("delete")) == ([], 2, 2)


async def test_object_whose_deletion_was_not_answered_counts_as_deleted(gcs: Store, gcs_server: GcsServer) -> None:
    folder = ConversationFolder(gcs)
    for number in range(3):
        await folder.put(".bin", T0 + number, b"ab")
    gcs_server.fail("delete", "drop_reply", times=2)

    deletion = await Archive(gcs).delete("user", "talk", tombstones=None)

    assert (deletion.names, deletion.bytes, deletion.left) == (folder.names, 6, [])


async def test_store_that_does_not_answer_ends_the_deletion(gcs: Store, gcs_server: GcsServer) -> None:
    await ConversationFolder(gcs).put(".bin", T0, b"ab")
    gcs_server.fail("delete", status=503, times=99)

    with pytest.raises(StoreError):
        await Archive(gcs).delete("user", "talk", tombstones=None)
