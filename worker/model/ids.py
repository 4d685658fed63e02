"""Ids of entries, streams and conversations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

EntryId = str
"""Id of a stream entry, "milliseconds-sequence" on Redis' clock."""

START: EntryId = "0-0"
"""The position before the first entry."""


@dataclass(frozen=True, slots=True)
class StreamIdentity:
    """A stream's random id, and facts about its entries at one moment.

    `first` is the oldest entry, `read_to` the last one that an owner had read. Redis may have forgotten what happened
    to entries up to `changed`; START if it has forgotten nothing. Entries up to `born` are older than the id: they may
    have been in a stream whose id Redis has forgotten. `server` identifies the server process and its data's history.
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
    """Sort key: ids compare as two numbers, not as text."""
    ms, _, sequence = entry.partition("-")
    return int(ms), int(sequence or 0)


class Conversation(NamedTuple):
    """The user and the conversation that a batch belongs to."""

    uid: str
    conversation_id: str

    def __str__(self) -> str:
        return f"{self.uid}/{self.conversation_id}"

    @property
    def tombstones(self) -> tuple[str, str]:
        """Names under which a deletion of the user or of the conversation is recorded; ids contain no slash."""
        return f"{self.uid}/", str(self)
