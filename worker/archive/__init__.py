"""The read side: list, play, group, copy, delete, verify and convert what is stored, in every format ever written.

archive = Archive(open_store("gs://bucket"), secrets=[current, *old])
download = await archive.download(uid, conversation_id)
report = await archive.save(download, Path("out.wav"))
"""

from worker.archive.archive import Archive
from worker.archive.blobs.listing import Blob, Listing, Stranger
from worker.archive.blobs.reading import Problem
from worker.archive.playback.download import Download, Report
from worker.archive.playback.grouping import AudioFile, AudioFiles
from worker.archive.playback.selection import Selection
from worker.archive.playback.timeline import Rules
from worker.archive.upkeep.conversion import Conversion, Encoding, Outcome
from worker.archive.upkeep.copying import Copy, CopyReport
from worker.archive.upkeep.deletion import Deletion, Left
from worker.archive.upkeep.verification import Fingerprint, Verdict

__all__ = [
    "Archive",
    "AudioFile",
    "AudioFiles",
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
    "Outcome",
    "Problem",
    "Report",
    "Rules",
    "Selection",
    "Stranger",
    "Verdict",
]
