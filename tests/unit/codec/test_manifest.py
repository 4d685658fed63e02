"""A manifest proves what its object holds, and only that."""

from __future__ import annotations

import hmac
from hashlib import sha256

import pytest
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from codec.entry import Chunk
from codec.manifest import IDENTITY_BYTES, MAX_LISTED, Manifest, claimed, digest_of, verified, without_manifest

SECRET = "a test's secret of thirty-two bytes or more"
STREAM = "5d" * 16
IDENTITIES = b"".join(Chunk("u", "c", float(number), bytes(640)).identity() for number in range(12))
MANIFEST = Manifest.of(STREAM, IDENTITIES, 1000, 77)
FACTS = {"seqs": "a:0-11", "ends": "a:12"}


def mapping(manifest: Manifest = MANIFEST) -> dict[str, str]:
    return FACTS | manifest.to_mapping("u", "c", SECRET, facts=FACTS)


def test_manifest_comes_back() -> None:
    found = verified(mapping(), "u", "c", all_secrets=[SECRET])

    assert found == MANIFEST
    assert found is not None
    assert found.listed() == [IDENTITIES[at : at + IDENTITY_BYTES] for at in range(0, len(IDENTITIES), IDENTITY_BYTES)]


def test_a_former_secret_authenticates_too() -> None:
    assert verified(mapping(), "u", "c", all_secrets=["another secret of at least 32 bytes", SECRET]) == MANIFEST


@pytest.mark.parametrize("key", sorted(mapping()))
def test_whatever_is_changed_proves_nothing(key: str) -> None:
    changed = mapping()
    last = changed[key][-1]
    changed[key] = changed[key][:-1] + ("0" if last != "0" else "1")

    assert verified(changed, "u", "c", all_secrets=[SECRET]) is None


@pytest.mark.parametrize("key", sorted(mapping()))
def test_whatever_is_missing_proves_nothing(key: str) -> None:
    reduced = {name: value for name, value in mapping().items() if name != key}

    assert verified(reduced, "u", "c", all_secrets=[SECRET]) is None


@pytest.mark.parametrize(("uid", "conversation"), [("u", "d"), ("v", "c"), ("uc", "")])
def test_it_proves_nothing_in_another_conversation(uid: str, conversation: str) -> None:
    assert verified(mapping(), uid, conversation, all_secrets=[SECRET]) is None


def test_nobody_without_the_secret_can_make_one() -> None:
    forged = MANIFEST.to_mapping("u", "c", "a secret that somebody else made up, long")

    assert verified(forged, "u", "c", all_secrets=[SECRET]) is None
    assert verified(mapping(), "u", "c", all_secrets=[]) is None


def test_it_fits_only_the_bytes_that_were_uploaded() -> None:
    assert MANIFEST.fits(1000, 77)
    assert not MANIFEST.fits(1000, 78)
    assert not MANIFEST.fits(999, 77)
    assert not MANIFEST.fits(1000, None)


@pytest.mark.parametrize("chunks", [MAX_LISTED, MAX_LISTED + 1, 3000, 10_000])
def test_metadata_stay_small_however_many_chunks_there_are(chunks: int) -> None:
    identities = bytes(range(256)) * (chunks * IDENTITY_BYTES // 256 + 1)
    manifest = Manifest.of(STREAM, identities[: chunks * IDENTITY_BYTES], 10**9, 2**32 - 1)
    found = verified(mapping(manifest), "u", "c", all_secrets=[SECRET])

    assert sum(len(key) + len(value) for key, value in mapping(manifest).items()) < 5700
    assert found == manifest
    assert (manifest.chunks, manifest.identities is not None) == (chunks, chunks <= MAX_LISTED)


def test_the_digest_tells_order_and_number() -> None:
    swapped = IDENTITIES[IDENTITY_BYTES : 2 * IDENTITY_BYTES] + IDENTITIES[:IDENTITY_BYTES]

    assert digest_of(IDENTITIES[: 2 * IDENTITY_BYTES]) != digest_of(swapped)
    assert digest_of(IDENTITIES) != digest_of(IDENTITIES[:-IDENTITY_BYTES])


def test_the_mac_is_what_the_documentation_says() -> None:
    values = mapping()
    names = ("stream", "chunks-digest", "chunk-ids", "chunks", "upload", "stored-bytes", "stored-crc32c")
    parts = ["u", "c", *(values[name] for name in names), "a:0-11", "a:12"]
    assert values["manifest-mac"] == mac_of(parts)


def test_the_mac_of_former_versions_still_proves_all_but_numbers() -> None:
    values = mapping()
    names = ("stream", "chunks-digest", "chunk-ids", "chunks", "upload", "stored-bytes", "stored-crc32c")
    values["manifest-mac"] = mac_of(["u", "c", *(values[name] for name in names)])
    assert verified(values, "u", "c", all_secrets=[SECRET]) == MANIFEST
    assert verified(values | {"seqs": "a:0-99"}, "u", "c", all_secrets=[SECRET]) == MANIFEST


def mac_of(parts: list[str]) -> str:
    message = b"".join(f"{len(part.encode())}:{part}".encode() for part in parts)
    key = HKDF(SHA256(), 32, b"u", b"audio-batch-worker manifest").derive(SECRET.encode())
    return hmac.new(key, message, sha256).hexdigest()[:32]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("chunks", "x"),
        ("chunks", "13"),
        ("stream", "no hex"),
        ("chunk-ids", "#"),
        ("stored-bytes", "-1"),
        ("upload", ""),
    ],
)
def test_nonsense_claims_nothing(key: str, value: str) -> None:
    assert claimed(mapping() | {key: value}) is None


def test_a_copy_elsewhere_keeps_all_but_the_manifest() -> None:
    assert without_manifest(mapping() | {"codec": "opus"}) == FACTS | {"chunks": "12", "codec": "opus"}
