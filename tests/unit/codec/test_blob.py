from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given
from hypothesis import strategies as st

from codec.blob import decode, open_content, seal_content
from codec.crypto import derive_key
from codec.errors import BadBlob, BadName, CodecError, DecryptionFailed
from codec.metadata import BlobMetadata
from codec.names import Kind, object_name
from codec.opus import Encoder
from tests.support.second_decoder import plainly_decode
from tests.support.speech import speech, speech_array

if TYPE_CHECKING:
    from collections.abc import Mapping

SECRET = "0123456789abcdef0123456789abcdef"
KEY = bytes.fromhex("5ed9c51e47a27c33a199cc2cd079a685d1569bb8b6d45a32a2b81d9fd525aa66")
FOLDER = "chunks/user-1/c/"
HELLO = bytes.fromhex("00000025000102030405060708090a0bf86958c1c8f33e52ed08aa0c0200389c3e5d7f4b3f10ecdb2c")
# Three 20 ms packets of hand-made bytes: an empty one, one with nothing but its first byte, one of two bytes
THREE_PACKETS = bytes.fromhex("03000000 6c070000 0000 0100 08 0200 0800")


def hand_sealed(content: bytes, nonce: bytes = bytes(12)) -> bytes:
    body = nonce + AESGCM(KEY).encrypt(nonce, content, None)
    return len(body).to_bytes(4, "big") + body


def written(pcm: bytes, rate: int, uid: str) -> tuple[bytes, dict[str, str]]:
    encoder = Encoder(rate, complexity=7)
    encoder.encode(pcm)
    facts = BlobMetadata(codec="opus", sample_rate=rate, samples=encoder.samples, pre_skip=encoder.pre_skip)
    return seal_content(encoder.finish(), derive_key(SECRET, uid)), facts.to_mapping()


def test_independent_decoder_reads_a_default_blob() -> None:
    source = speech_array(3.0)
    blob, metadata = written(source.tobytes(), 16000, "ü")
    heard = plainly_decode(blob, "ü", SECRET)
    name = object_name("ü", "c", 1000.0, kind=Kind.OPUS_ENCRYPTED)
    ours = decode(blob, name, metadata, secrets=[SECRET])
    assert len(heard) == 2 * len(source)
    assert heard[208:] == ours.pcm[:-208]  # it hears the look-ahead of 104 samples first
    assert np.corrcoef(np.frombuffer(ours.pcm, "<i2"), source)[0, 1] > 0.85


@pytest.mark.parametrize("rate", [8000, 12000, 24000, 48000])
def test_independent_decoder_hears_other_rates_at_the_right_speed(rate: int) -> None:
    blob, _ = written(speech(1.0, rate), rate, "u")
    assert len(plainly_decode(blob, "u", SECRET)) == 32000


@pytest.mark.parametrize(
    ("file", "data", "metadata", "pcm"),
    [
        ("7.000.bin", b"\1\2\3\4", {}, b"\1\2\3\4"),
        ("7.000.enc", HELLO, {}, b"hello om"),
        ("7.000.batch.bin", b"\1\2\3\4\5", {}, b"\1\2\3\4"),
        ("7.000-9.000.batch.bin", b"\1\2\3\4", {"codec": "pcm"}, b"\1\2\3\4"),
        ("7.000-9.000.batch.enc", hand_sealed(b"ab") + hand_sealed(b"cd", bytes(11) + b"\1"), {}, b"abcd"),
        ("7.000.opus", THREE_PACKETS, {}, bytes(0x76C)),
        ("7.000.opus.enc", hand_sealed(THREE_PACKETS), {}, bytes(0x76C)),
        ("7.000.opus.enc", hand_sealed(THREE_PACKETS[:9]) + hand_sealed(THREE_PACKETS[9:]), {}, bytes(0x76C)),
        ("7.000-9.000.batch.bin", THREE_PACKETS, {"codec": "opus"}, bytes(0x76C)),
        ("7.000-9.000.batch.enc", hand_sealed(THREE_PACKETS), {"codec": "opus"}, bytes(0x76C)),
        ("7.000.opus", bytes(8), {}, b""),
        ("7.000.bin", b"", {}, b""),
    ],
)
def test_hand_made_bytes_of_every_extension(file: str, data: bytes, metadata: dict[str, str], pcm: bytes) -> None:
    audio = decode(data, FOLDER + file, metadata, secrets=[SECRET])
    assert (audio.pcm, audio.sample_rate) == (pcm, 16000)


