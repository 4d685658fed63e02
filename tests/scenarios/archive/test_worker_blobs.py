"""What the worker stores is what the archive plays: every sample, aligned, across the borders of blobs."""

from __future__ import annotations

import numpy as np
import pytest

from codec.crypto import key_id
from tests.support.harness import Harness
from tests.support.oracle import Talk, lag
from worker.archive import Archive
from worker.stores import open_store

pytestmark = pytest.mark.usefixtures("no_waiting_between_tries")


async def played(harness: Harness, talk: Talk) -> bytes:
    store = open_store(f"gs://{harness.server.bucket}", emulator_host=harness.server.url)
    archive = Archive(store, [harness.settings().secret])
    download = await archive.download(talk.uid, talk.conversation_id)
    pcm = await download.pcm()
    files = (await archive.audio_files(talk.uid, talk.conversation_id)).files
    await store.close()
    assert download.report.complete
    assert download.report.sample_rate == talk.rate
    assert [file.duration for file in files] == [pytest.approx(len(pcm) / 2 / talk.rate)]
    return pcm


@pytest.mark.parametrize("naming", ["start", "range"])
@pytest.mark.parametrize("protection", ["enhanced", "standard"])
async def test_pcm_comes_back_bit_by_bit(harness: Harness, naming: str, protection: str) -> None:
    talk = Talk("talk", protection=protection)  # type: ignore[arg-type]
    await harness.say(talk, 10)
    await harness.drain(blob_codec="pcm", blob_naming=naming)

    assert len(harness.server.objects()) == 4
    assert await played(harness, talk) == talk.pcm


@pytest.mark.parametrize("naming", ["start", "range"])
@pytest.mark.parametrize("rate", [8000, 16000, 48000])
async def test_opus_comes_back_complete_and_aligned_in_every_blob(harness: Harness, naming: str, rate: int) -> None:
    talk = Talk("talk", rate=rate)
    await harness.say(talk, 9)
    await harness.drain(blob_naming=naming)

    pcm = await played(harness, talk)

    assert len(pcm) == len(talk.pcm)
    for part in np.array_split(np.arange(len(pcm) // 2), 3):
        window = slice(part[0] * 2, part[-1] * 2 + 2)
        assert abs(lag(talk.pcm[window], pcm[window])) <= 1


async def test_jitter_of_the_pusher_adds_and_loses_nothing(harness: Harness) -> None:
    talk = Talk("talk")
    await harness.push(*(talk.say(0.5, late=late) for late in [0.0, 0.3, 0.1, 0.2, 0.0, 0.4] * 3))
    await harness.drain(blob_codec="pcm")

    assert await played(harness, talk) == talk.pcm


async def test_encrypted_blobs_name_their_secret_and_others_do_not(harness: Harness) -> None:
    await harness.say(Talk("sealed"), 1)
    await harness.say(Talk("clear", protection="standard"), 1)
    await harness.drain()

    named = {blob.name.split("/")[2]: blob.metadata.get("key-id") for blob in harness.blobs()}

    assert named == {"sealed": key_id(harness.settings().secret), "clear": None}
