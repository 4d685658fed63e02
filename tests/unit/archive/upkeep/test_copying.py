"""Merging conversations: nothing lost, nothing twice, names kept where they can be."""

from __future__ import annotations

from pathlib import Path

import pytest

from codec import manifest
from tests.support.gcs.server import GcsServer
from tests.support.secret import TEST_SECRET
from tests.support.speech import speech
from tests.support.stored_blobs import EXTENSIONS, T0, ConversationFolder, describe_again
from worker.archive import Archive, Encoding
from worker.errors import NothingStored, StoreError
from worker.stores import open_store
from worker.stores.base import Store


@pytest.fixture
def first(store: Store) -> ConversationFolder:
    return ConversationFolder(store, conversation="first")


@pytest.fixture
def second(store: Store) -> ConversationFolder:
    return ConversationFolder(store, conversation="second")


@pytest.fixture
def merged(store: Store) -> ConversationFolder:
    return ConversationFolder(store, conversation="merged")


@pytest.mark.slow
async def test_file_names_metadata_and_bytes_are_kept(
    archive: Archive, first: ConversationFolder, merged: ConversationFolder
) -> None:
    for number, extension in enumerate(EXTENSIONS):
        end = T0 + number * 10 + 5 if extension.startswith(".batch") else None
        await first.put(extension, T0 + number * 10, speech(2), described=True, end=end)

    report = await archive.copy("user", ["first"], "merged")

    assert await merged.files() == await first.files()
    assert not any(copy.renamed for copy in report.copies)
    for name in first.names:
        duplicate = await first.store.stat(name.replace("/first/", "/merged/"))
        original = await first.store.stat(name)
        assert duplicate is not None
        assert original is not None
        file = name.rpartition("/")[2]
        assert duplicate.metadata == {**original.metadata, "copied-from": f"first/{file}"}
        assert duplicate.crc32c == original.crc32c


async def test_a_copy_proves_nothing_of_chunks_and_says_where_it_comes_from(archive: Archive, store: Store) -> None:
    odd = ConversationFolder(store, conversation="Gespräch 1%:ü")
    name = await odd.put(".enc", T0, speech(1), described=True, more={"session": "s", "seqs": "0-1"})
    await describe_again(store, name)

    await archive.copy("user", [odd.conversation], "merged")

    (info,) = [info async for info in store.list("chunks/user/merged/")]
    assert info.metadata["copied-from"] == f"Gespr%C3%A4ch%201%25%3A%C3%BC/{T0:.3f}.enc"
    assert not set(manifest.KEYS) & info.metadata.keys()
    assert {"session": "s", "seqs": "0-1", "chunks": "2", "samples": "16000"}.items() <= info.metadata.items()


async def test_a_copy_of_a_copy_names_the_first_origin(
    archive: Archive, first: ConversationFolder, merged: ConversationFolder
) -> None:
    await first.put(".enc", T0, speech(1))
    await archive.copy("user", ["first"], "second")
    await archive.copy("user", ["second"], "merged")

    (info,) = [info async for info in merged.store.list("chunks/user/merged/")]
    assert info.metadata["copied-from"] == f"first/{T0:.3f}.enc"


@pytest.mark.slow
async def test_a_converted_copy_still_names_its_origin(
    archive: Archive, first: ConversationFolder, merged: ConversationFolder
) -> None:
    await first.put(".enc", T0, speech(1))
    await archive.copy("user", ["first"], "merged")
    async for _ in archive.convert(Encoding(TEST_SECRET, 5), "user", dry_run=False):
        pass
    await archive.copy("user", ["merged"], "again")

    for conversation in ("merged", "again"):
        (info,) = [info async for info in merged.store.list(f"chunks/user/{conversation}/")]
        assert info.metadata["copied-from"] == f"first/{T0:.3f}.enc"
        assert ("deletions-known" in info.metadata) == (conversation == "merged")


async def test_copying_again_copies_nothing(
    archive: Archive, first: ConversationFolder, second: ConversationFolder, merged: ConversationFolder
) -> None:
    await first.put(".enc", T0, speech(1))
    await second.put(".enc", T0, speech(1, offset=3))
    await archive.copy("user", ["first", "second"], "merged")
    files = await merged.files()

    again = await archive.copy("user", ["first", "second"], "merged")

    assert all(copy.exists for copy in again.copies)
    assert await merged.files() == files


@pytest.mark.slow
@pytest.mark.parametrize("converted", ["merged", "second", None])
async def test_copying_again_after_a_conversion_copies_nothing(
    archive: Archive,
    first: ConversationFolder,
    second: ConversationFolder,
    merged: ConversationFolder,
    converted: str | None,
) -> None:
    await first.put(".enc", T0, speech(3))
    await first.put(".batch.bin", T0 + 3, speech(3, offset=3), end=T0 + 4)
    await second.put(".enc", T0, speech(3, offset=7))
    await archive.copy("user", ["first", "second"], "merged")
    async for conversion in archive.convert(Encoding(TEST_SECRET, 5), "user", converted, dry_run=False):
        assert not conversion.reason

    again = await archive.copy("user", ["first", "second"], "merged")

    assert all(copy.exists for copy in again.copies)
    assert len(await merged.pcm(archive)) == 9 * 32000


@pytest.mark.slow
@pytest.mark.parametrize("noted", ["None", "-1", "1e3", "²"])
async def test_a_checksum_that_is_none_is_no_match(
    archive: Archive, first: ConversationFolder, merged: ConversationFolder, noted: str
) -> None:
    await first.put(".bin", T0, speech(1))
    await merged.put(".opus", T0, speech(1, offset=5), more={"converted-from": "x.bin", "converted-crc32c": noted})

    report = await archive.copy("user", ["first"], "merged")

    assert [copy.exists for copy in report.copies] == [False]


