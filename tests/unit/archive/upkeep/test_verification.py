"""Reading everything back: damage of every sort is found, and an interrupted run goes on where it ended."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from codec.container import HEADER
from tests.support.gcs.server import GcsServer
from tests.support.speech import speech
from tests.support.stored_blobs import EXTENSIONS, T0, ConversationFolder, opus_content
from worker.archive import Archive
from worker.archive.upkeep import verification_report
from worker.archive.upkeep.continuity import Continuity, Discontinuity
from worker.errors import StoreError, WorkerError
from worker.stores import open_store
from worker.stores.base import Store
from worker.stores.tree import Tree

SECOND = speech(1)
OPUS, FACTS = opus_content(SECOND)


async def reasons(archive: Archive, uid: str | None = "user") -> dict[str, str | None]:
    return {verdict.name.rpartition("/")[2]: verdict.reason async for verdict in archive.verify(uid)}


async def write(archive: Archive, report: Path) -> None:
    with verification_report.appending(report) as note:
        async for verdict in archive.verify("user"):
            note(verdict)


async def test_all_six_kinds_are_sound(archive: Archive, folder: ConversationFolder) -> None:
    for number, extension in enumerate(EXTENSIONS):
        await folder.put(extension, T0 + number, SECOND, described=True)

    assert list((await reasons(archive)).values()) == [None] * 6


@pytest.mark.slow
@pytest.mark.parametrize(
    ("file", "content", "metadata", "reason"),
    [
        ("1.000.opus", OPUS + b"xx", {}, "2 bytes follow its last packet"),
        ("1.000.opus", OPUS[:-1], {}, "Truncated Opus data: packet 50 needs"),
        (
            "1.000.opus",
            HEADER.pack(*HEADER.unpack_from(OPUS[:8])[:1], 99) + OPUS[8:],
            FACTS.to_mapping(),
            "header says 99",
        ),
        ("1.000.opus", OPUS, FACTS.to_mapping() | {"samples": "99999"}, "metadata says 99999 samples, it holds"),
        ("1.000.bin", SECOND, {"samples": "7", "sample-rate": "16000"}, "metadata says 7 samples, it holds 16000"),
        ("1.000.bin", SECOND + b"x", {}, "ends inside a sample"),
        ("1.000.enc", SECOND, {}, "segment 1 at offset 0"),
        ("readme.txt", b"x", {}, "no blob"),
    ],
)
async def test_damage_is_found(
    archive: Archive, folder: ConversationFolder, file: str, content: bytes, metadata: dict[str, str], reason: str
) -> None:
    await folder.put_bytes(file, content, metadata)
    await folder.put(".bin", T0, SECOND)

    found = await reasons(archive)

    assert reason in (found.pop(file) or "")
    assert list(found.values()) == [None]


async def test_header_that_counts_half_a_sample_is_sound(archive: Archive, folder: ConversationFolder) -> None:
    count, size = HEADER.unpack_from(OPUS)
    await folder.put_bytes("1.000.opus", HEADER.pack(count, size + 1) + OPUS[HEADER.size :])

    assert await reasons(archive) == {"1.000.opus": None}


async def test_the_whole_store_or_a_user_or_a_conversation_is_verified(archive: Archive, store: Store) -> None:
    for uid, conversation in (("a", "one"), ("a", "two"), ("ab", "one")):
        await ConversationFolder(store, uid, conversation).put(".bin", T0, SECOND)

    assert len([verdict async for verdict in archive.verify()]) == 3
    assert len([verdict async for verdict in archive.verify("a")]) == 2
    assert len([verdict async for verdict in archive.verify("a", "two")]) == 1


async def test_an_interrupted_run_goes_on_where_it_ended(gcs: Store, gcs_server: GcsServer, tmp_path: Path) -> None:
    folder, archive, report = ConversationFolder(gcs), Archive(gcs), tmp_path / "report.jsonl"
    for number in range(4):
        await folder.put(".bin", T0 + number, SECOND)
    await folder.put_bytes(f"{T0 + 0.5:.3f}.opus", b"123")
    gcs_server.fail("download", status=503, name="*3.000.bin", times=99)
    with pytest.raises(StoreError):
        await write(archive, report)
    gcs_server.script.clear()
    gcs_server.requests.clear()

    known = verification_report.intact(report)
    verdicts = [verdict async for verdict in archive.verify("user", known=known)]

    assert len(known) == 3
    assert [verdict.known for verdict in verdicts] == [True, False, True, True, False]
    assert sum(verdict.seconds for verdict in verdicts) == 4.0
    assert gcs_server.count("download") == 2


async def test_an_object_that_changed_since_is_verified_again(
    archive: Archive, folder: ConversationFolder, tmp_path: Path
) -> None:
    name = await folder.put(".bin", T0, SECOND)
    await write(archive, tmp_path / "report")
    await folder.store.delete(name)
    await folder.put_bytes(name.rpartition("/")[2], SECOND[:-1])

    known = verification_report.intact(tmp_path / "report")

    assert [verdict.reason async for verdict in archive.verify("user", known=known)] == ["it ends inside a sample"]


async def test_blob_without_a_checksum_is_read_again(tmp_path: Path) -> None:
    blob = tmp_path / "store/chunks/user/talk/1000.000.opus"
    blob.parent.mkdir(parents=True)
    blob.write_bytes(OPUS)
    store = open_store(f"file://{tmp_path}/store")
    archive, report = Archive(store), tmp_path / "report"
    await write(archive, report)
    blob.write_bytes(bytes(len(OPUS)))

    (verdict,) = [verdict async for verdict in archive.verify("user", known=verification_report.intact(report))]

    assert (verdict.known, verdict.reason is None) == (False, False)
    await store.close()


def test_a_report_that_a_killed_run_left_is_taken_up(tmp_path: Path) -> None:
    report = tmp_path / "report"
    line = json.dumps({"name": "chunks/a", "size": 1, "crc32c": 2, "seconds": 1.0, "reason": None})
    report.write_text(line + "\n" + line[:20])

    assert len(verification_report.intact(report)) == 1
    with verification_report.appending(report):
        pass
    assert report.read_text() == line + "\n"


@pytest.mark.parametrize("content", ["{}\nnotes}\n", "notes", "notes\n", "\n", '{"a": 1}', '{"name": "package"}'])
def test_another_file_is_not_taken_for_a_report(tmp_path: Path, content: str) -> None:
    (tmp_path / "notes").write_text(content)

    with pytest.raises(WorkerError, match="is not a report of a verification"):
        verification_report.intact(tmp_path / "notes")


def test_gaps_and_overlaps_between_blobs_are_told_per_conversation() -> None:
    continuity = Continuity()
    objects = [
        ("a/1000.000.bin", 60),
        ("a/1000.000.opus", 60),
        ("a/1061.500.bin", 60),
        ("a/1200.000.bin", 60),
        ("a/1230.000.bin", 60),
        ("a/999.000.bin", 1),
        ("b/5000.000.bin", 60),
    ]

    discontinuities = [
        discontinuity for name, seconds in objects for discontinuity in continuity.add(f"chunks/u/{name}", seconds)
    ]

    assert discontinuities == [
        Discontinuity("chunks/u/a/1200.000.bin", 78.5, 1121.5),
        Discontinuity("chunks/u/a/1230.000.bin", -30, 1260),
    ]
    assert continuity.finish() == []


@pytest.mark.parametrize(
    ("metadata", "discontinuities"),
    [
        ({}, []),  # nothing tells how long it is
        ({"samples": "160000", "sample-rate": "16000"}, []),
        ({"samples": "80000", "sample-rate": "16000"}, [(T0 + 20, 5.0)]),
    ],
)
async def test_a_blob_that_can_not_be_read_is_no_gap(
    archive: Archive, folder: ConversationFolder, metadata: dict[str, str], discontinuities: list[tuple[float, float]]
) -> None:
    await folder.put(".bin", T0, speech(10))
    await folder.put_bytes(f"{T0 + 10:.3f}.opus", b"12345", metadata)
    await folder.put(".bin", T0 + 20, speech(10))

    continuity = Continuity()
    found = [
        each
        async for verdict in archive.verify("user")
        for each in continuity.add(verdict.name, verdict.extent, readable=verdict.readable)
    ]

    assert [(float(each.name[-18:-4]), each.seconds) for each in [*found, *continuity.finish()]] == discontinuities


async def test_name_and_metadata_of_a_blob_that_can_not_be_read_make_no_gap(
    archive: Archive, folder: ConversationFolder
) -> None:
    await folder.put(".bin", T0, speech(10))
    await folder.put(".bin", T0 + 10, speech(10))
    years = {"samples": str(10**13), "sample-rate": "16000"}
    await folder.put_bytes(f"{T0 + 5:.3f}.opus", b"12345", years)  # which would overlap all that follows
    await folder.put_bytes(f"{T0 + 9**9:.3f}.opus", b"12345")  # which would be years after all others

    continuity = Continuity()
    async for verdict in archive.verify("user"):
        assert continuity.add(verdict.name, verdict.extent, readable=verdict.readable) == []
    assert continuity.finish() == []


async def test_object_larger_than_any_blob_is_not_read(
    local_folder: ConversationFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    large = await local_folder.put(".bin", T0, SECOND)
    fine = await local_folder.put(".bin", T0 + 1, SECOND)
    os.truncate(tmp_path / "store" / large, 3 * 1024**3)
    monkeypatch.setattr(Tree, "read", _refusing(large, Tree.read))
    archive = Archive(local_folder.store)

    verdicts = {verdict.name: verdict.reason async for verdict in archive.verify()}
    download = await archive.download("user", "talk")
    pcm = await download.pcm()
    copied = await archive.copy("user", ["talk"], "other")

    reason = "it has 3,221,225,472 bytes, more than any blob: it is not read"
    assert verdicts == {large: reason, fine: None}
    assert ([problem.reason for problem in download.report.problems], pcm) == ([reason], SECOND)
    assert [(problem.name, problem.reason) for problem in copied.problems] == [(large, reason)]


def _refusing(name: str, read: Callable[[Tree, str], bytes | None]) -> Callable[[Tree, str], bytes | None]:
    def checked(tree: Tree, asked: str) -> bytes | None:
        assert asked != name
        return read(tree, asked)

    return checked
