"""What is played: every blob once, at its place, whatever kinds and rates a conversation mixes."""

from __future__ import annotations

import math
import os
import wave
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from pesq import pesq

from tests.support.gcs.server import GcsServer
from tests.support.oracle import lag
from tests.support.speech import speech
from tests.support.stored_blobs import EXTENSIONS, T0, ConversationFolder, noise, opus_content
from worker.archive import Archive, MergeRules, Selection
from worker.archive.playback import repeated_audio
from worker.errors import AudioFileError, BadSelection, NothingStored, StoreError
from worker.stores.base import Store

RATE = 16000


def samples(pcm: bytes) -> NDArray[np.float64]:
    return np.frombuffer(pcm, "<i2").astype(np.float64)


def cut(pcm: bytes, first: float, last: float, rate: int = RATE) -> bytes:
    return pcm[round(first * rate) * 2 : round(last * rate) * 2]


@pytest.mark.slow
async def test_six_kinds_two_protections_and_two_rates_come_back_as_one_wav(
    archive: Archive, folder: ConversationFolder, tmp_path: Path
) -> None:
    length = 8.0
    source = speech(length * 8)
    for number, extension in enumerate(EXTENSIONS):
        start = number * length
        pieces, end = (3, T0 + start + 6) if extension.startswith(".batch") else (1, None)
        pcm = cut(source, start, start + length)
        await folder.put(extension, T0 + start, pcm, described=extension.startswith(".opus"), pieces=pieces, end=end)
    for number, extension in enumerate((".opus.enc", ".bin"), start=6):
        pcm = speech(length, 8000, offset=number)
        await folder.put(extension, T0 + number * length, pcm, rate=8000, described=True)

    download = await archive.download("user", "talk")
    report = await archive.save(download, tmp_path / "talk.wav")

    with wave.open(str(tmp_path / "talk.wav")) as file:
        assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (RATE, 1, 2)
        pcm = file.readframes(file.getnframes())
    assert (report.samples, report.blobs, report.complete) == (RATE * length * 8, 8, True)
    assert len(pcm) == report.samples * 2
    for number, extension in enumerate(EXTENSIONS):
        expected, got = (cut(which, number * length, (number + 1) * length) for which in (source, pcm))
        if "opus" not in extension:
            assert got == expected
            continue
        assert lag(expected, got) == 0
        assert pesq(RATE, samples(expected), samples(got), "wb") > 3.5
    last = cut(pcm, 7 * length, 8 * length)
    assert abs(lag(speech(length, 8000, offset=7), samples(last)[::2].astype("<i2").tobytes())) <= 1


async def test_audio_that_follows_stays_exact_though_timestamps_jitter(
    archive: Archive, folder: ConversationFolder
) -> None:
    source = speech(6)
    for number, jitter in enumerate([0, 0.4, -0.3, 0.2, 0.001, -0.2]):
        await folder.put(".enc", T0 + number + jitter, cut(source, number, number + 1))

    assert await folder.pcm(archive) == source


async def test_a_gap_becomes_silence_of_its_length(archive: Archive, folder: ConversationFolder) -> None:
    first, second = speech(1), speech(1, offset=3)
    await folder.put(".bin", T0, first)
    await folder.put(".bin", T0 + 6.25, second)

    assert await folder.pcm(archive) == first + bytes(round(5.25 * RATE) * 2) + second
    assert await folder.pcm(archive, rules=MergeRules(fill_gaps=False)) == first + second


async def test_a_small_gap_counts_when_the_timestamps_are_trusted(archive: Archive, folder: ConversationFolder) -> None:
    await folder.put(".bin", T0, speech(1))
    await folder.put(".bin", T0 + 1.5, speech(1))

    trusting = MergeRules(trim_overlaps=True)

    assert len(await folder.pcm(archive)) == 2 * RATE * 2
    assert len(await folder.pcm(archive, rules=trusting)) == 2.5 * RATE * 2


async def test_overlaps_shift_the_later_audio_and_are_cut_only_on_demand(
    archive: Archive, folder: ConversationFolder
) -> None:
    first, second, third = speech(10), speech(10, offset=11), speech(10, offset=22)
    await folder.put(".bin", T0, first)
    await folder.put(".bin", T0 + 6, second)
    await folder.put(".bin", T0 + 30, third)

    download = await archive.download("user", "talk")

    assert await download.pcm() == first + second + bytes(10 * RATE * 2) + third
    assert download.report.shifted == pytest.approx(4)
    trimmed = await folder.pcm(archive, rules=MergeRules(trim_overlaps=True))
    assert trimmed == first + second[4 * RATE * 2 :] + bytes(14 * RATE * 2) + third


