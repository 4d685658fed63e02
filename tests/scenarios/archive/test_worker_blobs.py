"""What the worker stores is what the archive plays: every sample, aligned, across the borders of blobs."""

from __future__ import annotations

import numpy as np
import pytest

from codec.crypto import key_id
from tests.support.harness import Rig
from tests.support.oracle import Talk, lag
from worker.archive import Archive
from worker.stores import open_store

pytestmark = pytest.mark.usefixtures("no_waiting_between_tries")


async def played(rig: Rig, talk: Talk) -> bytes:
    store = open_store(f"gs://{rig.server.bucket}", emulator_host=rig.server.url)
    archive = Archive(store, [rig.settings().secret])
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
async def test_pcm_comes_back_bit_by_bit(rig: Rig, naming: str, protection: str) -> None:
    talk = Talk("talk", protection=protection)  # type: ignore[arg-type]
    await rig.say(talk, 10)
    await rig.drain(blob_codec="pcm", blob_naming=naming)

    assert len(rig.server.objects()) == 4
    assert await played(rig, talk) == talk.pcm


@pytest.mark.parametrize("naming", ["start", "range"])
@pytest.mark.parametrize("rate", [8000, 16000, 48000])
async def test_opus_comes_back_complete_and_aligned_in_every_blob(rig: Rig, naming: str, rate: int) -> None:
    talk = Talk("talk", rate=rate)
    await rig.say(talk, 9)
    await rig.drain(blob_naming=naming)

    pcm = await played(rig, talk)

    assert len(pcm) == len(talk.pcm)
    for part in np.array_split(np.arange(len(pcm) // 2), 3):
        window = slice(part[0] * 2, part[-1] * 2 + 2)
        assert abs(lag(talk.pcm[window], pcm[window])) <= 1


async def test_jitter_of_the_pusher_adds_and_loses_nothing(rig: Rig) -> None:
    talk = Talk("talk")
    await rig.push(*(talk.say(0.5, late=late) for late in [0.0, 0.3, 0.1, 0.2, 0.0, 0.4] * 3))
    await rig.drain(blob_codec="pcm")

    assert await played(rig, talk) == talk.pcm


async def test_encrypted_blobs_name_their_secret_and_others_do_not(rig: Rig) -> None:
    await rig.say(Talk("sealed"), 1)
    await rig.say(Talk("clear", protection="standard"), 1)
    await rig.drain()

    named = {blob.name.split("/")[2]: blob.metadata.get("key-id") for blob in rig.blobs()}

    assert named == {"sealed": key_id(rig.settings().secret), "clear": None}
