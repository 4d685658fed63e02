"""What can't be read is skipped and named; nothing wrong is ever heard, and nothing runs away."""

from __future__ import annotations

import tracemalloc
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from codec.blob import decode
from codec.container import HEADER, PACKET_LENGTH
from codec.errors import BadBlob
from codec.names import Kind
from tests.support.gcs.server import GcsServer
from tests.support.secret import TEST_SECRET
from tests.support.speech import speech
from tests.support.stored_blobs import OLD_SECRET, T0, ConversationFolder, key_of, noise, opus_content
from worker.archive import Archive
from worker.archive.blobs.alternatives import group_alternatives
from worker.archive.blobs.listing import sort_out
from worker.archive.playback.selection import Selection, select
from worker.stores.base import BlobInfo, Store

SECOND = speech(1)
OPUS, _ = opus_content(SECOND)
NAMES = [f"chunks/user/talk/1000.000{kind.extension}" for kind in Kind]


async def test_a_damaged_blob_is_named_and_the_rest_is_heard(archive: Archive, folder: ConversationFolder) -> None:
    await folder.put(".bin", T0, SECOND)
    short = await folder.put_bytes(f"{T0 + 1:.3f}.opus", OPUS[:5])
    cut_off = await folder.put_bytes(f"{T0 + 2:.3f}.opus.enc", folder.sealed(OPUS[:-10]))
    await folder.put(".bin", T0 + 3, SECOND)

    download = await archive.download("user", "talk")

    assert await download.pcm() == SECOND + SECOND
    first, second = download.report.problems
    assert (first.name, first.instead) == (short, None)
    assert first.reason == "Opus data too short: 5 bytes (need at least 8 for header)"
    assert second.name == cut_off
    assert second.reason.startswith("Truncated Opus data: packet ")


async def test_another_format_of_the_same_start_takes_its_place(archive: Archive, folder: ConversationFolder) -> None:
    broken = await folder.put_bytes(f"{T0:.3f}.opus.enc", b"rubbish")
    spare = await folder.put(".bin", T0, SECOND)

    download = await archive.download("user", "talk")

    assert await download.pcm() == SECOND
    assert [(problem.name, problem.instead) for problem in download.report.problems] == [(broken, spare)]
    assert not download.report.complete


async def test_singles_take_the_place_of_a_damaged_range(archive: Archive, folder: ConversationFolder) -> None:
    await folder.put_bytes(f"{T0:.3f}-{T0 + 1:.3f}.batch.enc", b"rubbish" * 10_000)
    await folder.put(".enc", T0, SECOND)
    await folder.put(".enc", T0 + 1, speech(1, offset=1))

    download = await archive.download("user", "talk")

    assert await download.pcm() == SECOND + speech(1, offset=1)
    assert len(download.report.problems) == 1


HUM = (3000 * np.sin(np.arange(20 * 16000) * 2 * np.pi * 50 / 16000)).astype("<i2").tobytes()


@pytest.mark.slow
@pytest.mark.parametrize(
    "audio", [HUM, bytes(640_000), noise(20), speech(20)], ids=["hum", "silence", "noise", "speech"]
)
async def test_singles_of_a_damaged_range_are_all_heard_whatever_they_sound_like(
    archive: Archive, folder: ConversationFolder, audio: bytes
) -> None:
    await folder.put_bytes(f"{T0:.3f}-{T0 + 15:.3f}.batch.enc", folder.sealed(audio)[:-3])
    for number in range(4):
        await folder.put(".enc", T0 + 5 * number, audio[number * 160_000 : (number + 1) * 160_000])

    assert await folder.pcm(archive) == audio


@pytest.mark.parametrize("extension", [".enc", ".opus.enc", ".batch.enc"])
async def test_nothing_is_heard_under_a_wrong_key(store: Store, folder: ConversationFolder, extension: str) -> None:
    await folder.put(extension, T0, SECOND, described=True, more=key_of(TEST_SECRET))

    download = await Archive(store, [OLD_SECRET]).download("user", "talk")

    assert await download.pcm() == b""
    assert "does not open: another key, or changed bytes" in download.report.problems[0].reason
    assert "is not among those given" in download.report.problems[0].reason


async def test_a_former_secret_opens_what_was_written_under_it(archive: Archive, store: Store) -> None:
    old = ConversationFolder(store, secret=OLD_SECRET)
    await old.put(".enc", T0, SECOND)
    await ConversationFolder(store).put(".enc", T0 + 1, SECOND)

    assert await old.pcm(archive) == SECOND + SECOND


