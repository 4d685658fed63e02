"""The read side: list, play, group, copy, delete, verify and convert what is stored, in every format ever written.

archive = Archive(open_store("gs://bucket"), secrets=[current, *old])
download = await archive.download(uid, conversation_id)
report = await archive.save(download, Path("out.wav"))
"""

from worker.archive.archive import Archive
from worker.archive.conversion import Conversion, Encoding, Outcome
from worker.archive.copying import Copy, CopyReport
from worker.archive.deletion import Deletion, Left
from worker.archive.grouping import AudioFile, AudioFiles
from worker.archive.listing import Blob, Listing, Stranger
from worker.archive.merging import Download, Report
from worker.archive.reading import Problem
from worker.archive.selection import Selection
from worker.archive.timeline import Rules
from worker.archive.verification import Fingerprint, Verdict
from worker.errors import AudioFileError, BadSelection, NothingStored, SettingsError, StoreError
from worker.stores import Store, open_store

__all__ = [
    "Archive",
    "AudioFile",
    "AudioFileError",
    "AudioFiles",
    "BadSelection",
    "Blob",
    "Conversion",
    "Copy",
    "CopyReport",
    "Deletion",
    "Download",
    "Encoding",
    "Fingerprint",
    "Left",
    "Listing",
    "NothingStored",
    "Outcome",
    "Problem",
    "Report",
    "Rules",
    "Selection",
    "SettingsError",
    "Store",
    "StoreError",
    "Stranger",
    "Verdict",
    "open_store",
]
