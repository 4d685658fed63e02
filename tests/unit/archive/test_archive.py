"""The archive as one object: what it refuses before it does anything."""

from __future__ import annotations

from pathlib import Path

import pytest

from codec.errors import BadSecret
from tests.support.secret import TEST_SECRET
from tests.support.speech import speech
from tests.support.stored_blobs import T0, ConversationFolder
from worker.archive import Archive, Encoding
from worker.errors import BadSelection
from worker.stores.base import Store


@pytest.mark.parametrize("method", ["count", "verify", "convert"])
async def test_conversation_without_its_uid_is_not_taken_for_everybodys(
    archive: Archive, store: Store, method: str
) -> None:
    await ConversationFolder(store, "somebody", "else").put(".bin", T0, speech(1))

    async def asked() -> None:
        if method == "count":
            await archive.count(conversation_id="talk")
        elif method == "verify":
            async for _ in archive.verify(conversation_id="talk"):
                pass
        else:
            async for _ in archive.convert(Encoding("x" * 32, 5), conversation_id="talk", dry_run=False):
                pass

    with pytest.raises(BadSelection, match="'talk' is given without its uid"):
        await asked()
    assert [info.name async for info in store.list("")] == [f"chunks/somebody/else/{T0:.3f}.bin"]


async def test_secrets_that_are_none_are_refused_before_anything_is_read(store: Store) -> None:
    with pytest.raises(TypeError, match="give a list"):
        Archive(store, "a single secret, not in a list")
    with pytest.raises(BadSecret, match="has 5 bytes"):
        Archive(store, [TEST_SECRET, "short"])


async def test_file_to_save_to_may_be_a_str(archive: Archive, folder: ConversationFolder, tmp_path: Path) -> None:
    await folder.put(".bin", T0, speech(1))

    await archive.save(await archive.download("user", "talk"), f"{tmp_path}/talk.pcm")

    assert (tmp_path / "talk.pcm").read_bytes() == speech(1)
