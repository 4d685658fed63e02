"""Turn the entries of one partition into batches; this takes all decisions, and asks neither Redis nor the store."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Protocol

from codec.entry import Chunk, End
from worker.batching.batch import Batch, BatchRules, seal_of
from worker.batching.closed_batch import ClosedBatch
from worker.batching.counting import ChunkCounter
from worker.batching.decisions import Decisions
from worker.batching.encoder import BatchEncoder, EncoderPool
from worker.batching.resumed_batch import ParsedEntry, ResumedBatch
from worker.model.ids import Conversation, EntryId, StreamIdentity, entry_ms, entry_order
from worker.model.recent_chunks import RecentChunks
from worker.model.seal import Seal
from worker.model.states import Trigger
from worker.model.stored_blob import StoredBlob
from worker.runtime.context import Context

NOTHING: Mapping[Any, Any] = MappingProxyType({})
NO_STREAM = StreamIdentity("")

IDLE_SECONDS = 120.0
"""Seconds without a chunk after which only Redis keeps a conversation's history."""


@dataclass(slots=True)
class OpenBatch:
    """A batch that still grows."""

    batch: Batch
    encoder: BatchEncoder


class Holder(Protocol):
    """A blob that holds a chunk with a given identity."""

    def may_hold(self, entry: EntryId) -> bool:
        """Whether this entry may be that chunk."""


