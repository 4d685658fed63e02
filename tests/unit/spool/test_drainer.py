"""From the spool into the store: once, never what was deleted, and never over anything else."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from tests.support.harness import Harness, eventually
from tests.support.redis_server import RedisServer
from tests.support.spool_harness import SEAL, SpoolHarness, open_spool
from tests.support.spooled_blobs import in_state, metadata_of, nonsense, record_of, seal_of, states
from worker.errors import StoreError, StreamError
from worker.model.causes import StoreCause
from worker.spool.names import FileState, SpoolFile, SpoolOwner
from worker.spool.record import Record
from worker.spool.spool import THREADS
from worker.spool.uploader import Uploader
from worker.spool.volume import Volume
from worker.stores.files import FileStore

NEXT = SEAL.object.replace("1000.000", "1000.001")


async def test_a_blob_is_uploaded_as_it_would_have_been(
    spool_harness: SpoolHarness, harness: Harness, directory: Path
) -> None:
    record = spool_harness.record()
    spool_harness.add(record)
    await spool_harness.drainer.round()
    (blob,) = harness.blobs()
    assert (blob.name, blob.data, blob.metadata) == (SEAL.object, record.blob, record.header.metadata)
    assert states(directory) == []
    assert harness.server.counts()["class_a"] == 1


async def test_an_outage_is_forgotten_when_others_have_emptied_the_spool(
    spool_harness: SpoolHarness, harness: Harness
) -> None:
    """A worker that does not ask any more does not learn that the store accepts again."""
    harness.server.fail("insert.*")
    spool_harness.add(spool_harness.record())
    with pytest.raises(StoreError):
        await spool_harness.drainer.round()
    assert spool_harness.health.failing_since is not None
    (file,) = spool_harness.volume.scan().files
    spool_harness.volume.remove(file)
    await spool_harness.drainer.round()
    assert spool_harness.health.failing_since is None


async def test_the_oldest_goes_first(harness: Harness, directory: Path) -> None:
    async with open_spool(harness, directory, upload_concurrency=1) as spool_harness:
        entries = ["300-0", "20-0", "1000-0"]
        spool_harness.add(*(spool_harness.record(seal_of(entry, conversation_id=entry)) for entry in entries))
        await spool_harness.drainer.round()
    stored = sorted(harness.server.objects().values(), key=lambda found: found.generation)
    assert [found.name.split("/")[2] for found in stored] == ["20-0", "300-0", "1000-0"]


async def test_the_same_batch_is_not_stored_twice(
    spool_harness: SpoolHarness, harness: Harness, directory: Path
) -> None:
    """The worker that spooled it may have died before the done step, and another one stored it."""
    await spool_harness.store.create(SEAL.object, b"stored by another", metadata_of(SEAL.entries, b"stored by another"))
    spool_harness.add(spool_harness.record())
    await spool_harness.drainer.round()
    assert [blob.data for blob in harness.blobs()] == [b"stored by another"]
    assert states(directory) == []


async def test_a_batch_that_went_up_as_part_of_a_longer_one_is_stored(
    spool_harness: SpoolHarness, harness: Harness, directory: Path
) -> None:
    await spool_harness.store.create(SEAL.object, b"longer", metadata_of(["1000-0", "2000-0", "3000-0"], b"longer"))
    spool_harness.add(spool_harness.record())
    await spool_harness.drainer.round()
    assert [blob.data for blob in harness.blobs()] == [b"longer"]
    assert states(directory) == []


@pytest.mark.parametrize("taken", [["1-0", "5-0"], ["1000-0", "1500-0"]], ids=["foreign", "part"])
async def test_beside_what_has_its_name_it_is_kept_whole(
    taken: list[str], spool_harness: SpoolHarness, harness: Harness, directory: Path
) -> None:
    """Its entries have left Redis, so nothing of it may be given up."""
    await spool_harness.store.create(SEAL.object, b"in the way", metadata_of(taken, b"in the way"))
    record = spool_harness.record()
    spool_harness.add(record)
    await spool_harness.drainer.round()
    assert {blob.name: blob.data for blob in harness.blobs()} == {SEAL.object: b"in the way", NEXT: record.blob}
    assert spool_harness.count("spool_uploads_total", outcome="renamed") == 1
    assert states(directory) == []


async def test_a_renamed_blob_is_recognised_when_its_worker_died_before_it_removed_the_file(
    spool_harness: SpoolHarness, harness: Harness, directory: Path
) -> None:
    await spool_harness.store.create(SEAL.object, b"in the way", metadata_of(["1-0", "5-0"], b"in the way"))
    for _ in range(2):
        spool_harness.add(spool_harness.record())
        await spool_harness.drainer.round()
    assert {blob.name for blob in harness.blobs()} == {SEAL.object, NEXT}
    assert states(directory) == []


@pytest.mark.slow
async def test_a_refusal_leaves_everything_spooled(
    spool_harness: SpoolHarness, harness: Harness, directory: Path
) -> None:
    harness.server.fail("insert.*", times=100)
    spool_harness.add(*(spool_harness.record(seal_of(f"{number}-0")) for number in range(1, 30)))
    with pytest.raises(StoreError):
        await spool_harness.drainer.round()
    assert states(directory) == ["spooled"] * 29


@pytest.mark.slow
async def test_one_blob_finds_out_whether_an_outage_is_over(spool_harness: SpoolHarness, harness: Harness) -> None:
    harness.server.fail("insert.*", times=100)
    spool_harness.add(
        *(spool_harness.record(seal_of(f"{number}-0", conversation_id=str(number))) for number in range(1, 30))
    )
    with pytest.raises(StoreError):
        await spool_harness.drainer.round()
    asked = harness.server.count("insert.*")
    with pytest.raises(StoreError):
        await spool_harness.drainer.round()
    assert harness.server.count("insert.*") == asked + 1


@pytest.mark.parametrize("conversation_id", [None, "talk"], ids=["user", "conversation"])
async def test_audio_that_was_deleted_in_the_spool_does_not_come_back(
    conversation_id: str | None, spool_harness: SpoolHarness, harness: Harness, directory: Path
) -> None:
    spool_harness.add(spool_harness.record())
    await spool_harness.delete("user", conversation_id)
    await spool_harness.drainer.round()
    assert harness.blobs() == []
    assert states(directory) == []
    assert harness.server.count("insert.*") == 0


async def test_audio_that_is_deleted_during_its_upload_does_not_stay(
    spool_harness: SpoolHarness, harness: Harness, directory: Path
) -> None:
    gate = harness.server.hold("insert.*")
    spool_harness.add(spool_harness.record())
    async with asyncio.TaskGroup() as group:
        group.create_task(spool_harness.drainer.round())
        await gate.reached()
        await spool_harness.delete("user")
        gate.open()
    assert harness.blobs() == []
    assert states(directory) == []


async def test_a_deletion_reaches_what_a_dead_worker_had_uploaded(
    spool_harness: SpoolHarness, harness: Harness, directory: Path
) -> None:
    """It died after the upload and before it looked for a deletion once more."""
    record = spool_harness.record()
    await spool_harness.store.create(SEAL.object, record.blob, record.header.metadata)
    spool_harness.add(record)
    await spool_harness.delete("user")
    await spool_harness.drainer.round()
    assert harness.blobs() == []
    assert states(directory) == []


async def test_a_deletion_spares_what_only_has_the_same_name(spool_harness: SpoolHarness, harness: Harness) -> None:
    await spool_harness.store.create(SEAL.object, b"another's", metadata_of(["1-0", "5-0"], b"another's"))
    spool_harness.add(spool_harness.record())
    await spool_harness.delete("user")
    await spool_harness.drainer.round()
    assert [blob.data for blob in harness.blobs()] == [b"another's"]


async def test_audio_pushed_after_a_deletion_is_stored(spool_harness: SpoolHarness, harness: Harness) -> None:
    await spool_harness.delete("user")
    spool_harness.add(spool_harness.record(seal_of("99999999999999-0")))
    await spool_harness.drainer.round()
    assert len(harness.blobs()) == 1


async def test_nothing_is_uploaded_while_redis_can_not_say_what_was_deleted(
    harness: Harness, directory: Path, own_redis: Callable[..., RedisServer]
) -> None:
    server = own_redis()
    async with open_spool(harness, directory, redis_url=server.url) as spool_harness:
        spool_harness.add(spool_harness.record())
        server.kill()
        with pytest.raises(StreamError):
            await spool_harness.drainer.round()
    assert harness.server.requests == []
    assert states(directory) == ["spooled"]


@pytest.mark.slow
async def test_two_workers_on_one_volume_upload_every_blob_once(harness: Harness, directory: Path) -> None:
    async with open_spool(harness, directory) as one, open_spool(harness, directory) as other:
        one.add(*(one.record(seal_of(f"{number}-0", conversation_id=str(number))) for number in range(1, 101)))
        await asyncio.gather(one.drainer.round(), other.drainer.round())
    assert len(harness.blobs()) == 100
    assert harness.server.count("insert.*") == 100
    assert states(directory) == []


async def test_the_claim_of_a_dead_worker_lapses_and_that_of_a_live_one_does_not(
    spool_harness: SpoolHarness, harness: Harness, directory: Path
) -> None:
    named = {"dead": "1-0", "live": "2-0"}
    spool_harness.add(*(spool_harness.record(seal_of(entry, conversation_id=name)) for name, entry in named.items()))
    dead, live = (spool_harness.volume.claim(file) for file in spool_harness.volume.scan().files)
    assert dead is not None
    assert live is not None
    long_ago = (directory / live.name).stat().st_mtime - spool_harness.drainer.lease - 1
    os.utime(directory / dead.name, (long_ago, long_ago))
    await spool_harness.drainer.round()
    assert states(directory) == ["spooled", "uploading"]
    await spool_harness.drainer.round()
    assert [blob.name.split("/")[2] for blob in harness.blobs()] == ["dead"]


@pytest.mark.slow
async def test_a_long_upload_keeps_its_claim(spool_harness: SpoolHarness, harness: Harness, directory: Path) -> None:
    spool_harness.drainer.lease = 0.6
    gate = harness.server.hold("insert.*")
    spool_harness.add(spool_harness.record())
    async with open_spool(harness, directory) as other, asyncio.TaskGroup() as group:
        other.drainer.lease = 0.6
        claims = group.create_task(spool_harness.drainer.keep_claims())
        upload = group.create_task(spool_harness.drainer.round())
        await gate.reached()
        (path,) = in_state(directory, FileState.UPLOADING)
        began = path.stat().st_mtime
        await eventually(lambda: path.stat().st_mtime > began + 2 * spool_harness.drainer.lease)
        await other.drainer.round()
        assert in_state(directory, FileState.UPLOADING) == [path]
        gate.open()
        await upload
        claims.cancel()
    assert harness.server.count("insert.*") == 1


async def test_a_worker_that_is_stopped_over_a_claim_gives_the_blob_back(
    spool_harness: SpoolHarness, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool_harness.add(spool_harness.record())
    claim, begun, goes_on, claimed = Volume.claim, threading.Event(), threading.Event(), threading.Event()

    def slowly(volume: Volume, file: SpoolFile) -> SpoolFile | None:
        begun.set()
        goes_on.wait()
        taken = claim(volume, file)
        claimed.set()
        return taken

    monkeypatch.setattr(Volume, "claim", slowly)
    draining = asyncio.create_task(spool_harness.drainer.round())
    await asyncio.to_thread(begun.wait)
    draining.cancel()
    await asyncio.wait([draining], timeout=0)
    goes_on.set()
    with pytest.raises(asyncio.CancelledError):
        await draining
    await asyncio.to_thread(claimed.wait)
    assert states(directory) == [FileState.SPOOLED]


async def test_a_worker_that_is_stopped_over_a_refusal_gives_the_blob_back(
    spool_harness: SpoolHarness, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool_harness.add(spool_harness.record())
    refused, goes_on = asyncio.Event(), threading.Event()

    async def refuse_while_all_threads_are_busy(_: Uploader, __: Record) -> str | None:
        busy.extend(asyncio.create_task(spool_harness.spooling.spool.run(goes_on.wait)) for _ in range(THREADS))
        await asyncio.wait(busy, timeout=0)
        refused.set()
        raise StoreError("busy", cause=StoreCause.SERVER)

    busy: list[asyncio.Task[bool]] = []
    monkeypatch.setattr(Uploader, "upload", refuse_while_all_threads_are_busy)
    draining = asyncio.create_task(spool_harness.drainer.round())
    await refused.wait()
    draining.cancel()
    await asyncio.wait([draining], timeout=0)
    goes_on.set()
    with pytest.raises(asyncio.CancelledError):
        await draining
    assert states(directory) == [FileState.SPOOLED]


async def test_a_worker_that_wakes_up_after_its_claim_had_lapsed_does_no_harm(
    spool_harness: SpoolHarness, harness: Harness, directory: Path
) -> None:
    gate = harness.server.hold("insert.*")
    spool_harness.add(spool_harness.record())
    async with open_spool(harness, directory) as other, asyncio.TaskGroup() as group:
        group.create_task(spool_harness.drainer.round())
        await gate.reached()
        (path,) = in_state(directory, FileState.UPLOADING)
        os.utime(path, (1000, 1000))
        await other.drainer.round()
        second = group.create_task(other.drainer.round())
        await gate.reached(2)
        gate.open()
        await second
    assert len(harness.blobs()) == 1
    assert states(directory) == []


async def test_a_blob_that_is_stored_and_was_not_removed_goes_without_an_upload(
    spool_harness: SpoolHarness, harness: Harness, directory: Path
) -> None:
    spool_harness.add(spool_harness.record())
    (path,) = in_state(directory, FileState.SPOOLED)
    path.rename(path.with_suffix(".done"))
    await spool_harness.drainer.round()
    assert states(directory) == []
    assert harness.server.requests == []


@pytest.mark.parametrize("failing_since", [None, 0.0], ids=["in peace", "as the first after an outage"])
async def test_a_damaged_blob_is_kept_and_reported_once_and_stops_no_other(
    spool_harness: SpoolHarness, harness: Harness, directory: Path, failing_since: float | None
) -> None:
    spool_harness.health.failing_since = failing_since
    spool_harness.add(
        spool_harness.record(seal_of("1-0", conversation_id="bad")),
        spool_harness.record(seal_of("2-0", conversation_id="good")),
    )
    path = next(path for path in in_state(directory, FileState.SPOOLED) if path.name.startswith("1-0"))
    damaged = bytearray(path.read_bytes())
    damaged[-1] ^= 1
    path.write_bytes(damaged)
    with capture_logs() as events:
        await spool_harness.drainer.round()
        await spool_harness.drainer.round()
    assert [event["event"] for event in events if event["log_level"] != "info"] == ["spool.damaged"]
    assert [blob.name.split("/")[2] for blob in harness.blobs()] == ["good"]
    assert path.read_bytes() == damaged
    assert await spool_harness.drainer.left() == 0
    assert spool_harness.count("spool_blobs", state="damaged") == 1
    assert spool_harness.spooling.spool.unreadable == 1


async def test_blobs_of_another_store_or_prefix_are_left_to_their_workers(
    spool_harness: SpoolHarness, harness: Harness, directory: Path
) -> None:
    origins = [
        SpoolOwner("gs://elsewhere", spool_harness.origin.prefix),
        SpoolOwner(spool_harness.origin.store_url, "other"),
    ]
    spool_harness.add(*(record_of(SEAL, origin=origin) for origin in origins))
    await spool_harness.drainer.round()
    assert harness.blobs() == []
    assert states(directory) == ["spooled", "spooled"]


async def test_blobs_reach_a_store_of_files_too(harness: Harness, directory: Path, tmp_path: Path) -> None:
    store = tmp_path / "blobs"
    async with open_spool(harness, directory, store_url=store.as_uri()) as spool_harness:
        spool_harness.add(spool_harness.record(blob=nonsense("file")))
        await spool_harness.drainer.round()
    assert await FileStore(store).read(SEAL.object) == nonsense("file")


async def test_ages_and_sizes_are_told(spool_harness: SpoolHarness, directory: Path) -> None:
    spool_harness.client.nodes[0].sync_clock(61_000)
    spool_harness.add(spool_harness.record(seal_of("1000-0")))
    assert await spool_harness.drainer.left() == 1
    assert spool_harness.count("spool_blobs", state="spooled") == 1
    assert spool_harness.count("spool_bytes") == sum(
        path.stat().st_size for path in in_state(directory, FileState.SPOOLED)
    )
    assert spool_harness.count("spool_oldest_seconds") == pytest.approx(60, abs=5)


async def test_files_that_are_not_the_spools_are_told_of_once(spool_harness: SpoolHarness, directory: Path) -> None:
    left_by_another_version = directory / "1-0_2-0_0_00000000_0000000000000000_5.ready"
    left_by_another_version.write_bytes(b"audio")
    with capture_logs() as logged:
        for _ in range(2):
            await spool_harness.drainer.round()
    assert [(entry["files"], entry["first"]) for entry in logged if entry["event"] == "spool.unknown_files"] == [
        (1, left_by_another_version.name)
    ]
    assert left_by_another_version.read_bytes() == b"audio"
