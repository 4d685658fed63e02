"""Old PCM becomes Opus only if the new blob is proven to hold the same audio; stopping does no harm."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import pytest
from pesq import pesq

from codec.manifest import KEYS, claimed, verified
from tests.support.gcs.server import GcsServer
from tests.support.secret import TEST_SECRET
from tests.support.speech import speech
from tests.support.stored_blobs import (
    IDENTITIES,
    OLD_SECRET,
    STREAM,
    T0,
    ConversationFolder,
    describe_again,
    key_of,
    opus_content,
)
from worker.archive import Archive, Conversion, ConversionOutcome, Encoding, Selection
from worker.errors import StoreError
from worker.stores import open_store
from worker.stores.base import Store
from worker.stores.tombstones import tombstone_name

ENCODING = Encoding(TEST_SECRET, complexity=5)
STEM = f"{T0:.3f}"


async def convert(archive: Archive, *, dry_run: bool = False) -> list[Conversion]:
    return [conversion async for conversion in archive.convert(ENCODING, "user", dry_run=dry_run)]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("extension", "target"),
    [(".bin", ".opus"), (".enc", ".opus.enc"), (".batch.bin", ".opus"), (".batch.enc", ".opus.enc")],
)
async def test_pcm_becomes_opus_of_the_same_audio(
    archive: Archive, folder: ConversationFolder, extension: str, target: str
) -> None:
    source = speech(10)
    end = T0 + 5 if "batch" in extension else None
    await folder.put(extension, T0, source, pieces=2 if end else 1, end=end)

    conversion = (await convert(archive))[0]

    assert conversion.outcome is ConversionOutcome.CONVERTED
    assert await folder.files() == [STEM + target]
    pcm = await folder.pcm(archive)
    assert len(pcm) == len(source)
    assert pesq(16000, np.frombuffer(source, "<i2"), np.frombuffer(pcm, "<i2"), "wb") > 3.8
    assert conversion.size * 8 < len(source)


@pytest.mark.slow
@pytest.mark.parametrize("pause", [0, 100])
async def test_a_range_beside_its_chunks_is_still_heard_once_and_found(
    archive: Archive, folder: ConversationFolder, pause: float
) -> None:
    """Also if it has no pause where its chunks have one."""
    source = speech(20)
    await folder.put(".batch.bin", T0, source, end=T0 + 15 + pause)
    for first in (5, 10, 15):
        await folder.put(".bin", T0 + first + pause, source[first * 32000 : (first + 5) * 32000])

    assert all(conversion.outcome is ConversionOutcome.CONVERTED for conversion in await convert(archive))

    assert len(await folder.pcm(archive)) == len(source)
    within = Selection(timestamps=[T0 + 12 + pause])
    assert len(await folder.pcm(archive, selection=within)) == len(source)


async def test_rate_and_entries_are_kept_and_the_current_secret_is_taken(archive: Archive, store: Store) -> None:
    old = ConversationFolder(store, secret=OLD_SECRET)
    entries = {"first-entry": "1-0", "last-entry": "9-0", "chunks": "2"}
    await old.put(".enc", T0, speech(5, 8000), rate=8000, described=True, more=entries)

    await convert(archive)

    blob = (await archive.list("user")).blobs[0]
    assert (blob.facts.sample_rate, blob.facts.samples, blob.facts.chunks) == (8000, 40000, 2)
    assert (blob.facts.first_entry, blob.facts.last_entry) == ("1-0", "9-0")
    assert len(await old.pcm(Archive(store, [TEST_SECRET]))) == 80000
    assert key_of(TEST_SECRET).items() <= blob.info.metadata.items()


async def test_opus_is_left_alone_and_a_dry_run_changes_nothing(archive: Archive, folder: ConversationFolder) -> None:
    await folder.put(".opus.enc", T0, speech(1), described=True)
    await folder.put(".batch.bin", T0 + 1, opus_content(speech(1))[0], more={"codec": "opus"})
    await folder.put(".bin", T0 + 2, speech(1))
    files = await folder.files()

    planned = await convert(archive, dry_run=True)

    assert [(conversion.outcome, conversion.target) for conversion in planned] == [
        (ConversionOutcome.PLANNED, f"chunks/user/talk/{T0 + 2:.3f}.opus")
    ]
    assert await folder.files() == files


@pytest.mark.parametrize(
    ("content", "metadata", "reason"),
    [
        (b"", {}, "holds no audio"),
        (bytes(2000), {"sample-rate": "44100"}, "can't hold 44100 Hz"),
        (bytes(2), {"sample-rate": "12000", "codec": "pcm"}, None),
    ],
)
async def test_what_opus_can_not_hold_is_kept(
    archive: Archive, folder: ConversationFolder, content: bytes, metadata: dict[str, str], reason: str | None
) -> None:
    await folder.put_bytes(f"{STEM}.bin", content, metadata)

    conversion = (await convert(archive))[0]

    assert (conversion.outcome is ConversionOutcome.KEPT) == (reason is not None)
    assert (reason or "") in conversion.reason
    assert await folder.files() == [f"{STEM}.bin" if reason else f"{STEM}.opus"]


async def test_a_blob_that_can_not_be_read_is_kept(archive: Archive, folder: ConversationFolder) -> None:
    await folder.put_bytes(f"{STEM}.enc", b"rubbish")

    conversion = (await convert(archive))[0]

    assert conversion.outcome is ConversionOutcome.KEPT
    assert "segment 1" in conversion.reason
    assert await folder.files() == [f"{STEM}.enc"]


async def test_other_audio_under_the_new_name_is_kept_with_the_old(
    archive: Archive, folder: ConversationFolder
) -> None:
    await folder.put(".enc", T0, speech(5))
    await folder.put(".opus.enc", T0, speech(5, offset=9), described=True)

    conversion = (await convert(archive))[0]

    assert "is other audio" in conversion.reason
    assert len(await folder.files()) == 2


async def test_the_same_audio_under_the_new_name_makes_the_old_superfluous(
    archive: Archive, folder: ConversationFolder
) -> None:
    await folder.put(".enc", T0, speech(5))
    await folder.put(".opus.enc", T0, speech(5), described=True)

    assert (await convert(archive))[0].outcome is ConversionOutcome.CONVERTED
    assert await folder.files() == [f"{STEM}.opus.enc"]


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [1, 5, 10, 15])
async def test_opus_that_comes_late_for_want_of_a_pre_skip_is_the_same_audio(
    archive: Archive, folder: ConversationFolder, seconds: float
) -> None:
    await folder.put(".bin", T0, speech(seconds))
    await folder.put(".opus", T0, speech(seconds))

    assert (await convert(archive))[0].reason == ""
    assert await folder.files() == [f"{STEM}.opus"]


async def test_silence_is_no_proof_of_the_same_audio(archive: Archive, folder: ConversationFolder) -> None:
    await folder.put(".bin", T0, bytes(320_000))
    await folder.put(".opus", T0, speech(10))
    await folder.put(".bin", T0 + 10, bytes(320_000))
    await folder.put(".opus", T0 + 10, bytes(320_000))

    conversions = await convert(archive)

    assert [conversion.outcome for conversion in conversions] == [ConversionOutcome.KEPT, ConversionOutcome.CONVERTED]
    assert f"{STEM}.bin" in await folder.files()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("failing", "name"),
    [("insert.*", "*"), ("download", "deleted/*"), ("download", "chunks/*"), ("get", "*"), ("delete", "*")],
)
async def test_a_run_that_was_stopped_anywhere_is_completed_by_the_next(
    gcs: Store, gcs_server: GcsServer, failing: str, name: str
) -> None:
    folder, archive = ConversationFolder(gcs), Archive(gcs, [TEST_SECRET])
    await folder.put(".enc", T0, speech(5))
    gcs_server.fail(failing, name=name, times=20)
    with pytest.raises(StoreError):
        await convert(archive)
    gcs_server.script.clear()

    await convert(archive)

    assert await folder.files() == [f"{STEM}.opus.enc"]
    assert len(await folder.pcm(archive)) == len(speech(5))


@pytest.mark.parametrize("losing", ["insert.*", "download", "delete"])
async def test_a_lost_reply_does_no_harm(gcs: Store, gcs_server: GcsServer, losing: str) -> None:
    folder, archive = ConversationFolder(gcs), Archive(gcs, [TEST_SECRET])
    await folder.put(".enc", T0, speech(5))
    gcs_server.fail(losing, "drop_reply")

    assert (await convert(archive))[0].outcome is ConversionOutcome.CONVERTED
    assert await folder.files() == [f"{STEM}.opus.enc"]


async def test_a_new_blob_that_reads_back_wrong_leaves_the_old_one(gcs: Store, gcs_server: GcsServer) -> None:
    folder, archive = ConversationFolder(gcs), Archive(gcs, [TEST_SECRET])
    await folder.put(".enc", T0, speech(5))
    gcs_server.fail("download", "corrupt", name="*.opus.enc", times=99)

    conversion = (await convert(archive))[0]

    assert conversion.outcome is ConversionOutcome.KEPT
    assert f"{STEM}.enc" in await folder.files()


async def test_other_audio_under_an_old_name_that_was_converted_before_is_kept(tmp_path: Path) -> None:
    """Files that other programs put there have no checksum in their metadata."""
    store = open_store(tmp_path.as_uri())
    archive, old = Archive(store), tmp_path / f"chunks/user/talk/{STEM}.bin"
    old.parent.mkdir(parents=True)
    old.write_bytes(speech(5))
    assert (await convert(archive))[0].outcome is ConversionOutcome.CONVERTED
    old.write_bytes(speech(5, offset=9))

    conversion = (await convert(archive))[0]

    assert "is other audio" in conversion.reason
    assert old.exists()


async def test_what_others_noted_is_kept(archive: Archive, folder: ConversationFolder) -> None:
    noted = {"v2_start": f"{T0}25", "v2_samples": "16000", "v2_sample_rate": "16000", "room": "kitchen"}
    await folder.put(".bin", T0, speech(1), more={**noted, "codec": "pcm"})

    await convert(archive)

    metadata = (await archive.list("user")).blobs[0].info.metadata
    assert noted.items() <= metadata.items()
    assert metadata["codec"] == "opus"


@pytest.mark.slow
@pytest.mark.parametrize("secret", [TEST_SECRET, OLD_SECRET])
@pytest.mark.parametrize("extension", [".bin", ".enc", ".batch.enc"])
async def test_chunks_of_a_blob_are_recognised_under_its_new_name(
    archive: Archive, store: Store, extension: str, secret: str
) -> None:
    name = await ConversationFolder(store, secret=secret).put(extension, T0, speech(1), described=True)
    await describe_again(store, name, secret=secret)
    before = claimed((await archive.list("user")).blobs[0].info.metadata)

    await convert(archive)

    info = (await archive.list("user")).blobs[0].info
    after = verified(info.metadata, "user", "talk", all_secrets=[TEST_SECRET])
    assert after is not None
    assert before is not None
    assert after.fits(info.size, info.crc32c)
    assert (after.stream, after.identities, after.chunks) == (STREAM, IDENTITIES, 2)
    assert after.upload != before.upload


@pytest.mark.slow
@pytest.mark.parametrize("flaw", ["other secret", "other conversation", "other bytes"])
async def test_what_is_not_proven_is_not_taken_over(archive: Archive, store: Store, flaw: str) -> None:
    folder, other = ConversationFolder(store), ConversationFolder(store, conversation="other")
    name = await other.put(".bin", T0, speech(1))
    await describe_again(store, name, secret="z" * 32 if flaw == "other secret" else TEST_SECRET)
    info = await store.stat(name)
    assert info is not None
    where = folder if flaw == "other conversation" else other
    await where.put(".bin", T0 + 60, speech(1, offset=5 if flaw == "other bytes" else 0), more=info.metadata)
    await store.delete(name)

    await convert(archive)

    (blob,) = (await archive.list("user")).blobs
    assert blob.codec == "opus"
    assert not set(KEYS) & blob.info.metadata.keys()
    assert blob.facts.chunks == 2


@pytest.mark.parametrize("held", ["insert.*", "download"])
async def test_two_conversions_at_once_are_both_content(gcs: Store, gcs_server: GcsServer, held: str) -> None:
    folder, archive = ConversationFolder(gcs), Archive(gcs, [TEST_SECRET])
    await folder.put(".enc", T0, speech(5))
    gate = gcs_server.hold(held)

    async def the_other() -> None:
        await gate.reached()
        gcs_server.script.gates.remove(gate)
        await convert(archive)
        gate.open()

    async with asyncio.TaskGroup() as group:
        group.create_task(the_other())
        conversion = (await convert(archive))[0]

    assert conversion.outcome is ConversionOutcome.CONVERTED
    assert await folder.files() == [f"{STEM}.opus.enc"]


async def test_audio_deleted_meanwhile_is_told(gcs: Store, gcs_server: GcsServer) -> None:
    folder, archive = ConversationFolder(gcs), Archive(gcs, [TEST_SECRET])
    name = await folder.put(".enc", T0, speech(5))
    gate = gcs_server.hold("insert.*")

    async def delete() -> None:
        await gate.reached()
        await gcs.delete(name)
        gate.open()

    async with asyncio.TaskGroup() as group:
        group.create_task(delete())
        conversion = (await convert(archive))[0]

    assert conversion.outcome is ConversionOutcome.KEPT
    assert f"delete chunks/user/talk/{STEM}.opus.enc too" in conversion.reason


@pytest.mark.parametrize(
    ("request_kind", "refusal"),
    [
        ("delete", "event hold"),
        ("delete", "retention"),
        ("download", "forbidden"),
        ("insert.*", "forbidden"),
        ("get", "forbidden"),
    ],
)
async def test_blob_that_the_store_refuses_stops_no_other(
    gcs: Store, gcs_server: GcsServer, request_kind: str, refusal: str
) -> None:
    archive, folder = Archive(gcs, [TEST_SECRET]), ConversationFolder(gcs)
    for number in range(3):
        await folder.put(".bin", T0 + number, speech(1, offset=number))
    gcs_server.refuse(request_kind, refusal, name=f"*{T0 + 1:.3f}*")

    first, refused, last = await convert(archive)
    gcs_server.script.clear()
    again = await convert(archive)

    assert {first.outcome, last.outcome} == {ConversionOutcome.CONVERTED}
    assert (refused.blob.path, refused.outcome) == (folder.names[1], ConversionOutcome.KEPT)
    assert "HTTP 403" in refused.reason
    assert [each.outcome for each in again] == [ConversionOutcome.CONVERTED]
    assert await folder.files() == [f"{T0 + number:.3f}.opus" for number in range(3)]


async def test_blob_that_can_not_be_deleted_names_what_holds_its_audio_now(gcs: Store, gcs_server: GcsServer) -> None:
    archive, folder = Archive(gcs, [TEST_SECRET]), ConversationFolder(gcs)
    await folder.put(".bin", T0, speech(1))
    gcs_server.refuse("delete", "temporary hold")

    (kept,) = await convert(archive)

    assert kept.reason.startswith(
        f"{kept.target} has its audio now, but it can't be deleted: deleting {kept.blob.path}"
    )
    assert kept.reason.endswith("release the hold, or try again when the retention period has ended")
    assert await folder.files() == [f"{STEM}.bin", f"{STEM}.opus"]


async def test_damaged_record_of_a_deletion_stops_only_the_blobs_that_it_may_concern(
    archive: Archive, store: Store
) -> None:
    for uid in ("other", "user"):
        await ConversationFolder(store, uid).put(".bin", T0, speech(1))
    await store.create(tombstone_name("other"), b"no JSON", {})

    outcomes = [each async for each in archive.convert(ENCODING, dry_run=False)]

    assert [each.outcome for each in outcomes] == [ConversionOutcome.KEPT, ConversionOutcome.CONVERTED]
    assert "is not a record of a deletion" in outcomes[0].reason


async def test_outage_ends_the_conversion(gcs: Store, gcs_server: GcsServer) -> None:
    await ConversationFolder(gcs).put(".bin", T0, speech(1))
    gcs_server.refuse("download", "billing")

    with pytest.raises(StoreError, match="enable billing"):
        await convert(Archive(gcs, [TEST_SECRET]))
