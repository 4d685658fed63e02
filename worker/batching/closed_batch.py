"""A closed batch on its way: what batcher hands to the partition, and the partition to delivery."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from codec.sessions import Numbers
from worker.batching.encoder import BatchEncoder
from worker.model.ids import START, EntryId
from worker.model.seal import Seal
from worker.model.states import BatchState
from worker.model.stored_blob import StoredBlob


@dataclass(slots=True, eq=False)
class ClosedBatch:
    """A batch whose composition will not change any more, with its audio on the way through the encoder.

    `chunks` are its entries that have come, in their order, with the identities of their chunks: all that the seal
    names, unless some have vanished. `closed_at` is monotonic seconds. `recovered` says that the entries may have been
    in a batch whose seal is forgotten, `doubtful` that Redis has indeed lost writes since. `seqs` are the numbers that
    the pusher gave to the chunks, `ends` what ends of the conversation say of these. `server` is the one that the seal
    was set on, `born` up to where entries are older than the stream's id, see `StreamIdentity`. `found` is where the
    audio was found to be stored already: the encoder has none. `state` is how far it is once it is sealed: only its
    delivery changes it.
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
    server: str = ""
    born: EntryId = START
    found: StoredBlob | None = None
    state: BatchState = BatchState.SEALED

    @property
    def identities(self) -> bytes:
        """Those of its chunks, joined in their order."""
        return b"".join(self.chunks.values())
