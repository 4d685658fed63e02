"""Random access gives the same samples as a download, and reads only the blobs that hold them."""

from __future__ import annotations

import asyncio
import random
from functools import partial

import numpy as np
import pytest

from tests.support.gcs.server import GcsServer
from tests.support.oracle import lag
from tests.support.speech import speech
from tests.support.stored_blobs import EXTENSIONS, T0, ConversationFolder, noise
from worker.archive import Archive, AudioCache, SeekableRecording
from worker.errors import NothingStored, StoreError
from worker.stores.base import Store

RATE = 16000
CACHE = 16 * 1024 * 1024


async def everything(recording: SeekableRecording, first: int = 0, last: int | None = None) -> bytes:
    until = recording.samples if last is None else last
    return b"".join([block async for block in recording.pcm(first, until)])


async def opened(archive: Archive, most_bytes: int = CACHE) -> SeekableRecording:
    return await archive.seekable("user", "talk", cache=AudioCache(most_bytes))


@pytest.fixture
async def with_gaps(folder: ConversationFolder) -> ConversationFolder:
    """All kinds, a gap of silence, an overlap, jitter and a gap of more than a day."""
    starts = [0.0, 2.0, 4.5, 9.0, 10.7, 200_000.0]
    for number, (extension, start) in enumerate(zip(EXTENSIONS, starts, strict=True)):
        pieces = 3 if extension == ".batch.enc" else 1
        await folder.put(extension, T0 + start, speech(2, offset=number), pieces=pieces)
    return folder


async def test_the_whole_is_that_of_a_download(archive: Archive, with_gaps: ConversationFolder) -> None:
    recording = await opened(archive)

    assert await everything(recording) == await with_gaps.pcm(archive)
    assert recording.placed[-1].left_out > 24 * 3600
    assert not recording.unreadable


@pytest.mark.usefixtures("with_gaps")
async def test_any_part_is_that_part_of_the_whole(archive: Archive) -> None:
    recording = await opened(archive)
    whole = await everything(recording)
    rng = random.Random(19)
    for _ in range(100):
        first, last = sorted(rng.randrange(recording.samples + 1) for _ in range(2))
        assert await everything(recording, first, last) == whole[2 * first : 2 * last], (first, last)


async def test_overlaps_of_exact_starts_are_cut_as_in_a_download(archive: Archive, folder: ConversationFolder) -> None:
    for start in (0.0, 1.5, 3.5, 4.001):
        span = {"v2_start": repr(T0 + start), "v2_samples": "32000", "v2_sample_rate": str(RATE)}
        await folder.put(".bin", T0 + start, speech(2, offset=start), more=span)
    recording = await opened(archive)

    assert await everything(recording) == await folder.pcm(archive)
    assert [blob.cut for blob in recording.placed] == [0, 8000, 0, 23984]


@pytest.mark.slow
async def test_other_rates_are_heard_at_their_time(archive: Archive, folder: ConversationFolder) -> None:
    for number, rate in enumerate((8000, 8000, 48000, 16000, 8000)):
        await folder.put(".opus", T0 + 3 * number, speech(3, rate, offset=number), rate=rate, described=True)
    recording = await opened(archive)
    pcms = await folder.pcm(archive), await everything(recording)
    download, seekable = (np.frombuffer(pcm, "<i2").astype(float) for pcm in pcms)

    assert (recording.sample_rate, len(seekable)) == (48000, 15 * 48000) == (48000, len(download))
    assert lag(*pcms) == 0
    assert np.sqrt(np.mean((seekable - download) ** 2)) < 0.05 * np.sqrt(np.mean(download**2))


async def test_only_the_blobs_that_a_part_touches_are_read(gcs: Store, gcs_server: GcsServer) -> None:
    folder = ConversationFolder(gcs)
    for minute in range(6):
        await folder.put(".bin", T0 + minute, speech(1, offset=minute))
    recording = await opened(Archive(gcs))
    before = reads(gcs_server)
    assert before == 0  # their lengths are known from the listing

    await everything(recording, 2 * RATE + 5, 3 * RATE + 5)
    assert reads(gcs_server) == 2
    await everything(recording, 3 * RATE, 3 * RATE + 1)  # it is in the cache
    assert reads(gcs_server) == 2


