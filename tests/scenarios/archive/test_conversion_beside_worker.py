"""`convert` at work beside a worker: the audio has one name in the end, whatever was on its way."""

from __future__ import annotations

import pytest

from tests.support.harness import EXACT, Rig, eventually, forgotten_seal
from tests.support.oracle import Talk, assert_stored_once
from tests.support.secret import TEST_SECRET
from tests.support.timing import SHORT_RESTS
from worker.archive import Archive, Conversion, ConversionOutcome, Encoding
from worker.runtime.timing import Timing
from worker.stores import open_store


@pytest.fixture
def timing() -> Timing:
    return SHORT_RESTS


async def convert(rig: Rig) -> list[Conversion]:
    """`audio-batch-worker convert`, as a backend does it."""
    store = open_store(f"gs://{rig.server.bucket}", emulator_host=rig.server.url)
    archive = Archive(store, [TEST_SECRET])
    done = [
        conversion async for conversion in archive.convert(Encoding(TEST_SECRET, complexity=0), "user", dry_run=False)
    ]
    await store.close()
    return done


@pytest.mark.parametrize("reply_lost", [False, True])
async def test_conversion_between_an_upload_and_its_done_step(rig: Rig, reply_lost: bool) -> None:
    """If the reply is lost, the upload is tried again."""
    talk = Talk("c")
    gate = rig.server.hold(stage="reply", name="chunks/*.000.enc")
    if reply_lost:
        rig.server.fail("insert.*", "drop_reply")
    async with rig.worker(**EXACT) as running:
        await rig.say(talk, 3)
        await gate.reached()
        (conversion,) = await convert(rig)
        assert conversion.outcome is ConversionOutcome.CONVERTED
        gate.open()
        await eventually(lambda: running.count("batches_total", trigger="audio") == 1)
    await rig.assert_empty()
    assert [blob.metadata["codec"] for blob in rig.blobs()] == ["opus"]
    assert_stored_once(talk, rig.blobs())


async def test_conversion_of_what_a_failover_brings_back(rig: Rig) -> None:
    """A converted blob is as good a proof as the one it was made from."""
    talk = Talk("c")
    await forgotten_seal(rig, talk, 2)
    (conversion,) = await convert(rig)
    assert conversion.outcome is ConversionOutcome.CONVERTED
    await rig.drain(**EXACT)
    assert [blob.metadata["codec"] for blob in rig.blobs()] == ["opus"]
    assert_stored_once(talk, rig.blobs())
