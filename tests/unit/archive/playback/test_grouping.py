"""Playable files: cut by start-to-start gaps, with durations that are those of the download."""

from __future__ import annotations

import pytest

from codec.container import HEADER
from tests.support.gcs.server import GcsServer
from tests.support.speech import speech
from tests.support.stored_blobs import T0, ConversationFolder, opus_content
from worker.archive import Archive, MergeRules
from worker.stores.base import Store


async def test_more_than_the_gap_from_start_to_start_begins_a_file(
    archive: Archive, folder: ConversationFolder
) -> None:
    for start in (0, 90, 180.001, 200):
        await folder.put(".bin", T0 + start, speech(1))

    found = await archive.audio_files("user", "talk")

    assert [file.timestamps for file in found.files] == [(T0, T0 + 90), (T0 + 180.001, T0 + 200)]
    assert [file.start for file in found.files] == [T0, T0 + 180.001]
    assert len((await archive.audio_files("user", "talk", gap=89)).files) == 3


async def test_durations_are_those_of_the_download(archive: Archive, folder: ConversationFolder) -> None:
    await folder.put(".opus", T0, speech(3))
    await folder.put(".batch.enc", T0 + 3, speech(8), pieces=4, end=T0 + 9)
    await folder.put(".opus.enc", T0 + 20, speech(5, 8000), rate=8000, described=True)
    await folder.put(".enc", T0 + 24, speech(4))

    file = (await archive.audio_files("user", "talk")).files[0]

    assert file.duration == pytest.approx(len(await folder.pcm(archive)) / 2 / 16000, abs=1e-4)


async def test_durations_are_those_of_the_download_at_another_tolerance(
    archive: Archive, folder: ConversationFolder
) -> None:
    await folder.put(".bin", T0, speech(5))
    await folder.put(".bin", T0 + 6.5, speech(5))

    files = [(await archive.audio_files("user", "talk", gap_tolerance=each)).files[0] for each in (0.5, 2)]

    assert [file.duration for file in files] == [11.5, 10]
    assert len(await folder.pcm(archive, rules=MergeRules(gap_tolerance=0.5))) == 11.5 * 32000


async def test_batch_of_several_segments_under_one_timestamp_has_its_exact_length(
    archive: Archive, folder: ConversationFolder
) -> None:
    for number in range(3):
        await folder.put(".batch.enc", T0 + 6 * number, speech(6), pieces=6)

    assert (await archive.audio_files("user", "talk")).files[0].duration == 18.0


@pytest.mark.parametrize(
    ("extension", "described", "reads"),
    [(".opus", True, 0), (".enc", False, 0), (".bin", False, 0), (".opus", False, 1), (".opus.enc", False, 1)],
)
async def test_only_what_nothing_else_tells_is_read(
    gcs: Store, gcs_server: GcsServer, extension: str, described: bool, reads: int
) -> None:
    await ConversationFolder(gcs).put(extension, T0, speech(2), described=described)
    gcs_server.requests.clear()

    found = await Archive(gcs, [ConversationFolder(gcs).secret]).audio_files("user", "talk")

    assert found.files[0].duration == 2.0
    assert gcs_server.count("download") == reads
    assert gcs_server.count("*") == reads + 1


async def test_a_header_without_a_length_makes_the_packets_count(archive: Archive, folder: ConversationFolder) -> None:
    content, _ = opus_content(speech(2))
    count, _ = HEADER.unpack_from(content)
    await folder.put_bytes(f"{T0:.3f}.opus", HEADER.pack(count, 0) + content[HEADER.size :])

    assert (await archive.audio_files("user", "talk")).files[0].duration == pytest.approx(count * 0.02)


async def test_a_header_that_claims_more_than_its_packets_hold_is_not_believed(
    archive: Archive, folder: ConversationFolder
) -> None:
    content, _ = opus_content(speech(2))
    count, _ = HEADER.unpack_from(content)
    await folder.put_bytes(f"{T0:.3f}.opus", HEADER.pack(count, 2**32 - 2) + content[HEADER.size :])
    short = await folder.put_bytes(f"{T0 + 50:.3f}.opus", HEADER.pack(2**32 - 1, 2**32 - 2))

    found = await archive.audio_files("user", "talk")

    assert found.files[0].duration == pytest.approx(50)
    assert [(problem.name, problem.reason.split(":")[0]) for problem in found.problems] == [
        (short, "Truncated Opus data")
    ]


async def test_measuring_tells_how_far_it_is(archive: Archive, folder: ConversationFolder) -> None:
    for number in range(3):
        await folder.put(".opus", T0 + number, speech(1))
    told: list[tuple[int, int]] = []

    await archive.audio_files("user", "talk", progress=lambda done, total: told.append((done, total)))

    assert told == [(1, 3), (2, 3), (3, 3)]


async def test_a_blob_of_unknown_length_is_a_problem_and_no_failure(
    archive: Archive, folder: ConversationFolder
) -> None:
    broken = await folder.put_bytes(f"{T0:.3f}.opus", b"123")
    await folder.put(".bin", T0 + 1, speech(1))

    found = await archive.audio_files("user", "talk")

    assert [problem.name for problem in found.problems] == [broken]
    assert found.files[0].duration == pytest.approx(1, abs=0.01)


async def test_blob_that_another_took_the_place_of_is_told_so(archive: Archive, folder: ConversationFolder) -> None:
    broken = await folder.put_bytes(f"{T0:.3f}.opus", b"123")
    duplicate = await folder.put(".bin", T0, speech(1))

    found = await archive.audio_files("user", "talk")

    assert [(problem.name, problem.instead) for problem in found.problems] == [(broken, duplicate)]
    assert [blob.path for blob in found.files[0].blobs] == [duplicate]


async def test_nothing_stored_makes_no_files(archive: Archive) -> None:
    assert (await archive.audio_files("user", "talk")).files == ()