async def test_silence_that_overlaps_is_shifted_like_any_audio(archive: Archive, folder: ConversationFolder) -> None:
    await folder.put(".bin", T0, bytes(5 * RATE * 2))
    await folder.put(".bin", T0 + 2, bytes(5 * RATE * 2))

    assert len(await folder.pcm(archive)) == 10 * RATE * 2


async def test_a_wrong_timestamp_does_not_ask_for_years_of_silence(
    archive: Archive, folder: ConversationFolder
) -> None:
    await folder.put(".bin", 5.0, speech(1))
    await folder.put(".bin", 999_999_999_999.0, speech(1))

    download = await archive.download("user", "talk")

    assert len(await download.pcm()) == 2 * RATE * 2
    assert download.report.left_out == pytest.approx(999_999_999_993)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kept", "duplicate"),
    [(".opus.enc", ".enc"), (".enc", ".opus"), (".opus", ".bin"), (".batch.enc", ".opus.enc"), (".batch.bin", ".bin")],
)
async def test_one_start_in_two_kinds_is_taken_once(
    archive: Archive, folder: ConversationFolder, kept: str, duplicate: str
) -> None:
    await folder.put(duplicate, T0, speech(2), described=True)
    await folder.put(kept, T0, speech(2), described=True)
    await folder.put(".bin", T0 + 2, speech(1))

    download = await archive.download("user", "talk")

    assert len(await download.pcm()) == 3 * RATE * 2
    assert download.report.blobs == 2


@pytest.mark.slow
@pytest.mark.parametrize(
    ("long", "short"), [(".bin", ".opus"), (".opus.enc", ".batch.enc"), (".opus", ".bin"), (".enc", ".opus.enc")]
)
async def test_the_longer_of_one_start_is_taken_though_no_metadata_tells(
    archive: Archive, folder: ConversationFolder, long: str, short: str
) -> None:
    await folder.put(long, T0, speech(12))
    await folder.put(short, T0, speech(5))

    assert len(await folder.pcm(archive)) == 12 * RATE * 2
    assert (await archive.audio_files("user", "talk")).files[0].duration == 12


@pytest.mark.parametrize("seconds", [0.3, 5])
async def test_an_empty_blob_is_no_substitute_for_audio(
    archive: Archive, folder: ConversationFolder, seconds: float
) -> None:
    await folder.put(".bin", T0, speech(seconds))
    await folder.put_bytes(f"{T0:.3f}.opus", bytes(8))

    assert await folder.pcm(archive) == speech(seconds)


async def test_of_equally_long_alternatives_one_is_read(gcs: Store, gcs_server: GcsServer) -> None:
    folder = ConversationFolder(gcs)
    await folder.put(".opus", T0, speech(5))
    await folder.put(".bin", T0, speech(5))
    gcs_server.requests.clear()

    await folder.pcm(Archive(gcs))

    assert gcs_server.count("*") == 2


@pytest.mark.slow
@pytest.mark.parametrize("kept_bytes", [repeated_audio.KEPT_BYTES, 0])
async def test_singles_that_a_range_holds_are_taken_once(
    archive: Archive, folder: ConversationFolder, monkeypatch: pytest.MonkeyPatch, kept_bytes: int
) -> None:
    """Also where audio has to be read again for the comparison."""
    monkeypatch.setattr(repeated_audio, "KEPT_BYTES", kept_bytes)
    source = speech(20)
    await folder.put(".batch.enc", T0, source, pieces=4, end=T0 + 15)
    await folder.put(".enc", T0 + 5, cut(source, 5, 10))
    await folder.put(".opus", T0 + 15, cut(source, 15, 20), described=True)

    assert await folder.pcm(archive) == source