@pytest.mark.parametrize("rate", [8000, 48000])
def test_opus_with_metadata_comes_back_at_its_own_rate_and_length(rate: int) -> None:
    blob, metadata = written(speech(0.777, rate), rate, "u")
    audio = decode(blob, "chunks/u/c/7.000.opus.enc", metadata, secrets=[SECRET])
    assert (audio.sample_rate, audio.samples) == (rate, int(0.777 * rate))
    assert audio.duration == pytest.approx(0.777)


def test_opus_with_senseless_metadata_comes_back_at_16_khz() -> None:
    blob, metadata = written(speech(0.5, 8000), 8000, "u")
    for sense in ("44100", "fast", "-1", ""):
        damaged = metadata | {"sample-rate": sense}
        audio = decode(blob, "chunks/u/c/7.000.opus.enc", damaged, secrets=[SECRET])
        assert (audio.sample_rate, audio.samples) == (16000, 8000)


def test_pcm_takes_its_rate_from_the_metadata() -> None:
    assert decode(b"abcd", FOLDER + "7.000.bin", {"sample-rate": "8000"}, secrets=[]).sample_rate == 8000
    assert decode(b"abcd", FOLDER + "7.000.bin", None, secrets=[]).sample_rate == 16000


def test_each_secret_is_tried_so_that_old_blobs_stay_readable_after_a_rotation() -> None:
    secrets = ["a newer secret of at least 32 bytes", SECRET]
    assert open_content(HELLO, FOLDER + "7.000.enc", secrets=secrets) == b"hello omi"


@pytest.mark.parametrize("secrets", [[], ["another secret of at least 32 bytes"]])
def test_blob_that_no_secret_opens_is_refused_by_name(secrets: list[str]) -> None:
    with pytest.raises(DecryptionFailed, match=r"^chunks/user-1/c/7\.000\.enc"):
        decode(HELLO, FOLDER + "7.000.enc", None, secrets=secrets)


def test_blob_of_another_user_does_not_open() -> None:
    with pytest.raises(DecryptionFailed):
        decode(HELLO, "chunks/user-2/c/7.000.enc", None, secrets=[SECRET])


def test_no_changed_byte_of_an_encrypted_blob_gets_through() -> None:
    blob = hand_sealed(THREE_PACKETS)
    for position in range(len(blob)):
        changed = bytearray(blob)
        changed[position] ^= 0x40
        with pytest.raises(DecryptionFailed):
            decode(bytes(changed), FOLDER + "7.000.opus.enc", None, secrets=[SECRET])


def test_truncated_opus_is_refused_by_name_in_the_words_that_operators_search_for() -> None:
    with pytest.raises(
        BadBlob, match=r"7\.000\.opus: Truncated Opus data: packet 2 needs 2 bytes at offset 15, only 1"
    ):
        decode(THREE_PACKETS[:-1], FOLDER + "7.000.opus", None, secrets=[])
    with pytest.raises(BadBlob, match=r"7\.000\.opus: Opus data too short: 3 bytes"):
        decode(b"abc", FOLDER + "7.000.opus", None, secrets=[])


def test_name_of_no_blob_is_refused() -> None:
    with pytest.raises(BadName):
        decode(b"", "chunks/u/c/7.000.txt", None, secrets=[])


def test_content_is_sealed_only_with_a_key() -> None:
    assert seal_content(b"content", None) == b"content"
    assert open_content(seal_content(b"content", KEY), FOLDER + "7.000.enc", secrets=[SECRET]) == b"content"


METADATA = st.dictionaries(
    st.sampled_from(["codec", "sample-rate", "samples", "pre-skip"]),
    st.sampled_from(["opus", "pcm", "0", "1", "104", "8000", "16000", "44100", "999999999999999", "-1", ""]),
)


@pytest.mark.slow
@given(st.sampled_from(Kind), st.binary(max_size=120) | st.just(THREE_PACKETS), METADATA, st.booleans())
def test_hostile_blobs_are_decoded_or_refused(
    kind: Kind, content: bytes, metadata: Mapping[str, str], sealed: bool
) -> None:
    data = hand_sealed(content) if sealed else content
    try:
        audio = decode(data, f"{FOLDER}7.000{kind.extension}", metadata, secrets=[SECRET])
    except CodecError:
        return
    assert len(audio.pcm) % 2 == 0
