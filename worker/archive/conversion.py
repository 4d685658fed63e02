"""Old PCM blobs become Opus: each is encoded, stored, read back and compared before the old one goes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np

from codec.blob import Audio, seal_content
from codec.crypto import derive_key, key_id
from codec.entry import SAMPLE_RATES
from codec.metadata import BlobMetadata
from codec.names import object_name
from codec.opus import MAX_DECODED_SECONDS, Encoder
from worker import __version__
from worker.archive.likeness import QUIET, holds
from worker.archive.listing import Blob, walk
from worker.archive.origin import Origin
from worker.archive.parallel import ordered
from worker.archive.patience import patiently
from worker.archive.reading import Reader
from worker.cpu import cpu_limit
from worker.errors import ObjectExists, Unreadable
from worker.stores import BlobInfo, Store

LEVEL_RATIO = 4.0
"""By how much the level may change: real damage is silence or noise, a codec changes it by some percent."""


class Outcome(StrEnum):
    """What became of a blob."""

    PLANNED = "planned"  # would be converted
    CONVERTED = "converted"
    KEPT = "kept"  # something is in the way; nothing was deleted


@dataclass(frozen=True, slots=True)
class Conversion:
    """One blob's conversion; `reason` says why it was kept, `size` is that of the new blob in bytes."""

    blob: Blob
    target: str
    outcome: Outcome
    reason: str = ""
    size: int = 0


@dataclass(frozen=True, slots=True)
class Encoding:
    """How new blobs are made: the secret for those that are encrypted, and libopus' settings."""

    secret: str
    complexity: int
    bitrate: int | None = None