@pytest.mark.slow
@pytest.mark.parametrize(
    ("extension", "described"), [(".batch.bin", False), (".opus", False), (".opus.enc", True), (".enc", False)]
)
@pytest.mark.parametrize("chunks", [".bin", ".opus"])
async def test_chunks_of_a_long_blob_without_a_range_are_taken_once(
    archive: Archive, folder: ConversationFolder, extension: str, described: bool, chunks: str
) -> None:
    source = speech(20)
    await folder.put(extension, T0, source, described=described)
    for first in range(0, 20, 5):
        await folder.put(chunks, T0 + first + 0.2, cut(source, first, first + 5))

    assert len(await folder.pcm(archive)) == len(source)
    assert (await archive.audio_files("user", "talk")).files[0].duration == 20


async def test_other_audio_inside_the_time_of_a_long_blob_is_not_lost(
    archive: Archive, folder: ConversationFolder
) -> None:
    source, other = speech(15), noise(5)
    await folder.put(".batch.bin", T0, source)
    await folder.put(".enc", T0 + 5, other)

    assert await folder.pcm(archive) == source + other
    file = (await archive.audio_files("user", "talk")).files[0]
    assert (file.duration, len(file.blobs)) == (20, 2)


@pytest.mark.parametrize("end", [None, T0 + 15])
async def test_what_sounds_like_another_time_of_a_long_blob_is_not_lost(
    archive: Archive, folder: ConversationFolder, end: float | None
) -> None:
    source = speech(20)
    again = cut(source, 1, 6)
    await folder.put(".batch.bin", T0, source, end=end)
    await folder.put(".bin", T0 + 10, again)

    assert await folder.pcm(archive) == source + again


@pytest.mark.slow
async def test_chunks_after_a_pause_that_their_range_leaves_out_are_taken_once(
    archive: Archive, folder: ConversationFolder
) -> None:
    source = speech(20)
    await folder.put(".batch.bin", T0, source, end=T0 + 135)
    for number, start in enumerate((0, 5, 130, 135)):
        await folder.put(".bin", T0 + start, cut(source, number * 5, number * 5 + 5))

    assert await folder.pcm(archive) == source


async def test_silence_that_jitters_is_not_taken_for_its_predecessor(
    archive: Archive, folder: ConversationFolder
) -> None:
    for number in range(4):
        await folder.put(".bin", T0 + number * 0.9, bytes(RATE * 2))

    assert len(await folder.pcm(archive)) == 4 * RATE * 2


async def test_other_audio_inside_the_time_of_a_range_is_not_lost(archive: Archive, folder: ConversationFolder) -> None:
    source, other = speech(10), speech(5, offset=13)
    await folder.put(".batch.bin", T0, source, end=T0 + 5)
    await folder.put(".enc", T0 + 5, other)

    assert await folder.pcm(archive) == source + other


async def test_a_part_that_goes_on_after_its_range_is_not_lost(archive: Archive, folder: ConversationFolder) -> None:
    source = speech(24)
    await folder.put(".batch.bin", T0, cut(source, 0, 14), end=T0 + 9)
    await folder.put(".bin", T0 + 4, cut(source, 4, 24))

    assert len(await folder.pcm(archive)) == (14 + 20) * RATE * 2


async def test_a_chunk_that_a_range_lacks_is_heard_though_all_is_noise_with_an_offset(
    archive: Archive, folder: ConversationFolder
) -> None:
    source = (samples(noise(20)) + 150).astype("<i2").tobytes()
    await folder.put(".batch.bin", T0, cut(source, 0, 5) + cut(source, 10, 20), end=T0 + 15)
    await folder.put(".bin", T0 + 5, cut(source, 5, 10))

    assert len(await folder.pcm(archive)) == len(source)


async def test_the_same_entries_under_two_names_are_taken_once(archive: Archive, folder: ConversationFolder) -> None:
    entries = {"first-entry": "1-0", "last-entry": "9-0"}
    await folder.put(".opus.enc", T0, speech(2), described=True, more=entries)
    await folder.put(".opus.enc", T0 + 0.001, speech(2), described=True, more=entries)

    assert len(await folder.pcm(archive)) == 2 * RATE * 2


async def test_the_same_entry_ids_at_another_time_are_other_audio(archive: Archive, folder: ConversationFolder) -> None:
    entries = {"first-entry": "1-0", "last-entry": "9-0"}
    await folder.put(".opus.enc", T0, speech(2), described=True, more=entries)
    await folder.put(".opus.enc", T0 + 2, speech(2), described=True, more=entries)

    assert len(await folder.pcm(archive)) == 4 * RATE * 2


