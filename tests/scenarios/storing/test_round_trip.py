"""Speech goes through Redis, the worker and the store, and comes back complete and aligned."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import pytest

from codec.entry import PROTECTIONS, SAMPLE_RATES
from tests.support.gcs.api import LOOK_UPS
from tests.support.harness import EXACT, Harness
from tests.support.oracle import T0, Blob, Talk, assert_stored_once, blobs_of, correlation
from worker.stores.files import FileStore


@pytest.mark.parametrize("rate", SAMPLE_RATES)
async def test_speech_of_every_rate_is_stored_complete_and_aligned_in_every_blob(harness: Harness, rate: int) -> None:
    talk = Talk("c", rate=rate)
    await harness.say(talk, 28, chunk=2)
    await harness.drain(batch_max_seconds=10)
    blobs = blobs_of(talk, harness.blobs())
    assert [blob.samples for blob in blobs] == [10 * rate, 10 * rate, 8 * rate]
    for number, blob in enumerate(blobs):
        lag, likeness = correlation(blob.pcm(), talk.pcm[number * 20 * rate :][: 20 * rate])
        assert abs(lag) < 0.6  # at 24 kHz the codec's delay is half a sample more than a whole number
        assert likeness > 0.75


async def test_chunks_may_end_anywhere_inside_a_frame(harness: Harness) -> None:
    talk = Talk("c")
    await harness.push(*(talk.say(samples / 16000) for samples in (1, 319, 320, 321, 7, 15999, 16001, 30000, 1)))
    await harness.drain()
    assert_stored_once(talk, harness.blobs())


@pytest.mark.parametrize("protection", PROTECTIONS)
@pytest.mark.parametrize(
    ("codec", "naming", "clear", "encrypted"),
    [
        ("opus", "start", "1700000000.000.opus", "1700000000.000.opus.enc"),
        ("opus", "range", "1700000000.000-1700000002.500.batch.bin", "1700000000.000-1700000002.500.batch.enc"),
        ("pcm", "start", "1700000000.000.bin", "1700000000.000.enc"),
        ("pcm", "range", "1700000000.000-1700000002.500.batch.bin", "1700000000.000-1700000002.500.batch.enc"),
    ],
)
async def test_name_and_content_follow_codec_naming_and_protection(
    harness: Harness, codec: str, naming: str, protection: str, clear: str, encrypted: str
) -> None:
    talk = Talk("c", protection=protection)  # type: ignore[arg-type]
    await harness.say(talk, 3)
    await harness.drain(blob_codec=codec, blob_naming=naming)
    assert [blob.name for blob in harness.blobs()] == [talk.prefix + (clear if protection == "standard" else encrypted)]
    assert harness.blobs()[0].metadata["codec"] == codec
    assert_stored_once(talk, harness.blobs())


async def test_one_event_per_blob_says_all_that_a_backend_needs(harness: Harness) -> None:
    talk = Talk("c", uid="someone")
    ids = await harness.say(talk, 4)
    await harness.drain()
    first, second = blobs_of(talk, harness.blobs())
    assert sorted(await harness.events(), key=lambda event: event["start"]) == [
        {
            "uid": "someone",
            "conversation_id": "c",
            "object": f"chunks/someone/c/{start}.opus.enc",
            "start": start,
            "samples": samples,
            "sample_rate": "16000",
            "bytes": str(len(blob.data)),
            "trigger": trigger,
            "chunks": chunks,
            "codec": "opus",
            "protection": "enhanced",
            "first_entry": first_entry,
            "last_entry": last_entry,
            "seqs": seqs,
            "stream": blob.metadata["stream"],
            "chunks_digest": blob.metadata["chunks-digest"],
        }
        for blob, start, samples, trigger, chunks, first_entry, last_entry, seqs in (
            (first, "1700000000.000", "48000", "audio", "6", ids[0], ids[5], "0-5"),
            (second, "1700000003.000", "16000", "shutdown", "2", ids[6], ids[7], "6-7"),
        )
    ]


async def test_metadata_describe_the_blob(harness: Harness) -> None:
    ids = await harness.say(Talk("c", rate=8000), 3)
    await harness.drain()
    (blob,) = harness.blobs()
    expected = {
        "codec": "opus",
        "sample-rate": "8000",
        "samples": "24000",
        "start": "1700000000.000",
        "chunks": "6",
        "first-entry": ids[0],
        "last-entry": ids[5],
        "seqs": "0-5",
    }
    assert blob.metadata.items() >= expected.items()
    assert 0 < int(blob.metadata["pre-skip"]) < 160
    assert blob.metadata["worker-version"]


async def test_a_batch_costs_one_class_a_operation_and_no_look_up(harness: Harness) -> None:
    talks = [Talk(f"c{number}") for number in range(5)]
    for talk in talks:
        await harness.say(talk, 7)
    await harness.drain()
    assert len(harness.blobs()) == 15
    assert harness.server.counts()["class_a"] == harness.server.count("insert.*") == 15
    assert harness.server.count(*LOOK_UPS) == 0


async def test_many_conversations_of_all_kinds_at_once(harness: Harness) -> None:
    harness.partitions = 8
    talks = [
        Talk(f"{rate}-{protection}", uid=f"u{rate}", rate=rate, protection=protection, start=T0 + rate)
        for rate, protection in product(SAMPLE_RATES, PROTECTIONS)
    ]
    for _ in range(4):
        for talk in talks:
            await harness.say(talk, 1)
    await harness.drain()
    for talk in talks:
        assert_stored_once(talk, harness.blobs())
    assert len(await harness.events()) == len(harness.blobs()) == 30


async def test_longest_ids_that_are_taken_fit_into_a_directory_too(harness: Harness, tmp_path: Path) -> None:
    talk = Talk(256 * "c", uid=128 * "é")
    await harness.say(talk, 3)
    await harness.drain(**EXACT, store_url=tmp_path.as_uri())
    store = FileStore(tmp_path)
    (info,) = [info async for info in store.list(talk.prefix)]
    assert_stored_once(talk, [Blob(info.name, await store.read(info.name), info.metadata)])
