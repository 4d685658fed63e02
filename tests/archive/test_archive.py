"""The archive as one object: what it refuses before it does anything."""

from __future__ import annotations

import pytest

from tests.archive.blobs import T0, Shelf
from tests.speech import speech
from worker.archive import Archive, Encoding
from worker.errors import BadSelection
from worker.stores import Store


@pytest.mark.parametrize("method", ["count", "verify", "convert"])
async def test_conversation_without_its_uid_is_not_taken_for_everybodys(
    archive: Archive, store: Store, method: str
) -> None:
    await Shelf(store, "somebody", "else").put(".bin", T0, speech(1))

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