async def test_a_copy_under_another_name_is_taken_once(archive: Archive, folder: ConversationFolder) -> None:
    await folder.put(".bin", T0, speech(3))
    await folder.store.copy(folder.names[0], folder.names[0].replace(".000.bin", ".001.bin"))

    assert await folder.pcm(archive) == speech(3)


async def test_equal_silence_is_not_the_same_audio(archive: Archive, folder: ConversationFolder) -> None:
    for number in range(4):
        await folder.put(".bin", T0 + number, bytes(RATE * 2))

    assert len(await folder.pcm(archive)) == 4 * RATE * 2


async def test_half_a_sample_at_the_end_is_dropped(archive: Archive, folder: ConversationFolder) -> None:
    await folder.put(".bin", T0, speech(1) + b"\x01")
    await folder.put(".batch.enc", T0 + 1, speech(1, offset=1) + b"\x01")

    assert await folder.pcm(archive) == speech(1) + speech(1, offset=1)


async def test_a_time_is_cut_to_the_sample_and_neighbours_meet(archive: Archive, folder: ConversationFolder) -> None:
    source = speech(9)
    for number in range(3):
        await folder.put(".enc", T0 + 3 * number, cut(source, 3 * number, 3 * number + 3))

    middle = await folder.pcm(archive, selection=Selection(T0 + 1.5, T0 + 4.25))

    assert middle == cut(source, 1.5, 4.25)
    assert await folder.pcm(archive, selection=Selection(until=T0 + 1.5)) == cut(source, 0, 1.5)
    assert await folder.pcm(archive, selection=Selection(since=T0 + 4.25)) == cut(source, 4.25, 9)
    for ends in ((-math.inf, math.inf), (-1e308, 1e308)):
        assert await folder.pcm(archive, selection=Selection(*ends)) == source


async def test_only_blobs_of_the_asked_time_are_read(gcs: Store, gcs_server: GcsServer) -> None:
    folder = ConversationFolder(gcs)
    for number in range(6):
        await folder.put(".bin", T0 + number, speech(1))
    gcs_server.requests.clear()

    await folder.pcm(Archive(gcs), selection=Selection(T0 + 2, T0 + 4))

    assert gcs_server.count("list") == 1
    assert gcs_server.count("*") == 3


@pytest.mark.slow
async def test_timestamps_name_starts_ranges_and_recorded_time(archive: Archive, folder: ConversationFolder) -> None:
    single, ranged, opus = speech(5), speech(10, offset=5), speech(10, offset=15)
    await folder.put(".bin", T0, single)
    await folder.put(".batch.enc", T0 + 5, ranged, pieces=2, end=T0 + 10)
    await folder.put(".opus.enc", T0 + 15, opus, described=True)

    chosen = await archive.download("user", "talk", selection=Selection(timestamps=[T0 + 10, T0, T0 + 99]))
    assert await chosen.pcm() == single + ranged
    assert chosen.report.missing == [T0 + 99]
    assert not chosen.report.complete
    later = await archive.download("user", "talk", selection=Selection(timestamps=[T0 + 20]))
    assert len(await later.pcm()) == len(opus)


@pytest.mark.slow
async def test_a_time_inside_a_blob_of_unknown_length_is_heard(archive: Archive, folder: ConversationFolder) -> None:
    source = speech(20)
    await folder.put(".opus", T0, source)
    await folder.put(".bin", T0 + 5, cut(source, 5, 10))
    await folder.put(".bin", T0 + 20, speech(5))

    late = await folder.pcm(archive, selection=Selection(since=T0 + 12))
    assert len(late) == 13 * RATE * 2
    asked = await archive.download("user", "talk", selection=Selection(timestamps=[T0 + 12, T0 + 30]))
    assert len(await asked.pcm()) == len(source)
    assert asked.report.missing == [T0 + 30]


@pytest.mark.slow
async def test_a_time_after_all_audio_reads_what_may_go_on_until_then(gcs: Store, gcs_server: GcsServer) -> None:
    folder = ConversationFolder(gcs)
    for number in range(20):
        await folder.put(".opus", T0 + 60 * number, speech(1))
    gcs_server.requests.clear()

    with pytest.raises(NothingStored):
        await folder.pcm(Archive(gcs), selection=Selection(timestamps=[T0 + 60 * 19 + 2]))

    assert gcs_server.count("download") == 1