@given(data=st.data())
def test_any_changed_byte_of_an_encrypted_blob_is_noticed(data: st.DataObject) -> None:
    sealed = bytearray(ConversationFolder(store=None).sealed(b"\1\2" * 50, pieces=3))  # type: ignore[arg-type]
    position = data.draw(st.integers(0, len(sealed) - 1))
    sealed[position] ^= data.draw(st.integers(1, 255))

    with pytest.raises(BadBlob):
        decode(bytes(sealed), "chunks/user/talk/1.000.batch.enc", None, secrets=[TEST_SECRET])


async def test_bytes_changed_in_the_store_are_noticed(gcs: Store, gcs_server: GcsServer) -> None:
    folder = ConversationFolder(gcs)
    name = await folder.put(".bin", T0, SECOND)
    gcs_server.fail("download", "corrupt", times=99)

    download = await Archive(gcs).download("user", "talk")

    assert await download.pcm() == b""
    assert download.report.problems[0].name == name
    assert "CRC32C" in download.report.problems[0].reason


async def test_bytes_changed_on_their_way_are_read_again(gcs: Store, gcs_server: GcsServer) -> None:
    folder = ConversationFolder(gcs)
    await folder.put(".bin", T0, SECOND)
    gcs_server.fail("download", "corrupt")

    assert await folder.pcm(Archive(gcs)) == SECOND


@st.composite
def hostile(draw: st.DrawFn) -> bytes:
    """A real blob that was damaged, a container that lies about itself, or anything."""
    mutated = bytearray(draw(st.sampled_from([OPUS, SECOND, ConversationFolder(store=None).sealed(OPUS)])))  # type: ignore[arg-type]
    for _ in range(draw(st.integers(0, 4))):
        mutated[draw(st.integers(0, len(mutated) - 1))] = draw(st.integers(0, 255))
    packets = draw(st.lists(st.binary(max_size=40), max_size=20))
    header = HEADER.pack(draw(st.integers(0, 2**32 - 1)), draw(st.integers(0, 2**32 - 1)))
    lying = header + b"".join(PACKET_LENGTH.pack(len(packet)) + packet for packet in packets)
    return draw(st.one_of(st.just(bytes(mutated[: draw(st.integers(0, len(mutated)))])), st.just(lying), st.binary()))


@pytest.mark.slow
@settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(
    blob=hostile(),
    name=st.sampled_from(NAMES),
    metadata=st.dictionaries(
        st.sampled_from(["codec", "sample-rate", "samples", "pre-skip", "v2_samples"]),
        st.one_of(st.text(max_size=5), st.sampled_from(["opus", "pcm", "8000", "48000", "192000", "999999999999"])),
    ),
)
def test_hostile_bytes_are_decoded_or_refused(blob: bytes, name: str, metadata: dict[str, str]) -> None:
    with suppress(BadBlob):
        assert len(decode(blob, name, metadata, secrets=[TEST_SECRET]).pcm) % 2 == 0


@pytest.mark.parametrize("header", [HEADER.pack(2**32 - 1, 2**32 - 1), HEADER.pack(2**32 - 1, 0)])
def test_a_header_that_claims_billions_of_packets_allocates_nothing(header: bytes) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(BadBlob, match="Truncated Opus data"):
            decode(header + b"\2\0\0\0", NAMES[2], {"samples": "999999999999", "sample-rate": "48000"}, secrets=[])
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


TIMES = st.one_of(st.integers(0, 30).map(float), st.floats(0, 1e12, exclude_max=True))
FILES = st.one_of(
    st.builds(lambda start, kind: f"{start:.3f}{kind.extension}", TIMES, st.sampled_from(Kind)),
    st.builds(lambda a, b: f"{a:.3f}-{b:.3f}.batch.bin", TIMES, TIMES),
    st.text(max_size=30),
)
INFOS = st.builds(
    BlobInfo,
    FILES.map(lambda file: f"chunks/user/talk/{file}"),
    st.integers(0, 2**40),
    st.dictionaries(
        st.sampled_from(["codec", "sample-rate", "samples", "first-entry", "last-entry", "start"]),
        st.one_of(st.text(max_size=8), st.sampled_from(["opus", "1-0", "2-0", "16000"])),
    ),
    st.one_of(st.none(), st.integers(0, 3)),
)


@pytest.mark.slow
@given(st.lists(INFOS, max_size=12), TIMES, TIMES)
def test_hostile_listings_lose_no_blob_and_break_nothing(found: list[BlobInfo], first: float, second: float) -> None:
    listing = sort_out(found)
    put_together = group_alternatives(listing.blobs)

    assert len(listing.blobs) + len(listing.unknown) == len(found)
    assert sum(len(source.alternatives) for source in put_together) == len(listing.blobs)
    selected = select(put_together, Selection(min(first, second), max(first, second) + 1, [first, second]))
    assert len(selected.sources) <= len(put_together)
