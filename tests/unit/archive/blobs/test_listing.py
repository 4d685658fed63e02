"""What is listed: every kind ever written, in time order, with what names, sizes and metadata tell."""

from __future__ import annotations

import pytest

from codec.errors import BadName
from tests.support.gcs.server import GcsServer
from tests.support.speech import speech
from tests.support.stored_blobs import EXTENSIONS, T0, ConversationFolder
from worker.archive import Archive
from worker.archive.blobs import retrying
from worker.archive.blobs.listing import Blob
from worker.stores.base import BlobInfo, Store

SECOND = speech(1)


async def test_all_six_kinds_are_listed_in_time_order(archive: Archive, folder: ConversationFolder) -> None:
    for number, extension in enumerate(EXTENSIONS):
        await folder.put(extension, T0 - number, SECOND)

    listing = await archive.list("user", "talk")

    assert [blob.name.kind.extension for blob in listing.blobs] == list(reversed(EXTENSIONS))
    assert [blob.codec for blob in listing.blobs] == ["pcm", "pcm", "opus", "opus", "pcm", "pcm"]
    assert listing.unknown == ()


async def test_time_order_is_not_name_order(archive: Archive, folder: ConversationFolder) -> None:
    await folder.put(".bin", 10_000.0, SECOND)
    await folder.put(".bin", 9_999.0, SECOND)

    assert [blob.start for blob in (await archive.list("user", "talk")).blobs] == [9_999.0, 10_000.0]


async def test_lengths_come_from_metadata_or_from_the_size_of_pcm(archive: Archive, folder: ConversationFolder) -> None:
    await folder.put(".bin", T0, SECOND + b"\0")
    await folder.put(".enc", T0 + 1, SECOND)
    await folder.put(".enc", T0 + 2, speech(1, 8000), rate=8000, described=True)
    await folder.put(".opus.enc", T0 + 3, SECOND, described=True)
    await folder.put(".batch.enc", T0 + 4, speech(4), pieces=4, end=T0 + 7)
    await folder.put(".opus", T0 + 9, SECOND)

    blobs = (await archive.list("user", "talk")).blobs

    assert [blob.samples for blob in blobs] == [16000, 16000, 8000, 16000, None, None]
    assert [blob.duration for blob in blobs[:4]] == [1.0, 1.0, 1.0, 1.0]
    assert blobs[4].duration == pytest.approx(4, abs=0.01)
    assert blobs[5].duration is None
    assert blobs[4].name.end == T0 + 7


async def test_other_objects_are_reported_and_not_fatal(archive: Archive, folder: ConversationFolder) -> None:
    await folder.put(".bin", T0, SECOND)
    for file in ("notes.txt", "1.000.BIN", "abc.opus", "5.000-6.000.bin", "9.000-8.000.batch.enc", "sub/1.000.bin"):
        await folder.put_bytes(file, b"x")

    listing = await archive.list("user", "talk")

    assert [blob.start for blob in listing.blobs] == [T0]
    assert len(listing.unknown) == 6
    assert all(other.reason for other in listing.unknown)


async def test_a_user_is_not_another_whose_id_begins_alike(archive: Archive, store: Store) -> None:
    await ConversationFolder(store, "abc", "one").put(".bin", T0, SECOND)
    await ConversationFolder(store, "abc", "two").put(".bin", T0, SECOND)
    await ConversationFolder(store, "abcd", "one").put(".bin", T0, SECOND)

    listing = await archive.list("abc")

    assert [blob.name.conversation_id for blob in listing.blobs] == ["one", "two"]


@pytest.mark.parametrize("uid", ["", "..", "a/b"])
async def test_an_id_that_no_name_can_hold_is_refused(archive: Archive, uid: str) -> None:
    with pytest.raises(BadName):
        await archive.list(uid)


async def test_one_request_lists_a_thousand_blobs_with_their_metadata(gcs: Store, gcs_server: GcsServer) -> None:
    folder = ConversationFolder(gcs)
    for number in range(5):
        await folder.put(".bin", T0 + number, SECOND, described=True)
    gcs_server.requests.clear()

    listing = await Archive(gcs).list("user", "talk")

    assert [blob.facts.samples for blob in listing.blobs] == [16000] * 5
    assert gcs_server.count("*") == 1