async def test_everything_is_resampled_to_the_asked_rate(archive: Archive, folder: ConversationFolder) -> None:
    await folder.put(".bin", T0, speech(2))
    await folder.put(".bin", T0 + 2, speech(2, 8000), rate=8000, described=True)
    await folder.put(".bin", T0 + 10, speech(1, 48000), rate=48000, described=True)

    download = await archive.download("user", "talk", sample_rate=24000)

    assert len(await download.pcm()) == 11 * 24000 * 2
    assert (await archive.download("user", "talk")).report.sample_rate == 48000


async def test_resampling_leaves_no_seam_between_blobs(archive: Archive, folder: ConversationFolder) -> None:
    tone = (8000 * np.sin(np.arange(32000) * 2 * np.pi * 440 / RATE)).astype("<i2").tobytes()
    for number in range(4):
        await folder.put(".enc", T0 + number / 2, cut(tone, number / 2, (number + 1) / 2))

    pcm = samples(await folder.pcm(archive, sample_rate=8000))[100:-100]

    ideal = 8000 * np.sin((np.arange(len(pcm)) + 100) * 2 * np.pi * 440 / 8000)
    assert np.max(np.abs(pcm - ideal)) < 20


async def test_a_download_is_iterated_once(archive: Archive, folder: ConversationFolder) -> None:
    await folder.put(".bin", T0, speech(1))
    download = await archive.download("user", "talk")
    await download.pcm()

    with pytest.raises(RuntimeError, match="iterated once"):
        await download.pcm()
    assert download.report.blobs == 1


async def test_nothing_stored_is_said(archive: Archive, folder: ConversationFolder) -> None:
    with pytest.raises(NothingStored, match="no audio of user/talk"):
        await folder.pcm(archive)


def test_a_time_that_ends_before_it_begins_is_refused() -> None:
    with pytest.raises(BadSelection, match="empty"):
        Selection(10, 10)
    with pytest.raises(BadSelection, match="is none"):
        Selection(since=math.nan)
    with pytest.raises(BadSelection, match="is none"):
        Selection(until=math.nan)
    with pytest.raises(BadSelection, match="not Unix seconds"):
        Selection(timestamps=[-1])


async def test_a_store_that_refuses_ends_the_download_and_leaves_no_file(
    gcs: Store, gcs_server: GcsServer, tmp_path: Path
) -> None:
    folder, archive = ConversationFolder(gcs), Archive(gcs)
    for number in range(4):
        await folder.put(".bin", T0 + number, speech(1))
    gcs_server.fail("download", status=403, times=99, reason="forbidden")
    download = await archive.download("user", "talk")

    with pytest.raises(StoreError):
        await archive.save(download, tmp_path / "talk.wav")

    assert os.listdir(tmp_path) == []  # noqa: PTH208 -- nothing else runs in this loop


async def test_what_outgrows_a_wav_is_refused_before_it_is_read(
    gcs: Store, gcs_server: GcsServer, tmp_path: Path
) -> None:
    folder, archive = ConversationFolder(gcs), Archive(gcs)
    for start in (0, 13 * 3600):
        await folder.put(".bin", T0 + start, speech(1))
    gcs_server.requests.clear()
    download = await archive.download("user", "talk", sample_rate=48000)

    with pytest.raises(AudioFileError, match="4 GiB"):
        await archive.save(download, tmp_path / "talk.wav")

    assert gcs_server.count("download") == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("selection", "rules"),
    [
        (Selection(), MergeRules()),
        (Selection(), MergeRules(fill_gaps=False)),
        (Selection(), MergeRules(trim_overlaps=True)),
        (Selection(since=T0 + 1.5, until=T0 + 20.5), MergeRules()),
        (Selection(since=T0 + 15), MergeRules()),
    ],
)
async def test_length_is_known_before_it_is_read(
    archive: Archive, folder: ConversationFolder, selection: Selection, rules: MergeRules
) -> None:
    for start in (0, 4, 20):
        await folder.put(".bin", T0 + start, speech(5))

    download = await archive.download("user", "talk", selection=selection, rules=rules)
    expected = download.expected_seconds
    await download.pcm()

    assert expected == pytest.approx(download.report.seconds)


async def test_bare_samples_are_written_for_a_name_that_says_so(
    archive: Archive, folder: ConversationFolder, tmp_path: Path
) -> None:
    await folder.put(".enc", T0, speech(2))

    await archive.save(await archive.download("user", "talk"), tmp_path / "talk.pcm")

    assert (tmp_path / "talk.pcm").read_bytes() == speech(2)


