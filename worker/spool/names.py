"""Names of the files in a spool: they tell the state of a blob, and all that is decided without opening its file.

`{first entry}_{last entry}_{partition}_{origin}_{conversation}_{bytes}.spooled`, origin and conversation as digests.
One name always means the same audio, so that a file that is renamed onto it is a duplicate.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from hashlib import sha256

from worker.model.ids import Conversation, EntryId, entry_order
from worker.model.states import BatchState

_ENTRY = r"[0-9]{1,19}-[0-9]{1,19}"
_NAME = re.compile(
    rf"(?P<first>{_ENTRY})_(?P<last>{_ENTRY})_(?P<partition>[0-9]{{1,5}})_(?P<origin>[0-9a-f]{{8}})"
    r"_(?P<conversation>[0-9a-f]{16})_(?P<size>[0-9]{1,12})(\.(?P<token>[0-9a-f]{1,32}))?\.(?P<state>[a-z]+)"
)


class FileState(StrEnum):
    """What may be done with a file, as its name's extension; for a complete file, also the state of its batch."""

    WRITING = "writing"  # it is being written, and its audio is still in Redis
    SPOOLED = BatchState.SPOOLED.value  # it is complete and synced, and any worker may upload it
    UPLOADING = BatchState.UPLOADING.value  # a worker uploads it, and touches it as long as it lives
    DONE = BatchState.DONE.value  # it is in the store and may be removed


class FileFlaw(StrEnum):
    """Why a person must look at a file."""

    DAMAGED = "damaged"  # it is complete, but not as it was written
    TORN = "torn"  # its worker died while it wrote, and its audio has left Redis


WAITING = (FileState.SPOOLED, FileState.UPLOADING)
"""States of complete files that are not in the store yet."""


@dataclass(frozen=True, slots=True)
class SpoolOwner:
    """Where blobs come from and go: STORE_URL, and the STREAM_PREFIX under which Redis records deletions."""

    store_url: str
    prefix: str

    @property
    def digest(self) -> str:
        """Its form in file names."""
        return _digest(self.store_url.rstrip("/"), self.prefix)[:8]


@dataclass(frozen=True, slots=True)
class Stem:
    """The facts of a blob in its file's name; `size` is that of the whole file in bytes."""

    first: EntryId
    last: EntryId
    partition: int
    origin: str
    conversation: str
    size: int

    def __str__(self) -> str:
        return f"{self.first}_{self.last}_{self.partition}_{self.origin}_{self.conversation}_{self.size}"


@dataclass(frozen=True, slots=True)
class SpoolFile:
    """One file; `token` tells apart writers of the same blob, and only files in state `writing` have one."""

    stem: Stem
    state: FileState
    token: str = ""

    @property
    def name(self) -> str:
        """The file's name."""
        return ".".join(part for part in (str(self.stem), self.token, self.state) if part)

    @property
    def order(self) -> tuple[int, int]:
        """Sort key: the oldest audio first."""
        return entry_order(self.stem.first)


def conversation_digest(conversation: Conversation) -> str:
    """The form of a conversation in file names."""
    return _digest(*conversation)[:16]


def parse_spool_name(name: str) -> SpoolFile | None:
    """Read a file's name; None if it is not one of the spool's."""
    found = _NAME.fullmatch(name)
    if found is None or found["state"] not in list(FileState):
        return None
    state = FileState(found["state"])
    if bool(found["token"]) is not (state is FileState.WRITING):
        return None
    stem = Stem(
        found["first"],
        found["last"],
        int(found["partition"]),
        found["origin"],
        found["conversation"],
        int(found["size"]),
    )
    return SpoolFile(stem, state, found["token"] or "")


def _digest(*parts: str) -> str:
    return sha256("\0".join(parts).encode()).hexdigest()
