"""Blobs of every kind, made the way their writers make them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import google_crc32c
import numpy as np

from codec.crypto import derive_key, encrypt, key_id
from codec.manifest import Manifest
from codec.metadata import BlobMetadata
from codec.names import format_timestamp
from codec.opus import Encoder
from tests.support.secret import TEST_SECRET
from worker.archive import Archive
from worker.stores.base import Store

T0 = 1_700_000_000.0
OLD_SECRET = "a secret that was in use some years before"
EXTENSIONS = (".bin", ".enc", ".opus", ".opus.enc", ".batch.bin", ".batch.enc")


@dataclass
class ConversationFolder:
    """One conversation's place in a store; `put` stores a blob, by default without metadata, as years ago."""

    store: Store
    uid: str = "user"
    conversation: str = "talk"
    secret: str = TEST_SECRET
    names: list[str] = field(default_factory=list)

    async def put(
        self,
        extension: str,
        start: float,
        pcm: bytes,
        *,
        rate: int = 16000,
        described: bool = False,
        pieces: int = 1,
        end: float | None = None,
        more: Mapping[str, str] | None = None,
    ) -> str:
        """`pieces` are the segments that PCM is encrypted in; `end` makes a range of the name."""
        opus = extension.startswith(".opus")
        facts = BlobMetadata()
        content = pcm
        if opus:
            content, facts = opus_content(pcm, rate)
        elif described:
            facts = BlobMetadata(codec="pcm", sample_rate=rate, samples=len(pcm) // 2)
        data = self.sealed(content, pieces) if extension.endswith(".enc") else content
        stem = format_timestamp(start) + ("" if end is None else f"-{format_timestamp(end)}")
        metadata = facts.to_mapping() if described else {}
        return await self.put_bytes(f"{stem}{extension}", data, {**metadata, **(more or {})})

    async def put_bytes(self, file: str, data: bytes, metadata: Mapping[str, str] | None = None) -> str:
        name = f"chunks/{self.uid}/{self.conversation}/{file}"
        await self.store.create(name, data, metadata or {})
        self.names.append(name)
        return name

    def sealed(self, content: bytes, pieces: int = 1) -> bytes:
        key = derive_key(self.secret, self.uid)
        size = -(-len(content) // pieces // 2) * 2 or 2
        parts = [content[first : first + size] for first in range(0, len(content), size)] or [b""]
        return b"".join(encrypt(key, part) for part in parts)

    async def files(self) -> list[str]:
        """File names of the conversation's objects, as listed."""
        prefix = f"chunks/{self.uid}/{self.conversation}/"
        return [info.name.removeprefix(prefix) async for info in self.store.list(prefix)]

    async def pcm(self, archive: Archive, **options: object) -> bytes:
        download = await archive.download(self.uid, self.conversation, **options)  # type: ignore[arg-type]
        return await download.pcm()


IDENTITIES = b"chunk  1chunk  2"
"""Of two chunks."""

STREAM = "ab" * 16


async def describe_again(
    store: Store, name: str, *, stream: str = STREAM, identities: bytes = IDENTITIES, secret: str = TEST_SECRET
) -> None:
    """Give a stored blob a manifest, as workers write it."""
    info, data = await store.stat(name), await store.read(name)
    assert info is not None
    _, uid, conversation, _ = name.split("/")
    manifest = Manifest.of(stream, identities, len(data), google_crc32c.value(data))
    told = manifest.to_mapping(uid, conversation, secret, facts=info.metadata)
    await store.delete(name)
    await store.create(name, data, {**info.metadata, **told})


def opus_content(pcm: bytes, rate: int = 16000) -> tuple[bytes, BlobMetadata]:
    """A container and what its writer says of it."""
    encoder = Encoder(rate, complexity=5)
    encoder.encode(pcm)
    facts = BlobMetadata(codec="opus", sample_rate=rate, samples=encoder.samples, pre_skip=encoder.pre_skip)
    return encoder.finish(), facts


def noise(seconds: float, rate: int = 16000, *, deviation: float = 100) -> bytes:
    """Of which no second is like another; always the same."""
    return np.random.default_rng(7).normal(0, deviation, round(seconds * rate)).astype("<i2").tobytes()


def key_of(secret: str) -> dict[str, str]:
    return {"key-id": key_id(secret)}
