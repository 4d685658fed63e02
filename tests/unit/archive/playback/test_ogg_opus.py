"""A recording as Ogg Opus: the stored packets, and every sample that they decode to."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest

from codec.blob import decode
from tests.support.ogg_reader import read_ogg_opus
from tests.support.secret import TEST_SECRET
from tests.support.speech import speech
from tests.support.stored_blobs import OLD_SECRET, T0, ConversationFolder
from worker.archive import Archive, AudioFormat, DownloadReport, MergeRules, Selection
from worker.audio.reading.reader import open_audio


async def saved(archive: Archive, path: Path, **options: object) -> DownloadReport:
    return await archive.save(await archive.download("user", "talk", **options), path)  # type: ignore[arg-type]


async def blob_pcm(folder: ConversationFolder, name: str) -> bytes:
    info = await folder.store.stat(name)
    assert info is not None
    return decode(await folder.store.read(name), name, info.metadata, secrets=[TEST_SECRET, OLD_SECRET]).pcm


@pytest.mark.slow
@pytest.mark.parametrize("rate", [8000, 12000, 16000, 24000, 48000])
@pytest.mark.parametrize("described", [True, False], ids=["described", "bare"])
async def test_every_sample_is_that_of_the_blob(
    archive: Archive, folder: ConversationFolder, tmp_path: Path, rate: int, described: bool
) -> None:
    muted = bytes(rate * 2)
    parts = speech(4.013, rate), speech(2, rate, offset=3) + muted + speech(1.5, rate), muted + speech(0.001, rate)
    start, names = T0, []
    for pcm in parts:
        names.append(await folder.put(".opus.enc", start, pcm, rate=rate, described=described))
        start += len(pcm) / 2 / rate

    path = tmp_path / "talk.ogg"
    report = await saved(archive, path)

    links = read_ogg_opus(path.read_bytes())
    heard = rate if described else 16000  # as which a blob without metadata counts
    assert [link.pcm(heard) for link in links] == [await blob_pcm(folder, name) for name in names]
    assert (report.blobs, report.encoded, report.sample_rate) == (3, 0, heard)
    assert report.samples == sum(len(link.pcm(heard)) // 2 for link in links)


async def test_gaps_are_silence_of_their_length(archive: Archive, folder: ConversationFolder, tmp_path: Path) -> None:
    for start in (0, 10, 75.5):
        await folder.put(".opus", T0 + start, speech(5), described=True)
    path = tmp_path / "talk.opus"
    report = await saved(archive, path)

    links = read_ogg_opus(path.read_bytes())
    assert [link.samples / 48000 for link in links] == [5, 5, 5, 60.5, 5]
    assert not any(links[1].pcm(16000))
    assert not any(links[3].pcm(16000))
    assert (report.seconds, report.silence) == (80.5, 65.5)

    await saved(archive, path, rules=MergeRules(fill_gaps=False))
    assert [link.samples / 48000 for link in read_ogg_opus(path.read_bytes())] == [5, 5, 5]


async def test_it_sounds_as_the_wav_does(archive: Archive, folder: ConversationFolder, tmp_path: Path) -> None:
    for number in range(3):
        await folder.put(".opus.enc", T0 + 5 * number, speech(5, offset=-5 * number), described=True)
    pcm = []
    for name in ("talk.wav", "talk.ogg"):
        await saved(archive, tmp_path / name, sample_rate=48000 if name.endswith("wav") else None)
        with open_audio(tmp_path / name) as audio:
            pcm.append(np.frombuffer(b"".join(audio.chunks(5)), "<i2").astype(float))
            assert audio.report.flaws == []
    assert len(pcm[0]) == len(pcm[1]) == 15 * 48000
    assert np.std(pcm[0] - pcm[1]) < 0.02 * np.std(pcm[0])


async def test_pcm_is_encoded_and_told(archive: Archive, folder: ConversationFolder, tmp_path: Path) -> None:
    await folder.put(".bin", T0, speech(5))
    await folder.put(".opus", T0 + 5, speech(5), described=True)
    await folder.put(".enc", T0 + 10, speech(5, 44100), rate=44100, described=True)
    path = tmp_path / "talk.ogg"
    report = await saved(archive, path)

    assert (report.encoded, report.blobs) == (2, 3)
    links = read_ogg_opus(path.read_bytes())
    assert [(link.samples / 48000, link.input_rate) for link in links] == [(5, 16000), (5, 16000), (5, 48000)]
    heard, said = (np.frombuffer(pcm, "<i2").astype(float) for pcm in (links[0].pcm(16000), speech(5)))
    assert np.corrcoef(heard, said)[0, 1] > 0.8


async def test_part_begins_and_ends_at_its_samples(
    archive: Archive, folder: ConversationFolder, tmp_path: Path
) -> None:
    name = await folder.put(".opus", T0, speech(20), described=True)
    path = tmp_path / "talk.ogg"
    report = await saved(archive, path, selection=Selection(T0 + 7.5, T0 + 12.25))

    (link,) = read_ogg_opus(path.read_bytes())
    assert report.start == T0 + 7.5
    assert link.samples == 4.75 * 48000
    assert len(link.packets) < 6 * 50
    whole, part = await blob_pcm(folder, name), link.pcm(16000)
    assert np.std(samples(part) - samples(whole[240000:392000])) < 0.01 * np.std(samples(whole))


async def test_trusted_timestamps_cut_overlaps(archive: Archive, folder: ConversationFolder, tmp_path: Path) -> None:
    for start in (0, 4):
        await folder.put(".opus", T0 + start, speech(5, offset=-start), described=True)
    path = tmp_path / "talk.ogg"
    report = await saved(archive, path, rules=MergeRules(trim_overlaps=True))
    assert [link.samples / 48000 for link in read_ogg_opus(path.read_bytes())] == [5, 4]
    assert report.seconds == 9


async def test_damaged_blob_is_named_and_left_out(archive: Archive, folder: ConversationFolder, tmp_path: Path) -> None:
    await folder.put(".opus", T0, speech(5), described=True)
    bad = await folder.put_bytes("1700000005.000.opus", struct.pack("<IIH", 9, 9, 400))
    report = await saved(archive, tmp_path / "talk.ogg")
    assert [problem.name for problem in report.problems] == [bad]
    assert report.blobs == 1


@pytest.mark.parametrize("form", [AudioFormat.FLAC, AudioFormat.MP3])
async def test_flac_and_mp3_hold_what_the_wav_holds(
    archive: Archive, folder: ConversationFolder, tmp_path: Path, form: AudioFormat
) -> None:
    await folder.put(".opus", T0, speech(5), described=True)
    await folder.put(".bin", T0 + 10, speech(5))
    found = []
    for path in (tmp_path / "talk.wav", tmp_path / f"talk.{form}"):
        await saved(archive, path)
        with open_audio(path) as audio:
            found.append(samples(b"".join(audio.chunks(5))))
            assert (audio.sample_rate, audio.channels, audio.report.flaws) == (16000, 1, [])
    assert abs(len(found[0]) - len(found[1])) <= (0 if form == "flac" else 1200)
    least = 1 if form == "flac" else 0.99
    assert np.corrcoef(found[0], found[1][: len(found[0])])[0, 1] >= least - 1e-9


def samples(pcm: bytes) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    return np.frombuffer(pcm, "<i2").astype(np.float64)
