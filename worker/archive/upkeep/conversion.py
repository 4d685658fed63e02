"""Converts old PCM blobs to Opus: each is encoded, stored, read back and compared before the old one is deleted."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, replace
from enum import StrEnum

import google_crc32c

from codec.arguments import NOTHING, check_types
from codec.blob import Audio, seal_content
from codec.crypto import derive_key, key_id
from codec.entry import SAMPLE_RATES
from codec.manifest import verified, without_manifest
from codec.metadata import BlobMetadata
from codec.names import Kind, object_name
from codec.opus import MAX_DECODED_SECONDS, Application, Encoder
from worker import __version__
from worker.archive.blobs.known_deletions import known_deletions, may_concern, noted, noting, recorded_deletions
from worker.archive.blobs.listing import Blob, UnknownObject, walk
from worker.archive.blobs.ordered import ordered
from worker.archive.blobs.provenance import Provenance
from worker.archive.blobs.reading import Reader
from worker.archive.blobs.retrying import OF_ONE_OBJECT, retry
from worker.errors import ObjectExists, StoreError, Unreadable
from worker.runtime.cpu import cpu_limit
from worker.runtime.extras import extra_imports, require
from worker.stores.base import BlobInfo, Store

DELETED = "deleted meanwhile: what was made of it is removed; if it is still there, convert again"

LEFTOVER = "a run that was stopped has made it of audio that was deleted meanwhile: delete it too"

LEVEL_RATIO = 4.0
"""Factor by which the level may change: real damage is silence or noise, a codec changes it by some percent."""


class ConversionOutcome(StrEnum):
    """The outcome of a blob's conversion."""

    PLANNED = "planned"  # would be converted
    CONVERTED = "converted"
    KEPT = "kept"  # something is in the way; the old blob was not deleted


@dataclass(frozen=True, slots=True)
class Conversion:
    """One blob's conversion; `reason` says why it was kept, `size` is that of the new blob in bytes."""

    blob: Blob
    target: str
    outcome: ConversionOutcome
    reason: str = ""
    size: int = 0


@dataclass(frozen=True, slots=True)
class Encoding:
    """Settings for new blobs: the secret for encrypted ones, and libopus' settings, `bitrate` in bits per second.

    Raises:
        WrongType: a value has a wrong type.
    """

    secret: str
    complexity: int
    bitrate: int | None = None
    application: Application = "audio"

    def __post_init__(self) -> None:
        check_types(str, secret=self.secret)
        check_types(int, complexity=self.complexity)
        check_types(int, NOTHING, bitrate=self.bitrate)
        check_types(str, application=self.application)


@dataclass(frozen=True, slots=True)
class _Source:
    """A blob as it was read, and the deletions that were recorded before."""

    blob: Blob
    data: bytes
    audio: Audio
    origin: Provenance
    deletions: frozenset[str]


OnUnknown = Callable[[UnknownObject], None]


def unheard(unknown: UnknownObject) -> None:
    """Ignore it."""


