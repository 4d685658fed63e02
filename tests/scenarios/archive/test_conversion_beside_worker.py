"""`convert` at work beside a worker: the audio has one name in the end, whatever was on its way."""

from __future__ import annotations

import pytest

from tests.support.harness import EXACT, Harness, eventually, forgotten_seal
from tests.support.oracle import Talk, assert_stored_once
from tests.support.secret import TEST_SECRET
from tests.support.timing import SHORT_RESTS
from worker.archive import Archive, Conversion, ConversionOutcome, Encoding
from worker.runtime.timing import Timing
from worker.stores import open_store


@pytest.fixture
def timing() -> Timing:
    return SHORT_RESTS


async def convert(harness: Harness) -> list[Conversion]:
    """`audio-batch-worker convert`, as a backend does it."""
    store = open_store(f"gs://{harness.server.bucket}", emulator_host=harness.server.url)
    archive = Archive(store, [TEST_SECRET])
    done = [
        conversion async for conversion in archive.convert(Encoding(TEST_SECRET, complexity=0), "user", dry_run=False)
    ]
    await store.close()
    return done


@pytest.mark.parametrize("reply_lost", [False, True])
async def test_conversion_between_an_upload_and_its_done_step(harness: Harness, reply_lost: bool) -> None:
    """If the reply is lost, the upload is tried again."""
    talk = Talk("c")
    gate = harness.server.hold(stage="reply", name="chunks/*.000.enc")
    if reply_lost:
        harness.server.fail("insert.*", "drop_reply")
    async with harness.worker(**EXACT) as running:
        await harness.say(talk, 3)
        await gate.reached()
        (conversion,) = await convert(harness)
        assert conversion.outcome is ConversionOutcome.CONVERTED
        gate.open()
        await eventually(lambda: running.count("batches_total", trigger="audio") == 1)
    await harness.assert_empty()
    assert [blob.metadata["codec"] for blob in harness.blobs()] == ["opus"]
    assert_stored_once(talk, harness.blobs())


async def test_conversion_of_what_a_failover_brings_back(harness: Harness) -> None:
    """A converted blob is as good a proof as the one it was made from."""
    talk = Talk("c")
    await forgotten_seal(harness, talk, 2)
    (conversion,) = await convert(harness)
    assert conversion.outcome is ConversionOutcome.CONVERTED
    await harness.drain(**EXACT)
    assert [blob.metadata["codec"] for blob in harness.blobs()] == ["opus"]
    assert_stored_once(talk, harness.blobs())
