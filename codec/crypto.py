"""Encryption at rest: one key per user, and blobs of AES-256-GCM segments.

A segment is a u32 big-endian length of what follows | 12-byte random nonce | ciphertext | 16-byte tag, without
associated data. A blob is one or more segments back to back; its content is their plaintexts, concatenated.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable
from hashlib import sha256
from typing import TYPE_CHECKING

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from codec.arguments import check_types
from codec.errors import BadSecret, DecryptionFailed, NotASecret

if TYPE_CHECKING:
    from collections.abc import Iterator

MIN_SECRET_BYTES = 32
KEY_BYTES = 32
KEY_INFO = b"user-data-encryption"
SEGMENT_LENGTH = struct.Struct(">I")
KEY_ID_DOMAIN = b"audio-batch-worker key id\0"
KEY_ID_DIGITS = 8
NONCE_BYTES = 12
TAG_BYTES = 16


def derive_key(secret: str, uid: str) -> bytes:
    """The user's 32-byte key: HKDF-SHA256 of the secret as typed (UTF-8), with the uid as salt.

    Raises:
        BadSecret: as `check_secret`.
        WrongType: the uid is not text.
    """
    check_secret(secret)
    check_types(str, uid=uid)
    return HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=uid.encode(), info=KEY_INFO).derive(secret.encode())


def check_secret(secret: str) -> None:
    """Make sure that keys can be derived from a secret.

    Raises:
        BadSecret: it has fewer than 32 bytes or is not valid Unicode; `NotASecret` if it is not text.
    """
    if not isinstance(secret, str):
        raise NotASecret(f"an encryption secret is {type(secret).__name__}, not text")
    try:
        size = len(secret.encode())
    except UnicodeEncodeError:
        raise BadSecret("the encryption secret is not valid Unicode") from None
    if size < MIN_SECRET_BYTES:
        raise BadSecret(f"the encryption secret has {size} bytes; it needs at least {MIN_SECRET_BYTES}")


def checked_secrets(secrets: Iterable[str]) -> tuple[str, ...]:
    """The secrets, each of which keys can be derived from.

    Raises:
        BadSecret: one of them has fewer than 32 bytes or is not valid Unicode; `NotASecret` if one is not text, or if
            they are not a list but a single text, each character of which would count as a secret.
    """
    if isinstance(secrets, str | bytes) or not isinstance(secrets, Iterable):
        raise NotASecret(f"secrets is {type(secrets).__name__}: give a list, also of one secret")
    given = tuple(secrets)
    for secret in given:
        check_secret(secret)
    return given


def key_id(secret: str) -> str:
    """8 hex digits that tell secrets apart in a blob's metadata: the start of SHA-256 of KEY_ID_DOMAIN and the secret.

    32 bits of a digest under a domain of its own say nothing useful about a secret that can't be guessed.

    Raises:
        NotASecret: it is not text.
    """
    if not isinstance(secret, str):
        raise NotASecret(f"an encryption secret is {type(secret).__name__}, not text")
    return sha256(KEY_ID_DOMAIN + secret.encode()).hexdigest()[:KEY_ID_DIGITS]


def encrypt(key: bytes, plaintext: bytes) -> bytes:
    """One segment that holds the plaintext, under a fresh random nonce. Raises `WrongType`."""
    check_types(bytes, key=key, plaintext=plaintext)
    nonce = os.urandom(NONCE_BYTES)
    sealed = AESGCM(key).encrypt(nonce, plaintext, None)
    return SEGMENT_LENGTH.pack(len(nonce) + len(sealed)) + nonce + sealed


def decrypt(key: bytes, blob: bytes) -> bytes:
    """The concatenated plaintexts of all segments of a blob.

    Raises:
        DecryptionFailed: any segment is truncated, forged or under another key; nothing is returned then.
        WrongType: an argument is not bytes.
    """
    check_types(bytes, key=key, blob=blob)
    if not blob:
        raise DecryptionFailed("the encrypted blob is empty")
    cipher = AESGCM(key)
    return b"".join(
        _open(cipher, segment, number, offset)
        for number, (offset, segment) in enumerate(_segments(memoryview(blob)), start=1)
    )


def _segments(blob: memoryview) -> Iterator[tuple[int, memoryview]]:
    offset, number = 0, 0
    while offset < len(blob):
        number += 1
        body = offset + SEGMENT_LENGTH.size
        if body > len(blob):
            raise DecryptionFailed(f"segment {number} at offset {offset} is cut off inside its length")
        (size,) = SEGMENT_LENGTH.unpack_from(blob, offset)
        if size < NONCE_BYTES + TAG_BYTES:
            raise DecryptionFailed(f"segment {number} at offset {offset} claims {size} bytes, too few for any")
        if size > len(blob) - body:
            raise DecryptionFailed(
                f"segment {number} at offset {offset} claims {size} bytes, only {len(blob) - body} follow"
            )
        yield offset, blob[body : body + size]
        offset = body + size


def _open(cipher: AESGCM, segment: memoryview, number: int, offset: int) -> bytes:
    try:
        return cipher.decrypt(segment[:NONCE_BYTES], segment[NONCE_BYTES:], None)
    except InvalidTag:
        raise DecryptionFailed(
            f"segment {number} at offset {offset} does not open: another key, or changed bytes"
        ) from None
