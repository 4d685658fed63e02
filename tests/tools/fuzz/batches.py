"""The batch logic under the fuzzer: whatever entries come, each ends in exactly one place and no sample is lost."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import chain
from typing import cast

from codec.entry import Chunk, parse
from codec.errors import BadEntry
from codec.names import parse_name
from worker.batching.batch import BatchLimits, BatchRules
from worker.batching.batcher import Batcher
from worker.batching.encoder import EncoderPool
from worker.batching.resumed_batch import ParsedEntry
from worker.model.ids import EntryId, StreamIdentity
from worker.model.seal import Seal
from worker.runtime.context import Context

FIELDS = (b"uid", b"conversation_id", b"timestamp", b"pcm", b"sample_rate", b"protection", b"seq", b"end")
LIMITS = BatchLimits(max_seconds=0.01, max_age=0.05, max_bytes=400, gap_tolerance=0.002)
STEP_MS = 7


class Counted:
    """In place of a recording: counts the samples that it is given."""

    def __init__(self) -> None:
        self.samples = 0

    def append(self, pcm: bytes, silence: int = 0) -> None:
        assert silence >= 0
        self.samples += silence + len(pcm) // 2

    def release(self) -> None:
        """Nothing is held."""


class Counting:
    """In place of the recorder."""

    def start(self, *_: object) -> Counted:
        return Counted()


def entries_of(data: bytes) -> Iterator[Mapping[bytes, bytes]]:
    """Entries of eight lines, one per field; an empty line leaves its field out."""
    lines = data.split(b"\n")
    for first in range(0, len(lines), len(FIELDS)):
        fields = zip(FIELDS, lines[first : first + len(FIELDS)], strict=False)
        yield {name: value for name, value in fields if value}


def batches(data: bytes) -> None:
    """Every entry is bad, void, or in one batch; batches hold all samples, keep their limits, and can be sealed."""
    rules = BatchRules(LIMITS, "opus", "range")
    batcher = Batcher(0, rules, cast("EncoderPool", Counting()), lambda _: True, Context(clock=lambda: 0.0))
    batcher.reset([], {}, StreamIdentity("5d" * 16), {})
    items, bad = route(batcher, data)
    batcher.close_all()
    decided = batcher.decisions()
    void = {*decided.discarded, *decided.duplicates}
    seals = [closed.seal for closed in decided.closed]
    ids = [*bad, *void, *chain.from_iterable(seal.all_ids for seal in seals)]
    assert len(ids) == len(set(ids)) == len(list(entries_of(data)))
    heard = sum(item.content.samples for item in items if isinstance(item.content, Chunk) and item.id not in void)
    assert sum(seal.samples - sum(seal.silences.values()) for seal in seals) == heard
    for closed in decided.closed:
        check(closed.seal, cast("Counted", closed.encoder))


def route(batcher: Batcher, data: bytes) -> tuple[list[ParsedEntry], list[EntryId]]:
    """What the partition does with a page, entry by entry; time passes."""
    items, bad = [], []
    for number, fields in enumerate(entries_of(data)):
        entry: EntryId = f"{1 + number * STEP_MS}-0"
        try:
            item = ParsedEntry(entry, parse(fields))
        except BadEntry:
            bad.append(entry)
        else:
            for conversation in batcher.unknown([item]):
                batcher.remember(conversation, b"")
            batcher.route(item)
            items.append(item)
        batcher.close_aged(1 + number * STEP_MS)
    return items, bad


def check(seal: Seal, recording: Counted) -> None:
    """A seal says what was recorded, fits its limits unless it is a single chunk, and is read as it is written."""
    assert recording.samples == seal.samples
    assert len(seal.entries) == 1 or seal.samples <= LIMITS.max_seconds * seal.sample_rate
    assert Seal.from_json(seal.to_json()) == seal
    assert str(parse_name(seal.object)) == seal.object