class Converter:
    """Converts blobs of one store. Stopping it at any moment is harmless, and doing it again goes on."""

    def __init__(self, store: Store, reader: Reader, encoding: Encoding) -> None:
        self._store = store
        self._reader = reader
        self._encoding = encoding

    async def convert(self, start: str, *, dry_run: bool) -> AsyncGenerator[Conversion, None]:
        """Convert the blobs that hold PCM and whose name begins with `start`, in name order.

        Raises:
            StoreError: the store does not answer.
        """
        work = self._planned if dry_run else self._converted
        results = ordered(self._candidates(start), work, limit=cpu_limit() + 1)
        async with aclosing(results) as conversions:
            async for conversion in conversions:
                yield conversion

    async def _candidates(self, start: str) -> AsyncGenerator[Blob, None]:
        async for found in walk(self._store, start):
            if isinstance(found, Blob) and found.codec == "pcm":
                yield found

    async def _planned(self, blob: Blob) -> Conversion:
        return Conversion(blob, _target(blob), Outcome.PLANNED)

    async def _converted(self, blob: Blob) -> Conversion:
        target = _target(blob)
        try:
            data = await self._reader.data(blob)
            audio = await self._reader.decode(blob, data)
            if obstacle := _obstacle(audio):
                return Conversion(blob, target, Outcome.KEPT, obstacle)
            origin = Origin.of(blob, data)
            ours, info = await self._stored(blob, audio, origin, target)
            if flaw := await self._flaw(audio, origin, info):
                return Conversion(blob, target, Outcome.KEPT, flaw)
        except Unreadable as error:
            return await self._unreadable(blob, target, str(error))
        return await self._replaced(blob, info, by_another=not ours and origin == Origin.noted(info))

    async def _unreadable(self, blob: Blob, target: str, reason: str) -> Conversion:
        """Another run may have been here between the listing and the reading."""
        if await patiently(lambda: self._store.stat(blob.path)) is None:
            info = await patiently(lambda: self._store.stat(target))
            origin = None if info is None else Origin.noted(info)
            if info is not None and origin is not None and origin.name == blob.name:
                return Conversion(blob, target, Outcome.CONVERTED, size=info.size)
        return Conversion(blob, target, Outcome.KEPT, reason)

    async def _stored(self, blob: Blob, audio: Audio, origin: Origin, target: str) -> tuple[bool, BlobInfo]:
        """Whether this run has made the blob that has the new name, and the blob."""
        found = await patiently(lambda: self._store.stat(target))
        ours = False
        while found is None:
            content, facts = await asyncio.to_thread(self._encoded, blob, audio)
            sealed = seal_content(content, self._key(blob))
            # What others noted is true of the new blob as well: times and lengths stay the same.
            ours = await self._create(
                target, sealed, {**blob.info.metadata, **facts.to_mapping(), **origin.to_mapping()}
            )
            found = await patiently(lambda: self._store.stat(target))
        return ours, found

    async def _create(self, target: str, data: bytes, metadata: Mapping[str, str]) -> bool:
        try:
            await patiently(lambda: self._store.create(target, data, metadata))
        except ObjectExists:
            return False  # perhaps ours, its reply lost: what is there is compared next
        return True

    def _encoded(self, blob: Blob, audio: Audio) -> tuple[bytes, BlobMetadata]:
        encoder = Encoder(audio.sample_rate, complexity=self._encoding.complexity, bitrate=self._encoding.bitrate)
        encoder.encode(audio.pcm)
        facts = replace(
            blob.facts,
            codec="opus",
            sample_rate=audio.sample_rate,
            samples=audio.samples,
            pre_skip=encoder.pre_skip,
            start=blob.start if blob.facts.start is None else blob.facts.start,
            worker_version=__version__,
            key_id=key_id(self._encoding.secret) if blob.name.kind.encrypted else None,
        )
        return encoder.finish(), facts

    def _key(self, blob: Blob) -> bytes | None:
        return derive_key(self._encoding.secret, blob.name.uid) if blob.name.kind.encrypted else None

    async def _flaw(self, source: Audio, origin: Origin, info: BlobInfo) -> str | None:
        """Why the blob that has the new name, as it is in the store, can't stand for the old one."""
        audio = await self._reader.audio(Blob.of(info))
        if (audio.samples, audio.sample_rate) != (source.samples, source.sample_rate):
            return f"{info.name} holds {audio.samples} samples in place of {source.samples}"
        if origin != Origin.noted(info) and not await asyncio.to_thread(holds, audio, source):
            return f"{info.name} is other audio"
        before, after = await asyncio.to_thread(lambda: (_level(source), _level(audio)))
        if before > QUIET and not before / LEVEL_RATIO < after < before * LEVEL_RATIO:
            return f"{info.name} does not sound like it: a level of {after:.0f} in place of {before:.0f}"
        return None

    async def _replaced(self, blob: Blob, info: BlobInfo, *, by_another: bool) -> Conversion:
        """Delete the old blob; `by_another` says that another run has made the new one from it."""
        there = await patiently(lambda: self._store.stat(blob.path)) is not None
        if not there and not by_another:
            reason = (
                f"it has been deleted meanwhile: if by another conversion, {info.name} has taken its place; "
                f"if somebody deleted the audio, delete {info.name} too"
            )
            return Conversion(blob, info.name, Outcome.KEPT, reason)
        await patiently(lambda: self._store.delete(blob.path))
        return Conversion(blob, info.name, Outcome.CONVERTED, size=info.size)


def _target(blob: Blob) -> str:
    name = blob.name
    return object_name(name.uid, name.conversation_id, name.start, encrypted=name.kind.encrypted)


def _obstacle(audio: Audio) -> str | None:
    if not audio.samples:
        return "it holds no audio"
    if audio.sample_rate not in SAMPLE_RATES:
        return f"Opus can't hold {audio.sample_rate} Hz"
    if audio.duration > MAX_DECODED_SECONDS:
        return f"it holds {audio.duration:.0f} s, more than a blob may"
    return None


def _level(audio: Audio) -> float:
    return float(np.std(np.frombuffer(audio.pcm, "<i2").astype(np.float32)))