@pytest.mark.slow
@pytest.mark.parametrize(("one", "other"), [(".enc", ".enc"), (".bin", ".bin"), (".opus.enc", ".enc")])
async def test_audio_of_two_conversations_at_one_start_is_kept_twice(
    archive: Archive,
    first: ConversationFolder,
    second: ConversationFolder,
    merged: ConversationFolder,
    one: str,
    other: str,
) -> None:
    await first.put(one, T0, speech(2), described=True)
    await second.put(other, T0, speech(2, offset=7), described=True)

    report = await archive.copy("user", ["first", "second"], "merged")

    assert [copy.renamed for copy in report.copies] == [False, True]
    assert f"{T0:.3f}{one}" in await merged.files()
    assert f"{T0 + 0.001:.3f}{other}" in await merged.files()
    assert len(await merged.pcm(archive)) == 2 * len(speech(2))


async def test_a_range_that_must_move_keeps_its_end(
    archive: Archive, first: ConversationFolder, second: ConversationFolder, merged: ConversationFolder
) -> None:
    await first.put(".batch.enc", T0, speech(10), pieces=2, end=T0 + 5)
    await second.put(".batch.enc", T0, speech(10, offset=11), pieces=2, end=T0 + 5)

    await archive.copy("user", ["first", "second"], "merged")

    assert f"{T0 + 0.001:.3f}-{T0 + 5:.3f}.batch.enc" in await merged.files()
    assert await merged.pcm(archive) == speech(10) + speech(10, offset=11)


async def test_formats_of_one_audio_stay_together(
    archive: Archive, first: ConversationFolder, second: ConversationFolder, merged: ConversationFolder
) -> None:
    await first.put(".enc", T0, speech(2))
    await second.put(".bin", T0, speech(2, offset=7))
    await second.put(".opus", T0, speech(2, offset=7), described=True)

    await archive.copy("user", ["first", "second"], "merged")

    assert len(await merged.pcm(archive)) == 2 * len(speech(2))


@pytest.mark.slow
async def test_an_interrupted_copy_is_completed_as_it_was_begun(gcs: Store, gcs_server: GcsServer) -> None:
    first, second, merged = (ConversationFolder(gcs, conversation=name) for name in ("first", "second", "merged"))
    archive = Archive(gcs)
    await first.put(".enc", T0, speech(1))
    for extension in (".bin", ".opus", ".opus.enc"):
        await second.put(extension, T0, speech(1, offset=5))
    gcs_server.fail("*rewrite*", status=503, name="*second*.opus.enc", times=99)
    with pytest.raises(StoreError, match="503"):
        await archive.copy("user", ["first", "second"], "merged")
    gcs_server.script.clear()

    await archive.copy("user", ["first", "second"], "merged")

    later = f"{T0 + 0.001:.3f}"
    assert sorted(await merged.files()) == sorted(
        [f"{T0:.3f}.enc", *(f"{later}{e}" for e in (".bin", ".opus", ".opus.enc"))]
    )


async def test_the_target_keeps_what_it_had(
    archive: Archive, first: ConversationFolder, merged: ConversationFolder
) -> None:
    await merged.put(".enc", T0, speech(1, offset=9))
    await first.put(".enc", T0, speech(1))

    await archive.copy("user", ["first"], "merged")

    assert await merged.pcm(archive) == speech(1, offset=9) + speech(1)


async def test_a_lost_reply_is_no_collision(gcs: Store, gcs_server: GcsServer) -> None:
    folder = ConversationFolder(gcs, conversation="first")
    await folder.put(".enc", T0, speech(1))
    gcs_server.fail("rewrite", "drop_reply")

    report = await Archive(gcs).copy("user", ["first"], "merged")

    assert report.problems == []
    assert await ConversationFolder(gcs, conversation="merged").files() == [f"{T0:.3f}.enc"]


async def test_other_objects_are_told_and_stay(
    archive: Archive, first: ConversationFolder, merged: ConversationFolder
) -> None:
    await first.put(".enc", T0, speech(1))
    await first.put_bytes("notes.txt", b"x")

    report = await archive.copy("user", ["first"], "merged")

    assert [other.name for other in report.unknown] == ["chunks/user/first/notes.txt"]
    assert await merged.files() == [f"{T0:.3f}.enc"]


async def test_a_damaged_blob_keeps_no_other_from_being_copied(tmp_path: Path) -> None:
    store = open_store(tmp_path.as_uri())
    first, merged = (ConversationFolder(store, conversation=conversation) for conversation in ("first", "merged"))
    for number in range(3):
        await first.put(".enc", T0 + number, speech(1, offset=number))
    (tmp_path / ".metadata" / f"{first.names[1]}.json").write_text("not JSON")

    for _ in range(2):
        report = await Archive(store).copy("user", ["first"], "merged")

        assert [problem.name for problem in report.problems] == [first.names[1]]
        assert await merged.files() == [f"{T0:.3f}.enc", f"{T0 + 2:.3f}.enc"]


async def test_a_dry_run_changes_nothing(
    archive: Archive, first: ConversationFolder, merged: ConversationFolder
) -> None:
    await first.put(".enc", T0, speech(1))

    report = await archive.copy("user", ["first"], "merged", dry_run=True)

    assert str(report.copies[0].target) == f"chunks/user/merged/{T0:.3f}.enc"
    assert await merged.files() == []


async def test_conversations_without_audio_are_refused(archive: Archive) -> None:
    with pytest.raises(NothingStored):
        await archive.copy("user", ["first"], "merged")
