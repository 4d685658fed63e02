"""A blob's manifest: which chunks of which stream it holds, authenticated with the user's key.

Stored audio is recognised by manifests alone. Names and ranges of entry ids prove nothing: ids are clock readings of
one stream, and other streams have the same ones.

The manifest is part of a blob's custom metadata:

    stream             32 hex digits, the random id of the stream that the chunks were pushed to
    chunks-digest      32 hex digits, BLAKE2b-128 of the identities of all chunks, concatenated in their order
    chunk-ids          Base64 of the concatenated identities, 8 bytes each; left out above MAX_LISTED chunks
    chunks             their number
    upload             16 hex digits, random, of the upload that made the object
    stored-bytes       size of the object
    stored-crc32c      CRC32C of the object, decimal
    manifest-mac       32 hex digits, HMAC-SHA256 cut to 128 bits

The key of the MAC is HKDF-SHA256 of ENCRYPTION_SECRET, salt uid, info "audio-batch-worker manifest". The message is the
values above with the uid and the conversation id before them, and `seqs` and `ends` of the metadata after them, each as
its length in bytes, ":" and its UTF-8 text. So a manifest that is copied to another conversation, or to other bytes,
proves nothing, and nobody else can change which numbers a blob is said to hold. Blobs of former versions have a MAC
without the last two.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import re
import secrets
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

IDENTITY_BYTES = 8
"""Size of `Chunk.identity()`."""

MAX_LISTED = 500
"""The most chunks whose identities are listed: 5.3 KB of Base64; all metadata of an object may have 8 KiB."""

MAC_INFO = b"audio-batch-worker manifest"
KEYS = (
    "stream",
    "chunks-digest",
    "chunk-ids",
    "upload",
    "stored-bytes",
    "stored-crc32c",
    "manifest-mac",
)
"""The manifest's own keys; readers that don't know manifests read `chunks` too."""

AUTHENTICATED = ("stream", "chunks-digest", "chunk-ids", "chunks", "upload", "stored-bytes", "stored-crc32c")
"""Keys of the values in the message of the MAC, in their order."""

NUMBERS = ("seqs", "ends")
"""Keys of the metadata that the MAC authenticates beside the manifest: audits count by them."""

_HEX = re.compile(r"[0-9a-f]{16,64}")
_NUMBER = re.compile(r"[0-9]{1,15}")


@dataclass(frozen=True, slots=True)
class Manifest:
    """The chunks that a blob holds. `size` in bytes and `crc32c` are those of the object as it was uploaded.

    `identities` are those of its chunks, concatenated in their order; None where only `digest` is known.
    """

    stream: str
    digest: str
    chunks: int
    upload: str
    size: int
    crc32c: int
    identities: bytes | None = None

    @classmethod
    def of(cls, stream: str, identities: bytes, size: int, crc32c: int) -> Manifest:
        """Describe a new object, under a new upload id."""
        chunks = len(identities) // IDENTITY_BYTES
        listed = identities if chunks <= MAX_LISTED else None
        return cls(stream, digest_of(identities), chunks, secrets.token_hex(8), size, crc32c, listed)

    def for_object(self, size: int, crc32c: int) -> Manifest:
        """The same chunks in another object."""
        return replace(self, upload=secrets.token_hex(8), size=size, crc32c=crc32c)

    def listed(self) -> list[bytes]:
        """The identities one by one; empty where only the digest is known."""
        return split(self.identities or b"")

    def fits(self, size: int, crc32c: int | None) -> bool:
        """Whether an object of this size and checksum is the one that was uploaded."""
        return (size, crc32c) == (self.size, self.crc32c)

    def to_mapping(
        self, uid: str, conversation_id: str, secret: str, *, facts: Mapping[str, str] | None = None
    ) -> dict[str, str]:
        """The manifest as metadata, authenticated with the user's key.

        `facts` are the object's other metadata. If they are given, the MAC authenticates their `NUMBERS` too; without
        them, it is that of a former version.
        """
        values = {
            "stream": self.stream,
            "chunks-digest": self.digest,
            "chunks": str(self.chunks),
            "upload": self.upload,
            "stored-bytes": str(self.size),
            "stored-crc32c": str(self.crc32c),
        }
        if self.identities is not None:
            values["chunk-ids"] = base64.b64encode(self.identities).decode()
        numbers = [] if facts is None else [facts.get(key, "") for key in NUMBERS]
        parts = [uid, conversation_id, *(values.get(key, "") for key in AUTHENTICATED), *numbers]
        return {**values, "manifest-mac": _mac(parts, uid, secret)}


def claimed(mapping: Mapping[str, str]) -> Manifest | None:
    """The manifest that an object's metadata claims, true or not; None if it has no well-formed manifest."""
    numbers = [mapping.get(key, "") for key in ("chunks", "stored-bytes", "stored-crc32c")]
    texts = [mapping.get(key, "") for key in ("stream", "chunks-digest", "upload", "manifest-mac")]
    if not all(map(_NUMBER.fullmatch, numbers)) or not all(map(_HEX.fullmatch, texts)):
        return None
    chunks, size, crc32c = map(int, numbers)
    identities = _identities(mapping.get("chunk-ids"))
    if identities is not None and (len(identities), digest_of(identities)) != (chunks * IDENTITY_BYTES, texts[1]):
        return None
    return Manifest(texts[0], texts[1], chunks, texts[2], size, crc32c, identities)


def verified(
    mapping: Mapping[str, str], uid: str, conversation_id: str, *, all_secrets: Sequence[str]
) -> Manifest | None:
    """The manifest of an object of this conversation, if one of the secrets authenticates it; else None."""
    manifest = claimed(mapping)
    if manifest is None:
        return None
    for secret in all_secrets:
        for facts in (mapping, None):  # None: a blob of a former version
            expected = manifest.to_mapping(uid, conversation_id, secret, facts=facts)["manifest-mac"]
            if hmac.compare_digest(expected, mapping["manifest-mac"]):
                return manifest
    return None


def without_manifest(mapping: Mapping[str, str]) -> dict[str, str]:
    """Metadata for an object that does not stand for the chunks, for example a copy in another conversation."""
    return {key: value for key, value in mapping.items() if key not in KEYS}


def digest_of(identities: bytes) -> str:
    """The digest that tells one sequence of chunks from all others: 32 hex digits."""
    return blake2b(identities, digest_size=16).hexdigest()


def split(identities: bytes | bytearray) -> list[bytes]:
    """Concatenated identities one by one."""
    return [bytes(identities[at : at + IDENTITY_BYTES]) for at in range(0, len(identities), IDENTITY_BYTES)]


def _mac(parts: Sequence[str], uid: str, secret: str) -> str:
    key = HKDF(algorithm=SHA256(), length=32, salt=uid.encode(), info=MAC_INFO).derive(secret.encode())
    message = b"".join(b"%d:%s" % (len(part), part) for part in (text.encode() for text in parts))
    return hmac.digest(key, message, "sha256")[:16].hex()


def _identities(text: str | None) -> bytes | None:
    if text is None:
        return None
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error:
        return b""
