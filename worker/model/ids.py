"""What entries, streams and conversations are called. Entry ids order as pairs of numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

EntryId = str
"""Id of a stream entry, "milliseconds-sequence" on Redis' clock."""

START: EntryId = "0-0"
"""Before the first entry."""


@dataclass(frozen=True, slots=True)
class StreamIdentity:
    """A stream's random id, and what was known of its entries at a moment.

    `first` is the oldest one, `read_to` the last one that an owner had read. Redis may have forgotten what became of
    entries up to `changed`; START if it never did. Entries up to `born` are older than the id: they may have been in a
    stream whose id Redis has forgotten. `server` identifies the server process and its data's history.
    """

    stream: str
    first: EntryId = START
    read_to: EntryId = START
    changed: EntryId = START
    born: EntryId = START
    server: str = ""


def entry_ms(entry: EntryId) -> int:
    """Redis' time in ms at which the entry was pushed."""
    return int(entry.partition("-")[0])


def last_of_ms(ms: int) -> EntryId:
    """The greatest id of a millisecond."""
    return f"{ms}-{2**64 - 1}"


def entry_order(entry: EntryId) -> tuple[int, int]:
    """Sort key: ids order as two numbers, not as text."""
    ms, _, sequence = entry.partition("-")
    return int(ms), int(sequence or 0)


class Conversation(NamedTuple):
    """What a batch belongs to."""

    uid: str
    conversation_id: str

    def __str__(self) -> str:
        return f"{self.uid}/{self.conversation_id}"

    @property
    def tombstones(self) -> tuple[str, str]:
        """Under which a deletion of the user or of the conversation is recorded; ids hold no slash."""
        return f"{self.uid}/", str(self)
