"""Progress of work whose extent is counted while it is done."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from tests.support.speech import speech
from tests.support.stored_blobs import T0, ConversationFolder
from worker.archive import Archive
from worker.cli import printing
from worker.errors import StoreError
from worker.model.causes import StoreCause


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """What a person is shown: done, and of how many."""
    told: list[tuple[int, int]] = []

    @contextmanager
    def progress(_: str) -> Iterator[Callable[[int, int], None]]:
        yield lambda done, total: told.append((done, total))

    monkeypatch.setattr(printing, "progress", progress)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    return told


async def test_total_is_shown_as_soon_as_it_is_known(shown: list[tuple[int, int]]) -> None:
    async def three() -> int:
        return 3

    async with printing.counted_progress("working", three) as progress:
        progress(1)
        await asyncio.sleep(0)
        progress(2)
        progress(4)

    assert shown == [(1, 0), (2, 3), (4, 4)]


async def test_store_that_can_not_be_counted_ends_nothing(shown: list[tuple[int, int]]) -> None:
    async def failing() -> int:
        raise StoreError("away", cause=StoreCause.NETWORK)

    async with printing.counted_progress("working", failing) as progress:
        await asyncio.sleep(0)
        progress(1)

    assert shown == [(1, 0)]


async def test_objects_and_blobs_of_a_codec_are_counted(archive: Archive, folder: ConversationFolder) -> None:
    await folder.put(".enc", T0, speech(1))
    await folder.put(".opus", T0 + 1, speech(1))
    await folder.put_bytes("notes.txt", b"x")

    assert await archive.count() == await archive.count("user", "talk") == 3
    assert await archive.count("user", codec="pcm") == 1
    assert await archive.count("another") == 0
