"""A closed batch, as the batcher hands it to the partition and the partition hands it to the delivery."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from codec.entry import Trace
from codec.sessions import Numbers
from worker.batching.encoder import BatchEncoder
from worker.model.ids import START, EntryId
from worker.model.seal import Seal
from worker.model.states import BatchState
from worker.model.stored_blob import StoredBlob


@dataclass(slots=True, eq=False)
class ClosedBatch:
    """A batch whose composition will not change any more, with its audio on the way through the encoder.

    `chunks` maps its entries that have come, in their order, to the identities of their chunks. These are all entries
    that the seal names, unless some have vanished. `closed_at` is in monotonic seconds. `recovered` says that the
    entries may have been in a batch whose seal Redis has forgotten. `doubtful` says that Redis has indeed lost writes
    since. `seqs` holds the numbers that the pusher gave to the chunks, and `ends` the numbers that ends of the
    conversation give. `trace` is that of the first chunk that has one. `server` is the server on which the seal was
    set. Entries up to `born` are older than the stream's id, see `StreamIdentity`. `found` tells where the store holds
    the audio already; then the encoder has none. `state` is the state of a sealed batch; only its delivery changes it.
    """

    partition: int
    seal: Seal
    encoder: BatchEncoder
    chunks: Mapping[EntryId, bytes]
    closed_at: float
    recovered: bool = False
    doubtful: bool = False
    seqs: Numbers = field(default_factory=dict)
    ends: Numbers = field(default_factory=dict)
    trace: Trace | None = None
    server: str = ""
    born: EntryId = START
    found: StoredBlob | None = None
    state: BatchState = BatchState.SEALED

    @property
    def identities(self) -> bytes:
        """The identities of its chunks, joined in their order."""
        return b"".join(self.chunks.values())