def reads(server: GcsServer) -> int:
    return server.count("download")


async def test_the_cache_holds_no_more_than_it_may(archive: Archive, folder: ConversationFolder) -> None:
    for minute in range(6):
        await folder.put(".bin", T0 + minute, speech(1, offset=minute))
    cache = AudioCache(3 * 2 * RATE)
    recording = await archive.seekable("user", "talk", cache=cache)

    for blob in recording.placed:
        await recording.audio(blob)
        assert cache.held_bytes <= 3 * 2 * RATE
    assert cache.held_bytes == 3 * 2 * RATE


async def test_what_several_want_at_once_is_made_once_and_outlives_one_of_them() -> None:
    cache, made, go = AudioCache(100), 0, asyncio.Event()

    async def make() -> bytes:
        nonlocal made
        made += 1
        await go.wait()
        return b"pcm"

    first, second = (asyncio.ensure_future(cache.get("blob", make)) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    go.set()

    assert (await second, made) == (b"pcm", 1)
    assert (await cache.get("blob", make), made) == (b"pcm", 1)


async def test_what_a_listener_waits_for_comes_before_what_only_a_picture_needs() -> None:
    cache, order, go = AudioCache(100), list[str](), asyncio.Event()

    async def make(name: str) -> bytes:
        order.append(name)
        await go.wait()
        return name.encode()

    heard = asyncio.ensure_future(cache.get("heard", partial(make, "heard")))
    await asyncio.sleep(0)
    drawn = asyncio.ensure_future(cache.get("drawn", partial(make, "drawn"), keep=False))
    for _ in range(5):
        await asyncio.sleep(0)
    assert order == ["heard"]
    go.set()
    assert (await heard, await drawn) == (b"heard", b"drawn")
    assert cache.held_bytes == len("heard")


async def test_a_failure_is_not_kept() -> None:
    cache = AudioCache(100)

    async def fails() -> bytes:
        raise TimeoutError

    async def works() -> bytes:
        return b"pcm"

    with pytest.raises(TimeoutError):
        await cache.get("blob", fails)
    assert await cache.get("blob", works) == b"pcm"


async def test_a_damaged_blob_is_silent_and_named(archive: Archive, folder: ConversationFolder) -> None:
    await folder.put(".opus.enc", T0, speech(2), described=True)
    name = await folder.put_bytes(f"{T0 + 2:.3f}.opus.enc", b"?" * 400, {"samples": "32000", "sample-rate": "16000"})
    await folder.put(".opus.enc", T0 + 4, speech(2), described=True)
    recording = await opened(archive)
    pcm = await everything(recording)

    assert len(pcm) == 6 * 2 * RATE
    assert set(pcm[4 * RATE : 8 * RATE]) == {0}
    assert list(recording.unreadable) == [name]


async def test_an_alternative_takes_the_place_of_a_damaged_blob(archive: Archive, folder: ConversationFolder) -> None:
    pcm = noise(2)
    bad = await folder.put_bytes(f"{T0:.3f}.opus.enc", b"?" * 400, {"samples": "32000", "sample-rate": "16000"})
    good = await folder.put(".bin", T0, pcm)
    recording = await opened(archive)

    assert await everything(recording) == pcm
    assert recording.unreadable[bad].instead == good


async def test_a_new_blob_makes_another_version(archive: Archive, folder: ConversationFolder) -> None:
    await folder.put(".bin", T0, speech(1))
    one, again = await opened(archive), await opened(archive)
    await folder.put(".bin", T0 + 1, speech(1))

    assert one.version == again.version != (await opened(archive)).version != one.at_rate(8000).version


async def test_nothing_stored_is_told(archive: Archive) -> None:
    with pytest.raises(NothingStored, match="user/talk"):
        await opened(archive)


async def test_a_store_that_does_not_answer_is_told(gcs: Store, gcs_server: GcsServer) -> None:
    await ConversationFolder(gcs).put(".bin", T0, speech(1))
    recording = await opened(Archive(gcs))
    gcs_server.refuse("download", "billing")

    with pytest.raises(StoreError):
        await everything(recording)
