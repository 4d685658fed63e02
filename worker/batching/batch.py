"""Collect chunks into a batch, and decide what closes it; pure, the clock is an argument."""

from __future__ import annotations

from dataclasses import dataclass, field

from codec.entry import CLEAR_PROTECTION, Chunk, End, Protection, Trace
from codec.manifest import split
from codec.names import Codec, Naming, kind_of_new, object_name
from codec.seqs import Span
from codec.sessions import Numbers, note, session_name
from worker.model.ids import Conversation, EntryId, entry_ms
from worker.model.seal import Seal
from worker.model.states import Trigger

MAX_ENTRIES = 10_000
"""Most chunks in a batch: seal and done step of more would hold Redis up. Pushers send 6 ms or more at a time."""


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """The limits at which a batch closes.

    `max_seconds` limits the audio, `max_age` the seconds since the first entry, `max_bytes` the PCM. `gap_tolerance` is
    the allowed jitter in seconds.
    """

    max_seconds: float
    max_age: float
    max_bytes: int
    gap_tolerance: float


@dataclass(frozen=True, slots=True)
class BatchRules:
    """How to cut and name batches."""

    limits: BatchLimits
    codec: Codec
    naming: Naming


@dataclass(slots=True)
class Batch:
    """Consecutive chunks of one conversation, in the order of the stream.

    `samples` counts the audio and the silence that fills gaps, at `sample_rate`. `entries` holds the ids of the chunks,
    and `identities` their identities in the same order. `markers` holds the ids of entries without audio that leave
    Redis with the batch. `silences` holds the samples of silence before a chunk. `seqs` holds the numbers that the
    pusher gave to the chunks, and `ends` the numbers that ends of the conversation give. `trace` is that of the first
    chunk that has one. `opened_at` is the monotonic
    time in seconds at which this worker began the batch.
    """

    conversation: Conversation
    sample_rate: int
    protection: Protection
    start: float
    opened_at: float = 0.0
    last_start: float = 0.0
    samples: int = 0
    pcm_bytes: int = 0
    entries: list[EntryId] = field(default_factory=list)
    markers: list[EntryId] = field(default_factory=list)
    silences: dict[EntryId, int] = field(default_factory=dict)
    identities: bytearray = field(default_factory=bytearray)
    seqs: Numbers = field(default_factory=dict)
    ends: Numbers = field(default_factory=dict)
    trace: Trace | None = None

    @classmethod
    def of(cls, chunk: Chunk, now: float = 0.0) -> Batch:
        """Make an empty batch that `chunk` can begin at monotonic time `now`."""
        conversation = Conversation(chunk.uid, chunk.conversation_id)
        return cls(conversation, chunk.sample_rate, chunk.protection, chunk.timestamp, now)

    @property
    def seconds(self) -> float:
        """Length of the audio."""
        return self.samples / self.sample_rate

    @property
    def opened_ms(self) -> int:
        """Redis' time of the first entry in ms."""
        return entry_ms(self.entries[0])

    @property
    def held(self) -> dict[EntryId, bytes]:
        """The identity of each chunk, by its entry."""
        return dict(zip(self.entries, split(self.identities), strict=True))

    def silence_before(self, chunk: Chunk, limits: BatchLimits, reached: float = 0.0) -> int | Trigger:
        """Samples of silence before `chunk` if it continues this batch, else the trigger that closes the batch first.

        Timestamps jitter; the sample count does not. Within the tolerance, the chunk follows without a gap. If the
        conversation has `reached` further than this batch, which came late then, the gap is not silence: it has audio.
        """
        if (chunk.sample_rate, chunk.protection) != (self.sample_rate, self.protection):
            return Trigger.FORMAT
        drift = chunk.timestamp - (self.start + self.seconds)
        if drift < -limits.gap_tolerance:
            return Trigger.GAP
        silence = round(drift * self.sample_rate) if drift > limits.gap_tolerance else 0
        if silence and reached - (self.start + self.seconds) > limits.gap_tolerance:
            return Trigger.GAP
        fits = self.samples + silence + chunk.samples <= limits.max_seconds * self.sample_rate
        if not fits:
            return Trigger.GAP if silence else Trigger.AUDIO
        return silence

    def add(self, entry: EntryId, chunk: Chunk, identity: bytes, silence: int) -> None:
        """Append a chunk after `silence` samples of silence.

        The caller gives the identity, because computing it reads all audio of the chunk.
        """
        if silence:
            self.silences[entry] = silence
        self.entries.append(entry)
        self.identities += identity
        if chunk.seq is not None:
            note(self.seqs, chunk.session, chunk.seq)
        self.trace = self.trace or chunk.trace
        self.last_start = chunk.timestamp
        self.samples += silence + chunk.samples
        self.pcm_bytes += len(chunk.pcm)

    def full(self, limits: BatchLimits) -> Trigger | None:
        """The trigger that closes the batch at once, after a chunk was added."""
        if self.samples >= limits.max_seconds * self.sample_rate:
            return Trigger.AUDIO
        if self.pcm_bytes >= limits.max_bytes or len(self.entries) >= MAX_ENTRIES:
            return Trigger.BYTES
        return None

    def end(self, entry: EntryId, end: End) -> None:
        """Let an end leave Redis with the batch."""
        self.markers.append(entry)
        if end.seq is not None:
            self.ends[session_name(end.session)] = [Span(end.seq, end.seq)]

    def aged(self, now_ms: int, limits: BatchLimits) -> bool:
        """Whether the batch is too old at Redis' time `now_ms`."""
        return now_ms - self.opened_ms >= limits.max_age * 1000

    def age(self, now_ms: int, now: float) -> float:
        """Seconds since its first entry at Redis' time `now_ms` and monotonic time `now`.

        Ids may be from the future: Redis' clock was set back, or a pusher chose an id. Then the age is the time since
        this worker began the batch.
        """
        by_redis = (now_ms - self.opened_ms) / 1000
        return by_redis if by_redis >= 0 else now - self.opened_at


def seal_of(batch: Batch, trigger: Trigger, codec: Codec, naming: Naming, stream: str) -> Seal:
    """Fix a batch's composition and name."""
    several = len(batch.entries) > 1
    name = object_name(
        *batch.conversation,
        batch.start,
        end=batch.last_start if several else None,
        kind=kind_of_new(codec, naming, encrypted=batch.protection != CLEAR_PROTECTION),
    )
    return Seal(
        object=name,
        uid=batch.conversation.uid,
        conversation_id=batch.conversation.conversation_id,
        start=batch.start,
        last_start=batch.last_start,
        sample_rate=batch.sample_rate,
        samples=batch.samples,
        protection=batch.protection,
        codec=codec,
        trigger=trigger.value,
        entries=tuple(batch.entries),
        markers=tuple(batch.markers),
        silences=dict(batch.silences),
        stream=stream,
    )
