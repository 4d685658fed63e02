"""A closed batch on its way: what intake hands to the partition, and the partition to delivery."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from codec.seqs import Span
from worker.encoding import Recording
from worker.seal import Seal


@dataclass(frozen=True, slots=True)
class Closed:
    """A batch that will not change any more, with its audio on the way through the encoder.

    `closed_at` is monotonic seconds; `recovered` says that its entries may have been in a batch whose seal is
    forgotten, `doubtful` that Redis has indeed lost writes since; `seqs` are the numbers that the pusher gave to the
    chunks.
    """

    partition: int
    seal: Seal
    recording: Recording
    identities: bytes
    closed_at: float
    recovered: bool = False
    seqs: Sequence[Span] = ()
    doubtful: bool = False
