"""The seal: a closed batch's composition and object name, as Redis keeps them until the batch is done."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from codec.names import Codec, format_timestamp, parse_name
from worker.model.ids import Conversation, EntryId

if TYPE_CHECKING:
    from codec.entry import Protection

SEAL_VERSION = 1


@dataclass(frozen=True, slots=True)
class Seal:
    """Everything that a worker needs to store exactly this batch under exactly this name.

    `entries` are the ids of the chunks, `markers` the ids of other entries that leave with them, `silences` the samples
    of silence before a chunk. `start` and `last_start` are timestamps of chunks in Unix seconds, `samples` are at
    `sample_rate`. `stream` is the random id of the stream that holds the entries.
    """

    object: str
    uid: str
    conversation_id: str
    start: float
    last_start: float
    sample_rate: int
    samples: int
    protection: Protection
    codec: Codec
    trigger: str
    entries: tuple[EntryId, ...]
    markers: tuple[EntryId, ...] = ()
    silences: dict[EntryId, int] = field(default_factory=dict)
    stream: str = ""
    source: str = field(default="", compare=False, repr=False)

    @property
    def id(self) -> EntryId:
        """The seal's field in the hash of seals: the first entry, which no other batch can have."""
        return self.entries[0]

    @property
    def conversation(self) -> Conversation:
        """The conversation of the batch."""
        return Conversation(self.uid, self.conversation_id)

    @property
    def all_ids(self) -> tuple[EntryId, ...]:
        """Every entry that leaves Redis with the batch."""
        return self.entries + self.markers

    def to_json(self) -> str:
        """The text in Redis: byte for byte the text it was read from, because the done step compares texts."""
        if self.source:
            return self.source
        facts = {name: getattr(self, name) for name in self.__slots__ if name != "source"}
        facts["entries"] = " ".join(self.entries)
        facts["markers"] = " ".join(self.markers)
        return json.dumps({"v": SEAL_VERSION, **facts}, sort_keys=True, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str | bytes) -> Seal:
        """Read what `to_json` wrote; fields that a later version added are ignored.

        Raises:
            ValueError: it is not a seal that this version understands.
        """
        facts = json.loads(text)
        if facts.pop("v", None) != SEAL_VERSION:
            raise ValueError(f"the seal is not of version {SEAL_VERSION}")
        known = {name: value for name, value in facts.items() if name in cls.__slots__}
        known["entries"] = tuple(known["entries"].split())
        known["markers"] = tuple(known["markers"].split())
        return cls(**known, source=text.decode() if isinstance(text, bytes) else text)


def later_name(name: str, step: int) -> str:
    """The name `step` ms later, for a batch whose own name a foreign object has taken."""
    parsed = parse_name(name)
    start = parsed.start + step / 1000
    stem = format_timestamp(start)
    if parsed.end is not None:
        stem = f"{stem}-{format_timestamp(max(parsed.end, start))}"
    return str(replace(parsed, start=start, stem=stem))