async def test_an_outage_that_passes_is_waited_for(gcs: Store, gcs_server: GcsServer) -> None:
    await ConversationFolder(gcs).put(".bin", T0, SECOND)
    gcs_server.fail("list", status=503)

    assert len((await Archive(gcs).list("user", "talk")).blobs) == 1


@pytest.mark.parametrize("first", [0, 1, 3])
async def test_a_long_listing_goes_on_where_it_broke_off(
    gcs: Store, gcs_server: GcsServer, monkeypatch: pytest.MonkeyPatch, first: int
) -> None:
    monkeypatch.setattr(retrying, "PAGE", 2)
    gcs_server.api.max_page = 2
    folder = ConversationFolder(gcs)
    for number in range(7):
        await folder.put(".bin", T0 + number, SECOND)

    found: list[str] = []
    async for verdict in Archive(gcs).verify("user"):
        found.append(verdict.name)
        if len(found) == first * 2 + 1:
            gcs_server.fail("list", status=503, times=3)
    assert found == folder.names


async def test_a_deletion_waits_for_a_store_that_can_not_be_listed(gcs: Store, gcs_server: GcsServer) -> None:
    await ConversationFolder(gcs).put(".bin", T0, SECOND)
    gcs_server.fail("list", status=503, times=2)

    assert len((await Archive(gcs).delete("user", tombstones=None)).names) == 1


@pytest.mark.parametrize(
    ("extension", "size", "said", "samples"),
    [
        (".opus", 4000, 16000, 16000),
        (".opus", 4000, 10**15 - 1, None),  # each packet has two bytes of length, and 20 ms
        (".opus.enc", 4000, 10**9, None),
        (".bin", 4000, 10**9, 2000),
        (".batch.enc", 4000, 10**9, None),
        (".batch.enc", 4000, 1500, 1500),
    ],
)
def test_length_that_does_not_fit_the_size_is_not_believed(
    extension: str, size: int, said: int, samples: int | None
) -> None:
    metadata = {"samples": str(said), "sample-rate": "16000"}
    blob = Blob.of(BlobInfo(f"chunks/u/c/1.000{extension}", size, metadata))

    assert blob.samples == samples
    assert blob.ends_by <= 1 + 3600


SPAN = {"v2_start": "1700000000.1234567", "v2_samples": "2000", "v2_sample_rate": "16000"}


@pytest.mark.parametrize(
    ("changes", "start"),
    [
        ({}, 1700000000.1234567),
        ({"v2_start": "1700000000.123"}, 1700000000.123),
        ({"v2_start": "1700000000"}, None),  # not the time of its name: it is a copy that got another one
        ({"v2_start": "1.7e9"}, None),
        ({"v2_start": "nan"}, None),
        ({"v2_start": "-1"}, None),
        ({"v2_samples": "0"}, None),
        ({"v2_samples": "1999"}, None),  # not the length of its bytes
        ({"v2_samples": "two"}, None),
        ({"v2_sample_rate": "0"}, None),
        ({"v2_sample_rate": None}, None),
        ({"v2_samples": None}, None),
        ({"v2_start": None}, None),
    ],
)
def test_span_of_the_newest_writers_is_believed_if_all_of_it_fits(
    changes: dict[str, str | None], start: float | None
) -> None:
    metadata = {key: value for key, value in (SPAN | changes).items() if value is not None}

    assert Blob.of(BlobInfo("chunks/u/c/1700000000.123.bin", 4000, metadata)).exact_start == start


async def test_users_are_listed_without_their_objects(gcs: Store, gcs_server: GcsServer) -> None:
    gcs_server.api.max_page = 2
    for uid in "cab":
        for number in range(5):
            await ConversationFolder(gcs, uid).put(".bin", T0 + number, b"ab")
    await gcs.create("audio/other/x", b"", {})
    gcs_server.requests.clear()
    gcs_server.fail("list", status=503)

    users = [user async for user in Archive(gcs).users()]

    assert users == ["a", "b", "c"]
    assert gcs_server.count("list") == 3  # one of which failed
