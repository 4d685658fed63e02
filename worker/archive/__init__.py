"""The read side: list, play, group, copy, delete, verify and convert stored audio, in every format ever written.

Nothing here consumes streams or builds batches.

archive = Archive(open_store("gs://bucket"), secrets=[current, *old])
download = await archive.download(uid, conversation_id)
report = await archive.save(download, Path("out.wav"))
"""

from codec.errors import BadName, BadSecret, LibopusMissing, NotASecret, WrongType
from worker.archive.archive import Archive
from worker.archive.blobs.conversations import ConversationSummary
from worker.archive.blobs.listing import Blob, Listing, UnknownObject
from worker.archive.blobs.reading import Problem
from worker.archive.playback.download import Download, DownloadReport
from worker.archive.playback.grouping import AudioFile, AudioFiles
from worker.archive.playback.repeated_audio import Repeat
from worker.archive.playback.seeking.audio_cache import AudioCache
from worker.archive.playback.seeking.recording import SeekableRecording
from worker.archive.playback.selection import Selection
from worker.archive.playback.timeline import MergeRules
from worker.archive.upkeep.conversion import Conversion, ConversionOutcome, Encoding
from worker.archive.upkeep.copying import BlobCopy, CopyReport
from worker.archive.upkeep.deletion import Deletion, Undeleted
from worker.archive.upkeep.verification import BlobVerdict, Fingerprint
from worker.audio.writing.formats import AudioFormat
from worker.errors import (
    AudioFileError,
    BadSelection,
    NothingReadable,
    NothingStored,
    SettingsError,
    StoreError,
    StreamError,
    WorkerError,
    WrongSecrets,
)
from worker.stores import open_store
from worker.stores.base import Store

__all__ = [
    "Archive",
    "AudioCache",
    "AudioFile",
    "AudioFileError",
    "AudioFiles",
    "AudioFormat",
    "BadName",
    "BadSecret",
    "BadSelection",
    "Blob",
    "BlobCopy",
    "BlobVerdict",
    "ConversationSummary",
    "Conversion",
    "ConversionOutcome",
    "CopyReport",
    "Deletion",
    "Download",
    "DownloadReport",
    "Encoding",
    "Fingerprint",
    "LibopusMissing",
    "Listing",
    "MergeRules",
    "NotASecret",
    "NothingReadable",
    "NothingStored",
    "Problem",
    "Repeat",
    "SeekableRecording",
    "Selection",
    "SettingsError",
    "Store",
    "StoreError",
    "StreamError",
    "Undeleted",
    "UnknownObject",
    "WorkerError",
    "WrongSecrets",
    "WrongType",
    "open_store",
]