class Batcher:
    """The open batches of one partition, and the sealed ones whose audio is read again.

    `decisions` tells what to do with the routed entries. `belongs` tells whether this partition is that of a
    conversation; other audio is stored all the same.
    """

    def __init__(
        self,
        partition: int,
        rules: BatchRules,
        encoders: EncoderPool,
        belongs: Callable[[str], bool],
        context: Context,
    ) -> None:
        self._partition = partition
        self._rules = rules
        self._encoders = encoders
        self._counter = ChunkCounter(belongs, context)
        self.clock = context.clock
        self._histories: dict[Conversation, RecentChunks] = {}
        self._tombstones: Mapping[str, EntryId] = {}
        self._identity = NO_STREAM
        self._found: Mapping[Conversation, Mapping[bytes, Holder]] = NOTHING
        self._next_sweep = 0.0
        self.open: dict[Conversation, OpenBatch] = {}
        self._resumed: dict[EntryId, ResumedBatch] = {}
        self._resuming: dict[EntryId, ResumedBatch] = {}
        self._decided = Decisions()

    def reset(
        self,
        seals: Iterable[Seal],
        tombstones: Mapping[str, EntryId] = NOTHING,
        identity: StreamIdentity = NO_STREAM,
        found: Mapping[Conversation, Mapping[bytes, Holder]] = NOTHING,
    ) -> None:
        """Begin at the start of the stream, where the entries of `seals` will come again.

        `found` holds, by identity, the chunks that the store was found to hold. It covers conversations in which Redis
        may have forgotten what became of entries.
        """
        self.drop()
        self._tombstones = tombstones
        self._identity = identity
        self._found = found
        for seal in seals:
            encoder = self._encoders.start(seal.codec, seal.sample_rate)
            resumed = ResumedBatch(seal, encoder, deque(sorted(seal.all_ids, key=entry_order)))
            self._resuming[seal.id] = resumed
            self._resumed.update(dict.fromkeys(seal.all_ids, resumed))

    def drop(self) -> None:
        """Forget all batches; none of them is being delivered, so all of them can be read again."""
        batches: list[OpenBatch | ResumedBatch] = [*self.open.values(), *self.resuming()]
        for batch in batches:
            batch.encoder.release()
        self.decisions().release()
        for held in (self.open, self._resumed, self._resuming, self._histories):
            held.clear()

    @property
    def is_idle(self) -> bool:
        """Whether nothing is here: no batch, no decision, and no history that time could make useless."""
        return not (self.open or self._resuming or self._histories) and self._decided.is_empty

    def decisions(self) -> Decisions:
        """Hand over the decisions since the last call; the batcher keeps none of them."""
        decided, self._decided = self._decided, Decisions()
        return decided

    def resuming(self) -> list[ResumedBatch]:
        """Sealed batches whose entries have not all come yet."""
        return list(self._resuming.values())

    def unknown(self, items: Iterable[ParsedEntry]) -> list[Conversation]:
        """Conversations whose history must be loaded before their chunks are routed."""
        return [
            conversation
            for conversation in dict.fromkeys(item.conversation for item in items)
            if conversation not in self._histories
        ]

    def finished_elsewhere(self, read_to: EntryId, came: Collection[EntryId]) -> list[Conversation]:
        """Conversations with a sealed batch that a former owner finished after we took it over.

        Its entries did not come, although the stream was read to `read_to`. The stored history has its chunks.
        """
        return [
            resumed.seal.conversation
            for resumed in self.resuming()
            if any(entry not in came for entry in resumed.overdue(read_to))
        ]

    def remember(self, conversation: Conversation, identities: bytes) -> None:
        """Load a conversation's history: the identities of chunks that are stored, or sealed and on their way."""
        self._histories.setdefault(conversation, RecentChunks()).precede(identities)

    def route(self, item: ParsedEntry) -> None:
        """Put an entry into the batch or the decision that it belongs to."""
        resumed = self._resumed.pop(item.id, None)
        if resumed is not None:
            self._resume(resumed, item)
        elif self.is_deleted(item.conversation, item.id):
            self._counter.deleted()
            self._decided.discarded.append(item.id)
        elif isinstance(item.content, Chunk):
            self._add(item.id, item.content)
        else:
            self._end(item)

    def is_deleted(self, conversation: Conversation, entry: EntryId) -> bool:
        """Whether an entry was pushed before a deletion of its conversation that we know of."""
        if not self._tombstones:
            return False
        pushed = entry_order(entry)
        return any(
            pushed <= entry_order(self._tombstones[tombstone])
            for tombstone in conversation.tombstones
            if tombstone in self._tombstones
        )

    def knows(self, deletions: Mapping[str, EntryId]) -> bool:
        """Whether we began after all of these deletions."""
        known = {name: entry_order(last) for name, last in self._tombstones.items() if name in deletions}
        return all(name in known and known[name] >= entry_order(last) for name, last in deletions.items())

    def is_doubtful(self, entry: EntryId) -> bool:
        """Whether Redis may have forgotten what became of an entry."""
        return entry_order(entry) <= entry_order(self._identity.changed)

    def close_aged(self, now_ms: int) -> None:
        """Close batches that are too old at Redis' time `now_ms`; `open` holds the oldest first."""
        now = self.clock()
        for conversation, held in list(self.open.items()):
            if held.batch.age(now_ms, now) < self._rules.limits.max_age:
                break
            self._close(conversation, Trigger.AGE)
        self._forget_idle(now)

    def interrupt(self, conversation: Conversation) -> None:
        """Close a conversation's open batch, because later audio is stored or on its way already.

        A batch must not reach across that audio.
        """
        if conversation in self.open:
            self._counter.cut(Trigger.GAP)
            self._close(conversation, Trigger.GAP)

    def close_all(self) -> None:
        """Close every open batch because the worker stops."""
        for conversation in list(self.open):
            self._close(conversation, Trigger.SHUTDOWN)

    def held(self, conversation: Conversation) -> dict[EntryId, bytes]:
        """Entries of a conversation's open and resumed batches, and the identities of their chunks."""
        held = self.open.get(conversation)
        found = held.batch.held if held else {}
        for resumed in self.resuming():
            if resumed.seal.conversation == conversation:
                found |= resumed.held
        return found

    def all_held(self) -> Iterator[tuple[Conversation, dict[EntryId, bytes]]]:
        """For each batch here its entries that have come, and the identities of their chunks."""
        for conversation, held in self.open.items():
            yield conversation, held.batch.held
        for resumed in self.resuming():
            yield resumed.seal.conversation, resumed.held

    def encoders(self, conversation: Conversation) -> list[BatchEncoder]:
        """The encoders that work on audio of a conversation."""
        held = self.open.get(conversation)
        found = [resumed.encoder for resumed in self.resuming() if resumed.seal.conversation == conversation]
        return [held.encoder, *found] if held else found

    def close_found(self, seal: Seal, chunks: Mapping[EntryId, bytes], found: StoredBlob) -> None:
        """Close a batch of entries whose chunks the store was found to hold."""
        encoder = self._encoders.start(seal.codec, seal.sample_rate)
        server = self._identity.server
        closed = ClosedBatch(self._partition, seal, encoder, chunks, self.clock(), server=server, found=found)
        self._decided.closed.append(closed)

    def complete_resumed(self, resumed: ResumedBatch) -> None:
        """Stop waiting for entries of a sealed batch, and deliver those that came."""
        self._leave(resumed)
        self._decided.completed.append(self._closed(resumed.seal, resumed.encoder, resumed))

    def drop_resumed(self, resumed: ResumedBatch) -> None:
        """Forget a sealed batch: another owner finished it, or its entries vanished or are dead letters."""
        self._leave(resumed)
        resumed.encoder.release()

    def _leave(self, resumed: ResumedBatch) -> None:
        self._resuming.pop(resumed.seal.id, None)
        for entry in resumed.missing:
            self._resumed.pop(entry, None)

    def _resume(self, resumed: ResumedBatch, item: ParsedEntry) -> None:
        resumed.strike(item.id)
        resumed.add(item)
        if isinstance(item.content, Chunk):
            if not self.is_deleted(item.conversation, item.id):
                history = self._histories[item.conversation]
                history.note(resumed.held[item.id])
                history.reached = max(history.reached, item.content.timestamp + item.content.duration)
            resumed.encoder.append(item.content.pcm, resumed.seal.silences.get(item.id, 0))
        if not resumed.missing:
            self.complete_resumed(resumed)

    def _add(self, entry: EntryId, chunk: Chunk) -> None:
        conversation = Conversation(chunk.uid, chunk.conversation_id)
        history = self._histories[conversation]
        history.touched_at = self.clock()
        identity = chunk.identity()
        if history.holds(identity):
            self._decided.duplicates[entry] = conversation
            return
        history.note(identity)
        blob = self._found.get(conversation, {}).get(identity)
        if blob is not None and blob.may_hold(entry):
            self.interrupt(conversation)
            self._decided.stored.setdefault(conversation, {})[entry] = identity
            return
        self._counter.chunk(chunk, history)
        held, silence = self._place(entry, chunk, history.reached)
        history.reached = max(history.reached, chunk.timestamp + chunk.duration)
        held.batch.add(entry, chunk, identity, silence)
        held.encoder.append(chunk.pcm, silence)
        if trigger := held.batch.full(self._rules.limits):
            self._close(held.batch.conversation, trigger)

    def _place(self, entry: EntryId, chunk: Chunk, reached: float) -> tuple[OpenBatch, int]:
        """The batch that takes the chunk, and the samples of silence before it; the audio so far has `reached`."""
        conversation = Conversation(chunk.uid, chunk.conversation_id)
        held = self.open.get(conversation)
        if held is not None and held.batch.aged(entry_ms(entry), self._rules.limits):
            self._close(conversation, Trigger.AGE)
        elif held is not None:
            verdict = held.batch.silence_before(chunk, self._rules.limits, reached)
            if isinstance(verdict, int):
                self._counter.silence(verdict, chunk.sample_rate)
                return held, verdict
            self._counter.cut(verdict)
            self._close(conversation, verdict)
        encoder = self._encoders.start(self._rules.codec, chunk.sample_rate)
        opened = self.open[conversation] = OpenBatch(Batch.of(chunk, self.clock()), encoder)
        return opened, 0

    def _end(self, item: ParsedEntry) -> None:
        held = self.open.get(item.conversation)
        self._counter.end(item, self._histories[item.conversation], batch_is_open=held is not None)
        if held is None or not isinstance(item.content, End):
            self._decided.discarded.append(item.id)
            return
        held.batch.end(item.id, item.content)
        self._close(item.conversation, Trigger.END)

    def _close(self, conversation: Conversation, trigger: Trigger) -> None:
        held = self.open.pop(conversation)
        seal = seal_of(held.batch, trigger, self._rules.codec, self._rules.naming, self._identity.stream)
        self._decided.closed.append(self._closed(seal, held.encoder, held.batch))

    def _closed(self, seal: Seal, encoder: BatchEncoder, contents: Batch | ResumedBatch) -> ClosedBatch:
        return ClosedBatch(
            self._partition,
            seal,
            encoder,
            contents.held,
            self.clock(),
            recovered=entry_order(seal.id) <= entry_order(self._identity.read_to),
            doubtful=self.is_doubtful(seal.id),
            seqs=contents.seqs,
            ends=contents.ends,
            trace=contents.trace,
            server=self._identity.server,
            born=self._identity.born,
        )

    def _forget_idle(self, now: float) -> None:
        """Forget the histories of idle conversations; the done step has put them into Redis."""
        if now < self._next_sweep:
            return
        self._next_sweep = now + IDLE_SECONDS
        busy = {*self.open, *(resumed.seal.conversation for resumed in self.resuming())}
        for conversation, history in list(self._histories.items()):
            if conversation not in busy and now - history.touched_at > IDLE_SECONDS:
                del self._histories[conversation]