class Converter:
    """Converts blobs of one store. It may be stopped at any moment; a second run resumes.

    `on_unknown` is called for every object whose name is not a blob's name: it stays as it is.
    """

    def __init__(self, store: Store, reader: Reader, encoding: Encoding, on_unknown: OnUnknown) -> None:
        self._store = store
        self._reader = reader
        self._encoding = encoding
        self._on_unknown = on_unknown
        require("audio")  # else a blob would be stored, and then not be compared

    async def convert(self, start: str, *, dry_run: bool) -> AsyncGenerator[Conversion, None]:
        """Convert the blobs that hold PCM and whose name begins with `start`, in name order.

        A blob that the store refuses to give, to replace or to delete is kept, with its reason.

        Raises:
            StoreError: the store does not answer, or refuses everything.
        """
        work = self._planned if dry_run else self._converted

        async def outcome(blob: Blob) -> Conversion | None:
            return await self._kept_if_refused(blob, work)

        results = ordered(self._candidates(start), outcome, limit=cpu_limit() + 1)
        async with aclosing(results) as conversions:
            async for conversion in conversions:
                if conversion is not None:
                    yield conversion

    async def _candidates(self, start: str) -> AsyncGenerator[Blob, None]:
        """Blobs of PCM, and those that may be left over from audio that was deleted meanwhile."""
        recorded = await recorded_deletions(self._store)
        async for found in walk(self._store, start):
            if isinstance(found, UnknownObject):
                self._on_unknown(found)
            elif found.codec == "pcm" or _may_be_leftover(found, recorded):
                yield found

    async def _kept_if_refused(self, blob: Blob, work: Callable[[Blob], Awaitable[Conversion]]) -> Conversion | None:
        """The outcome of one blob, whatever the store says about it; None for Opus that is none of our business."""
        try:
            return await (work(blob) if blob.codec == "pcm" else self._leftover(blob))
        except StoreError as error:
            if error.cause not in OF_ONE_OBJECT:
                raise
            return Conversion(blob, _target(blob), ConversionOutcome.KEPT, str(error))

    async def _leftover(self, blob: Blob) -> Conversion | None:
        """A report if an interrupted run made the blob of audio that was deleted meanwhile.

        It may also be audio that was deleted by mistake, and restored: so the blob stays.
        """
        if await known_deletions(self._store, blob.name) <= (noted(blob.info) or frozenset()):
            return None
        return Conversion(blob, blob.path, ConversionOutcome.KEPT, LEFTOVER)

    async def _planned(self, blob: Blob) -> Conversion:
        return Conversion(blob, _target(blob), ConversionOutcome.PLANNED)

    async def _converted(self, blob: Blob) -> Conversion:
        target = _target(blob)
        if blob.info.flaw:
            return Conversion(blob, target, ConversionOutcome.KEPT, blob.info.flaw)
        deletions = await known_deletions(self._store, blob.name)
        try:
            source = await self._source(blob, deletions)
            if obstacle := _obstacle(source.audio):
                return Conversion(blob, target, ConversionOutcome.KEPT, obstacle)
            ours, info = await self._stored(source, target)
            # Check this first: a failure below leaves the new blob in the store.
            if await self._deleted_since(blob, deletions, info):
                return Conversion(blob, target, ConversionOutcome.KEPT, DELETED)
            if flaw := await self._flaw(source.audio, source.origin, info):
                return Conversion(blob, target, ConversionOutcome.KEPT, flaw)
        except Unreadable as error:
            return await self._unreadable(blob, target, deletions, str(error))
        return await self._replaced(blob, info, by_another=not ours and source.origin == Provenance.noted(info))

    async def _source(self, blob: Blob, deletions: frozenset[str]) -> _Source:
        data = await self._reader.data(blob)
        return _Source(blob, data, await self._reader.decode(blob, data), Provenance.of(blob, data), deletions)

    async def _unreadable(self, blob: Blob, target: str, deletions: frozenset[str], reason: str) -> Conversion:
        """Another run may have converted the blob between the listing and the reading."""
        if await retry(lambda: self._store.stat(blob.path)) is None:
            info = await retry(lambda: self._store.stat(target))
            origin = None if info is None else Provenance.noted(info)
            if info is not None and origin is not None and origin.name == blob.name:
                if await self._deleted_since(blob, deletions, info):
                    return Conversion(blob, target, ConversionOutcome.KEPT, DELETED)
                return Conversion(blob, target, ConversionOutcome.CONVERTED, size=info.size)
        return Conversion(blob, target, ConversionOutcome.KEPT, reason)

    async def _deleted_since(self, blob: Blob, deletions: frozenset[str], info: BlobInfo) -> bool:
        """Whether a deletion of the audio began after its source was read; a new blob made before that is deleted.

        Each blob notes the deletions that its own maker knew. The blob of another conversion may hold audio that is
        newer than the deletion, and stays.
        """
        now = await known_deletions(self._store, blob.name)
        known = noted(info)
        if known is not None and not now <= known:
            try:
                await retry(lambda: self._store.delete(info.name, info.generation))
            except StoreError as error:
                text = f"deleted meanwhile, but {info.name}, which was made of it, can't be removed: {error}"
                raise StoreError(text, cause=error.cause, status=error.status) from error
            return True
        return not now <= deletions

    async def _stored(self, source: _Source, target: str) -> tuple[bool, BlobInfo]:
        """Whether this run made the blob that has the new name, and that blob."""
        found = await retry(lambda: self._store.stat(target))
        ours = False
        while found is None:
            content, facts = await asyncio.to_thread(self._encoded, source.blob, source.audio)
            sealed = seal_content(content, self._key(source.blob))
            ours = await self._create(target, sealed, self._metadata(source, facts, sealed))
            found = await retry(lambda: self._store.stat(target))
        return ours, found

    def _metadata(self, source: _Source, facts: BlobMetadata, sealed: bytes) -> dict[str, str]:
        told = {
            # Metadata of other writers is true of the new blob too: times and lengths stay the same.
            **without_manifest(source.blob.info.metadata),
            **facts.to_mapping(),
            **source.origin.to_mapping(),
            **noting(source.deletions),
        }
        return told | self._manifest(source, sealed, told)

    def _manifest(self, source: _Source, sealed: bytes, facts: Mapping[str, str]) -> dict[str, str]:
        """The manifest that proves the chunks of the new blob; empty if the source's manifest proves nothing."""
        name, secret = source.blob.name, self._encoding.secret
        known = [*([secret] if secret else []), *self._reader.secrets]
        manifest = verified(source.blob.info.metadata, name.uid, name.conversation_id, all_secrets=known)
        if manifest is None or not secret or not manifest.fits(len(source.data), source.origin.crc32c):
            return {}
        ours = manifest.for_object(len(sealed), google_crc32c.value(sealed))
        return ours.to_mapping(name.uid, name.conversation_id, secret, facts=facts)

    async def _create(self, target: str, data: bytes, metadata: Mapping[str, str]) -> bool:
        try:
            await retry(lambda: self._store.create(target, data, metadata))
        except ObjectExists:
            return False  # perhaps ours, its reply lost: the stored blob is compared next
        return True

    def _encoded(self, blob: Blob, audio: Audio) -> tuple[bytes, BlobMetadata]:
        settings = self._encoding
        encoder = Encoder(
            audio.sample_rate,
            complexity=settings.complexity,
            bitrate=settings.bitrate,
            application=settings.application,
        )
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
            stream=None,  # the manifest sets it again, if it is proven
            chunks_digest=None,
        )
        return encoder.finish(), facts

    def _key(self, blob: Blob) -> bytes | None:
        return derive_key(self._encoding.secret, blob.name.uid) if blob.name.kind.encrypted else None

    async def _flaw(self, source: Audio, origin: Provenance, info: BlobInfo) -> str | None:
        """Why the stored blob that has the new name can't stand for the old one; None if it can."""
        with extra_imports():
            from worker.archive.blobs.similarity import QUIET, holds, level  # noqa: PLC0415 -- numpy

        audio = await self._reader.audio(Blob.of(info))
        if (audio.samples, audio.sample_rate) != (source.samples, source.sample_rate):
            return f"{info.name} holds {audio.samples} samples in place of {source.samples}"
        if origin != Provenance.noted(info) and not await asyncio.to_thread(holds, audio, source):
            return f"{info.name} is other audio"
        before, after = await asyncio.to_thread(lambda: (level(source), level(audio)))
        if before > QUIET and not before / LEVEL_RATIO < after < before * LEVEL_RATIO:
            return f"{info.name} does not sound like it: a level of {after:.0f} in place of {before:.0f}"
        return None

    async def _replaced(self, blob: Blob, info: BlobInfo, *, by_another: bool) -> Conversion:
        """Delete the old blob; `by_another` says that another run made the new one from it."""
        there = await retry(lambda: self._store.stat(blob.path)) is not None
        if not there and not by_another:
            reason = (
                f"it has been deleted meanwhile: if by another conversion, {info.name} has taken its place; "
                f"if the audio was deleted, delete {info.name} too"
            )
            return Conversion(blob, info.name, ConversionOutcome.KEPT, reason)
        try:
            await retry(lambda: self._store.delete(blob.path, blob.info.generation))
        except StoreError as error:
            text = f"{info.name} has its audio now, but it can't be deleted: {error}"
            raise StoreError(text, cause=error.cause, status=error.status) from error
        return Conversion(blob, info.name, ConversionOutcome.CONVERTED, size=info.size)


def _may_be_leftover(blob: Blob, recorded: frozenset[str]) -> bool:
    return noted(blob.info) is not None and may_concern(recorded, blob.name)


def _target(blob: Blob) -> str:
    name = blob.name
    kind = Kind.OPUS_ENCRYPTED if name.kind.encrypted else Kind.OPUS
    return object_name(name.uid, name.conversation_id, name.start, kind=kind)


def _obstacle(audio: Audio) -> str | None:
    if not audio.samples:
        return "it holds no audio"
    if audio.sample_rate not in SAMPLE_RATES:
        return f"Opus can't hold {audio.sample_rate} Hz"
    if audio.duration > MAX_DECODED_SECONDS:
        return f"it holds {audio.duration:.0f} s, more than a blob may"
    return None
