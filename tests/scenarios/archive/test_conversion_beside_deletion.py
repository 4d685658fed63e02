"""A conversion and a deletion of the same audio: however their steps interleave, a complete deletion lasts."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, NamedTuple

import pytest

from tests.support.gcs.faults import Stage
from tests.support.gcs.server import GcsServer
from tests.support.secret import TEST_SECRET
from tests.support.speech import speech
from tests.support.stored_blobs import T0, ConversationFolder
from worker.archive import Archive, Conversion, ConversionOutcome, Deletion, Encoding
from worker.archive.blobs.known_deletions import record_deletion
from worker.archive.upkeep.conversion import LEFTOVER
from worker.errors import StoreError
from worker.stores.base import Store
from worker.stores.tombstones import find_tombstones

pytestmark = pytest.mark.usefixtures("no_waiting_between_tries")

ENCODING = Encoding(TEST_SECRET, complexity=5)
SOURCE, TARGET = (f"chunks/user/talk/{T0:.3f}{extension}" for extension in (".enc", ".opus.enc"))

Delete = Callable[[Archive], Coroutine[Any, Any, Deletion]]
Work = Callable[[Archive], Coroutine[Any, Any, Deletion | list[Conversion]]]


class Step(NamedTuple):
    """Where a request is held: before or after it is done."""

    kind: str
    name: str
    stage: Stage


def around(kind: str, name: str) -> list[Step]:
    return [Step(kind, name, "commit"), Step(kind, name, "reply")]


CONVERTING = [
    *around("download", "deleted/*"),
    *around("download", SOURCE),
    *around("insert.*", TARGET),
    Step("download", TARGET, "commit"),
    *around("delete", SOURCE),
]
DELETING = [*around("insert.*", "deleted/*"), *around("list", "*"), *around("delete", "chunks/*")]


async def whole(archive: Archive) -> Deletion:
    return await archive.delete("user", "talk", tombstones=None)


async def one_start(archive: Archive) -> Deletion:
    return await archive.delete_chunks("user", "talk", [T0])


async def user(archive: Archive) -> Deletion:
    return await archive.delete("user", tombstones=None)


async def convert(archive: Archive) -> list[Conversion]:
    return [conversion async for conversion in archive.convert(ENCODING, "user", dry_run=False)]


async def brought_to(step: Step, server: GcsServer, task: asyncio.Task[Any]) -> Callable[[], None]:
    """Let a task go on until it is held there or done; gives what lets it go on."""
    gate = server.hold(step.kind, step.stage, step.name)
    held = asyncio.create_task(gate.reached())
    await asyncio.wait([held, task], return_when=asyncio.FIRST_COMPLETED)
    held.cancel()
    server.script.gates.remove(gate)
    return gate.open


async def blobs(store: Store) -> list[str]:
    return [info.name async for info in store.list("chunks/")]


@pytest.mark.parametrize("delete", [whole, one_start, user])
@pytest.mark.parametrize("deletion_begins", [True, False])
@pytest.mark.parametrize("deletion_ends", [True, False])
@pytest.mark.parametrize("converting", CONVERTING)
async def test_deleted_audio_does_not_come_back(
    gcs: Store, gcs_server: GcsServer, delete: Delete, converting: Step, deletion_begins: bool, deletion_ends: bool
) -> None:
    archive = Archive(gcs, [TEST_SECRET])
    for deleting in DELETING:
        await ConversationFolder(gcs).put(".enc", T0, speech(0.5))
        work: list[tuple[Work, Step]] = [(delete, deleting), (convert, converting)]
        running = []
        for begin, step in work if deletion_begins else work[::-1]:
            task = asyncio.create_task(begin(archive))
            running.append((task, await brought_to(step, gcs_server, task)))
        if deletion_begins != deletion_ends:
            running.reverse()
        for task, go_on in running:
            go_on()
            done = await task
            assert not isinstance(done, Deletion) or done.complete

        assert await blobs(gcs) == [], deleting


@pytest.mark.parametrize("delete", [whole, one_start, user])
async def test_what_was_converted_meanwhile_is_told_as_deleted(
    gcs: Store, gcs_server: GcsServer, delete: Delete
) -> None:
    archive = Archive(gcs, [TEST_SECRET])
    await ConversationFolder(gcs).put(".enc", T0, speech(1))
    running = asyncio.create_task(convert(archive))
    go_on = await brought_to(Step("insert.*", TARGET, "commit"), gcs_server, running)

    deletion = await delete(archive)
    go_on()

    (conversion,) = await running
    assert (deletion.complete, deletion.names) == (True, [SOURCE])
    assert conversion.outcome is ConversionOutcome.KEPT
    assert conversion.reason.startswith("deleted meanwhile")


async def test_a_source_that_a_broken_off_deletion_left_stays_and_is_converted_by_the_next_run(
    gcs: Store, gcs_server: GcsServer
) -> None:
    archive = Archive(gcs, [TEST_SECRET])
    await ConversationFolder(gcs).put(".enc", T0, speech(1))
    running = asyncio.create_task(convert(archive))
    go_on = await brought_to(Step("insert.*", TARGET, "commit"), gcs_server, running)
    gcs_server.fail("list", status=403, reason="forbidden")
    with pytest.raises(StoreError):
        await whole(archive)
    go_on()
    await running
    assert await blobs(gcs) == [SOURCE]

    (again,) = await convert(archive)

    assert again.outcome is ConversionOutcome.CONVERTED
    assert await blobs(gcs) == [TARGET]


@pytest.mark.parametrize("delete", [whole, one_start, user])
async def test_what_a_killed_conversion_left_of_deleted_audio_is_told_and_goes_with_the_next_deletion(
    gcs: Store, gcs_server: GcsServer, delete: Delete
) -> None:
    archive = Archive(gcs, [TEST_SECRET])
    await ConversationFolder(gcs).put(".enc", T0, speech(1))
    running = asyncio.create_task(convert(archive))
    go_on = await brought_to(Step("insert.*", TARGET, "reply"), gcs_server, running)
    hidden = gcs_server.objects()[TARGET]
    await gcs.delete(TARGET)  # as if it had been stored a moment later
    await delete(archive)
    running.cancel()
    await asyncio.wait([running])
    go_on()
    await gcs.create(TARGET, hidden.data, hidden.metadata)

    (told,) = await convert(archive)
    assert (told.outcome, told.reason, await blobs(gcs)) == (ConversionOutcome.KEPT, LEFTOVER, [TARGET])
    await delete(archive)
    assert (await convert(archive), await blobs(gcs)) == ([], [])


async def test_audio_that_was_converted_after_a_deletion_is_no_leftover(gcs: Store) -> None:
    archive = Archive(gcs, [TEST_SECRET])
    await whole(archive)
    await ConversationFolder(gcs).put(".enc", T0, speech(1))

    assert [conversion.outcome for conversion in await convert(archive)] == [ConversionOutcome.CONVERTED]
    assert await convert(archive) == []


async def test_a_deletion_of_one_start_concerns_no_other(gcs: Store, gcs_server: GcsServer) -> None:
    archive, folder = Archive(gcs, [TEST_SECRET]), ConversationFolder(gcs)
    await folder.put(".enc", T0, speech(1))
    running = asyncio.create_task(convert(archive))
    go_on = await brought_to(Step("insert.*", TARGET, "commit"), gcs_server, running)
    await archive.delete_chunks("user", "talk", [T0 + 60])
    go_on()

    (conversion,) = await running
    assert conversion.outcome is ConversionOutcome.CONVERTED


async def test_another_conversion_of_audio_that_is_new_since_keeps_its_blob(gcs: Store, gcs_server: GcsServer) -> None:
    """One that began before a deletion removes only what was made before it."""
    archive, folder = Archive(gcs, [TEST_SECRET]), ConversationFolder(gcs)
    await folder.put(".bin", T0, speech(1))
    running = asyncio.create_task(convert(archive))
    go_on = await brought_to(Step("insert.*", "chunks/*", "commit"), gcs_server, running)
    await whole(archive)
    await folder.put(".bin", T0, speech(1))
    assert (await convert(archive))[0].outcome is ConversionOutcome.CONVERTED
    go_on()

    (conversion,) = await running
    assert conversion.outcome is ConversionOutcome.KEPT
    assert await folder.files() == [f"{T0:.3f}.opus"]


async def test_nothing_is_deleted_if_the_deletion_can_not_be_recorded(gcs: Store, gcs_server: GcsServer) -> None:
    await ConversationFolder(gcs).put(".enc", T0, speech(1))
    gcs_server.fail("insert.*", status=403, reason="forbidden", times=9)

    for delete in (whole, one_start, user):
        with pytest.raises(StoreError, match="nothing is deleted: the deletion can't be recorded"):
            await delete(Archive(gcs))
    assert await blobs(gcs) == [SOURCE]


async def test_a_record_whose_reply_is_lost_keeps_what_former_ones_cover(gcs: Store, gcs_server: GcsServer) -> None:
    await record_deletion(gcs, "user", "talk", {"ab": "5-0"})
    gcs_server.fail("delete", "drop_reply", name="deleted/*")
    gcs_server.fail("insert.*", status=503)
    gcs_server.fail("insert.*", "drop_reply")
    await record_deletion(gcs, "user", "talk", {"cd": "7-0"})

    (tombstone,) = await find_tombstones(gcs, "user", "talk")
    assert tombstone.streams == {"ab": "5-0", "cd": "7-0"}


async def test_a_dry_run_records_nothing(gcs: Store, gcs_server: GcsServer) -> None:
    await Archive(gcs).delete("user", "talk", tombstones=None, dry_run=True)
    await Archive(gcs).delete_chunks("user", "talk", [T0], dry_run=True)

    assert gcs_server.objects() == {}
