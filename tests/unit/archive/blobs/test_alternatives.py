"""Which blobs have the same audio: never two that only happen to have the same entry ids."""

from __future__ import annotations

import pytest

from tests.support.speech import speech
from tests.support.stored_blobs import IDENTITIES, T0, ConversationFolder, describe_again
from worker.archive import Archive, Selection
from worker.stores.base import Store

ENTRIES = {"first-entry": "1-0", "last-entry": "9-0"}
SECOND = 32000


@pytest.fixture
def first(store: Store) -> ConversationFolder:
    return ConversationFolder(store, conversation="first")


async def pair(folder: ConversationFolder, later: float = 0.1) -> tuple[str, str]:
    """Two blobs of other audio, about the same time, the same entry ids."""
    one = await folder.put(".enc", T0, speech(1), described=True, more=ENTRIES)
    other = await folder.put(".enc", T0 + later, speech(1, offset=7), described=True, more=ENTRIES)
    return one, other


async def test_the_same_ids_of_two_streams_are_other_audio(archive: Archive, folder: ConversationFolder) -> None:
    for number, name in enumerate(await pair(folder)):
        await describe_again(folder.store, name, stream=f"{number}" * 32)

    assert len(await folder.pcm(archive)) == 2 * SECOND


async def test_the_same_ids_with_other_chunks_are_other_audio(archive: Archive, folder: ConversationFolder) -> None:
    one, other = await pair(folder)
    await describe_again(folder.store, one)
    await describe_again(folder.store, other, identities=b"another." * 2)

    assert len(await folder.pcm(archive)) == 2 * SECOND


async def test_the_same_chunks_of_one_stream_are_the_same_audio(archive: Archive, folder: ConversationFolder) -> None:
    for name in await pair(folder):
        await describe_again(folder.store, name)

    assert len(await folder.pcm(archive)) == SECOND


async def test_without_manifests_the_same_ids_and_facts_are_the_same_audio(
    archive: Archive, folder: ConversationFolder
) -> None:
    await pair(folder)

    assert len(await folder.pcm(archive)) == SECOND


@pytest.mark.parametrize("fact", ["chunks", "seqs", "session"])
async def test_without_manifests_all_facts_must_agree(archive: Archive, folder: ConversationFolder, fact: str) -> None:
    for number in range(2):
        more = {**ENTRIES, fact: str(number)}
        await folder.put(".enc", T0 + number / 10, speech(1, offset=number * 7), described=True, more=more)

    assert len(await folder.pcm(archive)) == 2 * SECOND


@pytest.mark.parametrize("proven", [True, False])
async def test_copies_from_two_conversations_are_both_heard(archive: Archive, store: Store, proven: bool) -> None:
    """Streams of two partitions may have the same ids within the second."""
    for number, conversation in enumerate(("first", "second")):
        folder = ConversationFolder(store, conversation=conversation)
        name = await folder.put(".enc", T0 + number / 10, speech(1, offset=7 * number), described=True, more=ENTRIES)
        if proven:
            await describe_again(store, name, stream=f"{number}" * 32)
    await archive.copy("user", ["first", "second"], "merged")

    assert len(await ConversationFolder(store, conversation="merged").pcm(archive)) == 2 * SECOND


async def test_other_chunks_of_the_same_start_in_another_kind_are_other_audio(
    archive: Archive, folder: ConversationFolder
) -> None:
    for number, extension in enumerate((".opus.enc", ".opus")):
        name = await folder.put(extension, T0, speech(1, offset=7 * number), described=True)
        await describe_again(folder.store, name, identities=b"chunk %2d" % number)

    assert len(await folder.pcm(archive)) == 2 * SECOND
    assert len(await folder.pcm(archive, selection=Selection(timestamps=[T0]))) == 2 * SECOND


async def test_a_start_in_two_kinds_with_common_chunks_is_one_audio(
    archive: Archive, folder: ConversationFolder
) -> None:
    for extension, identities in ((".opus.enc", IDENTITIES), (".opus", IDENTITIES[:8])):
        name = await folder.put(extension, T0, speech(1), described=True)
        await describe_again(folder.store, name, identities=identities)

    assert len(await folder.pcm(archive)) == SECOND


async def test_a_manifest_of_other_bytes_tells_nothing(archive: Archive, folder: ConversationFolder) -> None:
    """As of a blob that somebody re-encrypted and described as it was."""
    name = await folder.put(".enc", T0, speech(1), described=True, more=ENTRIES)
    await describe_again(folder.store, name)
    info = await folder.store.stat(name)
    assert info is not None
    await folder.put(".enc", T0 + 0.1, speech(1, offset=7), more={**info.metadata, "session": "another"})

    assert len(await folder.pcm(archive)) == 2 * SECOND
