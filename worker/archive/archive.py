"""The archive's API for programs: one object on a store, with a method per operation on recordings."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import replace
from numbers import Real
from os import PathLike
from pathlib import Path

from codec.arguments import FUNCTION, NOTHING, check_types
from codec.crypto import checked_secrets
from codec.names import FOLDER, Codec, conversation_prefix, prefix
from worker.archive.blobs.alternatives import group_alternatives
from worker.archive.blobs.conversations import ConversationSummary, sum_up_conversations
from worker.archive.blobs.listing import Blob, Listing, list_blobs, list_users, walk
from worker.archive.blobs.progress import Progress, unseen
from worker.archive.blobs.reading import Reader
from worker.archive.playback.distinct import distinct_audio
from worker.archive.playback.download import Download, DownloadReport, highest_rate
from worker.archive.playback.grouping import DEFAULT_GAP, AudioFiles, audio_files
from worker.archive.playback.measuring import measured
from worker.archive.playback.saving import save
from worker.archive.playback.seeking.audio_cache import AudioCache
from worker.archive.playback.seeking.recording import RecordingParts, SeekableRecording
from worker.archive.playback.selection import EVERYTHING, Selection, select, undecided
from worker.archive.playback.timeline import MergeRules
from worker.archive.upkeep.conversion import Conversion, Converter, Encoding, OnUnknown, unheard
from worker.archive.upkeep.copying import Copier, CopyReport
from worker.archive.upkeep.deletion import Deleter, Deletion
from worker.archive.upkeep.verification import NOTHING_KNOWN, BlobVerdict, Fingerprint, verify_blobs
from worker.audio.writing.formats import AudioFormat
from worker.errors import BadSelection, NothingStored
from worker.model.jitter import GAP_TOLERANCE
from worker.stores.base import Store
from worker.stream.tombstones import Tombstones


class Archive:
    """Recordings in a store.

    Every method raises `BadName` for ids that can't be part of a name, `BadSelection` for a conversation without its
    uid, `WrongType` for other arguments of a wrong type, and `StoreError` when the store does not answer.

    Args:
        store: the store of the blobs; the caller closes it.
        secrets: the encryption secrets, the current one first, then older ones that may still encrypt blobs.

    Raises:
        BadSecret: one of them has fewer than 32 bytes; `NotASecret`, which is a TypeError too, if one is not text, or
            if `secrets` is a single text, each character of which would count as a secret.
    """

    def __init__(self, store: Store, secrets: Sequence[str] = ()) -> None:
        given = checked_secrets(secrets)
        check_types(Store, store=store)
        self._store = store
        self._reader = Reader(store, given)

    async def list(self, uid: str, conversation_id: str | None = None) -> Listing:
        """All blobs of a conversation, or of a user, by conversation and time; one request per thousand objects."""
        return await list_blobs(self._store, uid, conversation_id)

    def users(self) -> AsyncIterator[str]:
        """The users who have recordings, in the order of their names; one request per thousand users.

        It does not look at their objects, so it can't count them.
        """
        return list_users(self._store)

    def conversations(self, uid: str) -> AsyncIterator[ConversationSummary]:
        """The conversations of a user in the order of their ids; one request per thousand objects."""
        return sum_up_conversations(self._store, uid)

    async def download(
        self,
        uid: str,
        conversation_id: str,
        *,
        selection: Selection = EVERYTHING,
        rules: MergeRules = MergeRules(),  # noqa: B008 -- frozen
        sample_rate: int | None = None,
        progress: Progress = unseen,
    ) -> Download:
        """Begin to read a conversation, or a part of it, as one recording of s16le mono PCM.

        All of it is resampled to `sample_rate` Hz, by default the highest rate that it was recorded at. `progress` is
        called for every blob that was read; alternatives count once.

        Raises:
            NothingStored: no blob is selected.
        """
        conversation_prefix(uid, conversation_id)
        check_types(Selection, selection=selection)
        check_types(MergeRules, rules=rules)
        check_types(int, NOTHING, sample_rate=sample_rate)
        check_types(FUNCTION, progress=progress)
        listing = await self.list(uid, conversation_id)
        found = group_alternatives(listing.blobs)
        lengths = measured(self._reader, undecided(found, selection))
        selected = select(found, selection, {span.blob.path: span.end async for span, _ in lengths})
        if not selected.sources:
            raise NothingStored(f"no audio of {uid}/{conversation_id} is stored{_where(selection)}")
        begun = Download(self._reader, selected, rules=rules, sample_rate=sample_rate, progress=progress)
        begun.report.unknown += listing.unknown
        return begun

    async def seekable(
        self,
        uid: str,
        conversation_id: str,
        *,
        cache: AudioCache,
        rules: MergeRules = MergeRules(),  # noqa: B008 -- frozen
    ) -> SeekableRecording:
        """A conversation as one recording of which any part can be read, at the highest rate that it was recorded at.

        Only blobs that overlap, or whose length is not known otherwise, are read now. `cache` keeps decoded audio.

        Raises:
            NothingStored: it has no blob.
        """
        conversation_prefix(uid, conversation_id)
        check_types(AudioCache, cache=cache)
        check_types(MergeRules, rules=rules)
        listing = await self.list(uid, conversation_id)
        sources = group_alternatives(listing.blobs)
        if not sources:
            raise NothingStored(f"no audio of {uid}/{conversation_id} is stored")
        audio = await distinct_audio(self._reader, sources)
        parts = RecordingParts(self._reader, audio, cache, rules, listing.unknown)
        return SeekableRecording(parts, highest_rate(sources))

    async def save(self, download: Download, path: Path | str, form: AudioFormat | None = None) -> DownloadReport:
        """Write a recording to a file in the format that its name promises, or in `form`; see `saving.save`.

        Formats are WAV, bare samples (.pcm), FLAC, MP3, and Ogg Opus from the stored packets. Memory stays the same for
        a minute and for a day. The file appears when it is complete, and replaces one of the same name.

        Raises:
            AudioFileError: it can't be written, or outgrows the 4 GiB of a WAV.
            NothingStored: no audio lies in the selected time.
            NothingReadable: blobs are there, but none could be read; `WrongSecrets` if the secrets open none of them.
        """
        check_types(Download, download=download)
        check_types(str, PathLike, path=path)
        check_types(AudioFormat, NOTHING, form=form)
        return await save(download, Path(path), form)

    async def audio_files(
        self,
        uid: str,
        conversation_id: str,
        *,
        gap: float = DEFAULT_GAP,
        gap_tolerance: float = GAP_TOLERANCE,
        progress: Progress = unseen,
    ) -> AudioFiles:
        """Group blobs into playable files; more than `gap` seconds from start to start begin a new file.

        Their durations are those that `download` gives with rules of the same `gap_tolerance` (seconds). Only blobs
        that overlap, or whose length is not known otherwise, are read.
        """
        conversation_prefix(uid, conversation_id)
        check_types(Real, gap=gap, gap_tolerance=gap_tolerance)
        check_types(FUNCTION, progress=progress)
        listing = await self.list(uid, conversation_id)
        sources = group_alternatives(listing.blobs)
        found = await audio_files(self._reader, sources, gap, progress, gap_tolerance=gap_tolerance)
        return replace(found, unknown=listing.unknown)

    async def copy(
        self,
        uid: str,
        conversations: Sequence[str],
        target: str,
        *,
        dry_run: bool = False,
        progress: Progress = unseen,
    ) -> CopyReport:
        """Merge conversations of a user into another one, by copies inside the store; see `Copier`."""
        check_types(Iterable, conversations=conversations)
        for conversation_id in (target, *conversations):
            conversation_prefix(uid, conversation_id)
        check_types(bool, dry_run=dry_run)
        check_types(FUNCTION, progress=progress)
        return await Copier(self._store, progress).copy(uid, conversations, target, dry_run=dry_run)

    async def delete(
        self,
        uid: str,
        conversation_id: str | None = None,
        *,
        tombstones: Tombstones | None,
        dry_run: bool = False,
        recorded: bool = True,
        progress: Progress = unseen,
    ) -> Deletion:
        """Delete a conversation or a user, and verify it; see `Deleter`."""
        check_types(Tombstones, NOTHING, tombstones=tombstones)
        check_types(bool, dry_run=dry_run, recorded=recorded)
        check_types(FUNCTION, progress=progress)
        deleter = Deleter(self._store, dry_run=dry_run, recorded=recorded, progress=progress)
        return await deleter.delete_all(uid, conversation_id, tombstones=tombstones)

    async def delete_chunks(
        self,
        uid: str,
        conversation_id: str,
        timestamps: Sequence[float],
        *,
        dry_run: bool = False,
        recorded: bool = True,
    ) -> Deletion:
        """Delete the blobs that start at given timestamps (Unix seconds), and verify it; see `Deleter`."""
        conversation_prefix(uid, conversation_id)
        check_types(Iterable, timestamps=timestamps)
        for timestamp in timestamps:
            check_types(Real, timestamp=timestamp)
        check_types(bool, dry_run=dry_run, recorded=recorded)
        deleter = Deleter(self._store, dry_run=dry_run, recorded=recorded)
        return await deleter.delete_chunks(uid, conversation_id, timestamps)

    async def count(
        self, uid: str | None = None, conversation_id: str | None = None, *, codec: Codec | None = None
    ) -> int:
        """Count the objects of a conversation, of a user or of the whole store; with `codec`, only blobs of that."""
        check_types(str, NOTHING, codec=codec)
        found = 0
        async for item in walk(self._store, _start(uid, conversation_id)):
            found += codec is None or (isinstance(item, Blob) and item.codec == codec)
        return found

    def verify(
        self,
        uid: str | None = None,
        conversation_id: str | None = None,
        *,
        known: Mapping[Fingerprint, BlobVerdict] = NOTHING_KNOWN,
    ) -> AsyncGenerator[BlobVerdict, None]:
        """Read back all blobs of a conversation, of a user or of the whole store; see `verification.verify_blobs`."""
        check_types(Mapping, known=known)
        return verify_blobs(self._store, self._reader, _start(uid, conversation_id), known=known)

    def convert(
        self,
        encoding: Encoding,
        uid: str | None = None,
        conversation_id: str | None = None,
        *,
        dry_run: bool,
        on_unknown: OnUnknown = unheard,
    ) -> AsyncGenerator[Conversion, None]:
        """Turn PCM into Opus, of a conversation, of a user or of the whole store; see `conversion.Converter`.

        Raises `ExtraMissing` without the extra `audio`.
        """
        check_types(Encoding, encoding=encoding)
        check_types(bool, dry_run=dry_run)
        check_types(FUNCTION, on_unknown=on_unknown)
        converter = Converter(self._store, self._reader, encoding, on_unknown)
        return converter.convert(_start(uid, conversation_id), dry_run=dry_run)


def _start(uid: str | None, conversation_id: str | None) -> str:
    if uid is None and conversation_id is not None:
        raise BadSelection(f"the conversation {conversation_id!r} is given without its uid")
    return f"{FOLDER}/" if uid is None else prefix(uid, conversation_id)


def _where(selection: Selection) -> str:
    return "" if selection == EVERYTHING else " for the selected times"