def spanned(start: float, pcm: bytes) -> dict[str, str]:
    """The metadata of the newest writers in production."""
    return {"v2_start": repr(start), "v2_samples": str(len(pcm) // 2), "v2_sample_rate": "16000"}


async def put_spanned(folder: ConversationFolder, start: float, pcm: bytes, extension: str = ".bin") -> str:
    return await folder.put(extension, start, pcm, more=spanned(start, pcm))


async def test_blobs_that_all_have_spans_are_placed_by_these_exactly(
    archive: Archive, folder: ConversationFolder
) -> None:
    """A gap within the tolerance becomes silence, an overlap is cut, both to the sample."""
    source = speech(10)
    starts = [T0, T0 + 2.0004375, T0 + 2.9]  # 7 samples of gap are no gap, then 0.1 s of overlap
    await put_spanned(folder, starts[0], source[:64000], ".enc")
    await put_spanned(folder, starts[1], source[64000:96000])
    await put_spanned(folder, starts[2], source[96000:128000], ".batch.bin")
    await put_spanned(folder, T0 + 4.9, source[128000:160000])

    download = await archive.download("user", "talk")
    pcm = await download.pcm()

    assert pcm[:96000] == source[:96000]
    assert pcm[96000:124800] == source[99200:128000]
    assert pcm[124800:156800] == bytes(32000)
    assert pcm[156800:] == source[128000:160000]
    report = download.report
    assert [report.trimmed, report.silence] == pytest.approx([0.1, 1.0], abs=1e-6)
    files = await archive.audio_files("user", "talk")
    assert [file.duration for file in files.files] == [pytest.approx(len(pcm) / 32000, abs=1e-4)]


async def test_one_blob_without_a_span_takes_the_trust_from_all(archive: Archive, folder: ConversationFolder) -> None:
    await put_spanned(folder, T0, speech(2))
    await put_spanned(folder, T0 + 1.9, speech(2, offset=2))
    await folder.put(".bin", T0 + 5, speech(2, offset=4))

    download = await archive.download("user", "talk")

    assert len(await download.pcm()) == 6 * 32000
    assert (download.report.trimmed, download.report.silence) == (0.0, 0.0)


async def test_audio_that_is_left_out_as_repeated_is_named(archive: Archive, folder: ConversationFolder) -> None:
    whole = await folder.put(".batch.bin", T0, speech(20), end=T0 + 15)
    parts = [await folder.put(".bin", T0 + first, speech(5, offset=first)) for first in (5, 10)]
    other = await folder.put(".bin", T0 + 25, speech(5, offset=25))

    download = await archive.download("user", "talk")
    await download.pcm()
    files = await archive.audio_files("user", "talk")

    expected = [(part, whole) for part in parts]
    assert [(repeat.name, repeat.inside) for repeat in download.report.repeated] == expected
    assert [(repeat.name, repeat.inside) for repeat in files.repeated] == expected
    assert [blob.path for file in files.files for blob in file.blobs] == [whole, other]
    assert download.report.complete


async def test_metadata_that_exaggerates_stops_no_export(
    archive: Archive, folder: ConversationFolder, tmp_path: Path
) -> None:
    """Without the true length, the recording would seem to outgrow a WAV."""
    await folder.put(".bin", T0, speech(1))
    content, facts = opus_content(speech(1, offset=1))
    await folder.put_bytes(f"{T0 + 1:.3f}.opus", content, facts.to_mapping() | {"samples": "9" * 15})

    download = await archive.download("user", "talk")
    report = await archive.save(download, tmp_path / "talk.wav")

    assert report.blobs == 2
    assert 2.0 <= report.seconds < 2.1


async def test_one_blob_that_the_store_refuses_to_give_is_a_problem(gcs: Store, gcs_server: GcsServer) -> None:
    folder, archive = ConversationFolder(gcs), Archive(gcs)
    for number in range(3):
        await folder.put(".bin", T0 + number, speech(1, offset=number))
    gcs_server.refuse("download", "forbidden", name=folder.names[1])

    download = await archive.download("user", "talk")
    pcm = await download.pcm()

    assert pcm == speech(1) + bytes(0) + speech(1, offset=2)
    (problem,) = download.report.problems
    assert (problem.name, problem.cause) == (folder.names[1], "permission")
