from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codec.crypto import NONCE_BYTES, SEGMENT_LENGTH, TAG_BYTES, decrypt, derive_key, encrypt, key_id
from codec.errors import BadSecret, DecryptionFailed

SECRET = "0123456789abcdef0123456789abcdef"
KEY = bytes.fromhex("5ed9c51e47a27c33a199cc2cd079a685d1569bb8b6d45a32a2b81d9fd525aa66")
SEGMENT = bytes.fromhex("00000025000102030405060708090a0bf86958c1c8f33e52ed08aa0c0200389c3e5d7f4b3f10ecdb2c")


def test_key_and_segment_of_the_reader_in_production() -> None:
    assert derive_key(SECRET, "user-1") == KEY
    assert decrypt(KEY, SEGMENT) == b"hello omi"


def test_another_user_has_another_key() -> None:
    with pytest.raises(DecryptionFailed, match="segment 1 at offset 0 does not open"):
        decrypt(derive_key(SECRET, "user-2"), SEGMENT)


@pytest.mark.parametrize("secret", ["", "x" * 31])
def test_short_secret_derives_no_key(secret: str) -> None:
    with pytest.raises(BadSecret, match="at least 32"):
        derive_key(secret, "user-1")


def test_secret_length_is_counted_in_utf8_bytes() -> None:
    assert len(derive_key("ü" * 16, "user-1")) == 32


def test_segment_is_length_nonce_ciphertext_tag() -> None:
    segment = encrypt(KEY, b"12345")
    assert SEGMENT_LENGTH.unpack_from(segment) == (len(segment) - 4,)
    assert len(segment) == 4 + NONCE_BYTES + 5 + TAG_BYTES


def test_equal_content_is_sealed_under_fresh_nonces() -> None:
    assert len({encrypt(KEY, b"same") for _ in range(50)}) == 50


@given(st.lists(st.binary(max_size=200), min_size=1, max_size=5))
def test_segments_join_to_their_contents(contents: list[bytes]) -> None:
    assert decrypt(KEY, b"".join(encrypt(KEY, content) for content in contents)) == b"".join(contents)


def test_empty_blob_is_refused() -> None:
    with pytest.raises(DecryptionFailed, match="empty"):
        decrypt(KEY, b"")


@pytest.mark.parametrize(
    ("blob", "message"),
    [
        (SEGMENT[:3], "segment 1 at offset 0 is cut off"),
        (SEGMENT[:-1], "segment 1 at offset 0 claims 37 bytes, only 36 follow"),
        (SEGMENT + b"\0\0", "segment 2 at offset 41 is cut off"),
        (SEGMENT + bytes(4), "segment 2 at offset 41 claims 0 bytes, too few"),
        (SEGMENT + SEGMENT[:-1] + b"\0", "segment 2 at offset 41 does not open"),
        (b"\xff\xff\xff\xff", "claims 4294967295 bytes, only 0 follow"),
    ],
)
def test_fault_names_segment_and_offset(blob: bytes, message: str) -> None:
    with pytest.raises(DecryptionFailed, match=message):
        decrypt(KEY, blob)


def test_every_changed_byte_of_a_segment_is_noticed() -> None:
    for position in range(len(SEGMENT)):
        changed = bytearray(SEGMENT)
        changed[position] ^= 1
        with pytest.raises(DecryptionFailed):
            decrypt(KEY, bytes(changed))


@given(st.binary(max_size=300))
def test_arbitrary_bytes_are_refused_and_nothing_worse(blob: bytes) -> None:
    with pytest.raises(DecryptionFailed):
        decrypt(KEY, blob)


def test_key_id_is_eight_digits_of_a_digest_in_a_domain_of_its_own() -> None:
    secret = "0123456789abcdef0123456789abcdef"

    expected = hashlib.sha256(b"audio-batch-worker key id\0" + secret.encode()).hexdigest()[:8]

    assert key_id(secret) == expected
    assert key_id(secret + "x") != expected
