from __future__ import annotations

import contextlib
import struct
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codec.container import Header, packets, read_header, rendition_bytes
from codec.errors import BadBlob


def contained(contents: list[bytes], *, count: int | None = None) -> bytes:
    header = struct.pack("<II", len(contents) if count is None else count, 640)
    return header + b"".join(struct.pack("<H", len(content)) + content for content in contents)


def unpacked(container: bytes) -> list[bytes]:
    return [bytes(packet) for packet in packets(container)]


def test_header_is_two_little_endian_counts() -> None:
    header = read_header(bytes.fromhex("03000000 80070000"))
    assert header == Header(packet_count=3, pcm_bytes=1920)
    assert header.pack() == bytes.fromhex("03000000 80070000")
    assert header.seconds == 0.06


def test_packets_of_hand_made_bytes() -> None:
    assert unpacked(bytes.fromhex("02000000 00000000 0200 abcd 0000")) == [b"\xab\xcd", b""]


def test_bytes_after_the_last_packet_are_ignored() -> None:
    assert unpacked(contained([b"a", b"b"]) + b"rest") == [b"a", b"b"]


@given(st.lists(st.binary(max_size=50), max_size=20))
def test_packets_come_back_in_order(contents: list[bytes]) -> None:
    assert unpacked(contained(contents)) == contents


@pytest.mark.parametrize(
    ("container", "message"),
    [
        (b"", "Opus data too short: 0 bytes (need at least 8 for header)"),
        (bytes(7), "Opus data too short: 7 bytes (need at least 8 for header)"),
        (contained([b"abc"], count=2), "Truncated Opus data: expected packet 1/2 length at offset 13"),
        (contained([b"abc"], count=2) + b"\1", "Truncated Opus data: expected packet 1/2 length at offset 13"),
        (contained([b"abc"])[:-1], "Truncated Opus data: packet 0 needs 3 bytes at offset 10, only 2 available"),
    ],
)
def test_truncation_is_reported_in_the_words_that_operators_search_for(container: bytes, message: str) -> None:
    with pytest.raises(BadBlob) as refused:
        unpacked(container)
    assert str(refused.value) == message


def test_header_that_claims_four_billion_packets_allocates_nothing() -> None:
    container = contained([b"abc"], count=2**32 - 1)
    tracemalloc.start()
    with pytest.raises(BadBlob):
        unpacked(container)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 100_000


@given(st.binary(max_size=100))
def test_arbitrary_bytes_are_unpacked_or_refused(container: bytes) -> None:
    with contextlib.suppress(BadBlob):
        assert len(unpacked(container)) == read_header(container).packet_count


@pytest.mark.parametrize(
    ("samples", "rate", "size"),
    [(16000, 16000, 32000), (8000, 8000, 32000), (48000, 48000, 32000), (1, 48000, 0), (3, 48000, 2), (7, 12000, 18)],
)
def test_rendition_counts_whole_samples_at_16_khz(samples: int, rate: int, size: int) -> None:
    assert rendition_bytes(samples, rate) == size
