"""What the owner of a partition does about entries that may be lost: it expects them again, or it asks another server.

While the server and the stream are the same, lost entries are those that do not come again. Otherwise only an inquiry
can tell.
"""

from __future__ import annotations

from collections.abc import Sequence

from worker.batching.closed_batch import ClosedBatch
from worker.delivery.loss_account import LossAccount
from worker.delivery.loss_inquiry import LossInquiry
from worker.model.holding import ChunksHeld, Holding
from worker.model.ids import EntryId, StreamIdentity
from worker.model.stored_blob import StoredBlob
from worker.stream.leases import Lease


class LossWatch:
    """Decides for one partition whether `losses` expects entries again or `inquiry` asks about them."""

    def __init__(self, lease: Lease, losses: LossAccount, inquiry: LossInquiry) -> None:
        self._lease = lease
        self._losses = losses
        self._inquiry = inquiry
        self._identity = StreamIdentity("")

    def taken_over(self, found: StreamIdentity, held: ChunksHeld) -> None:
        """Expect what was in hand; if another server or stream was found, an inquiry tells what is lost."""
        self._losses.expect_chunks(held)
        if (found.server, found.stream) != (self._identity.server, self._identity.stream):
            self._inquire()
        self._identity = found

    def abandoned(self, held: ChunksHeld) -> None:
        """Ask about all that was in hand, because another owner will read the stream."""
        self._losses.expect_chunks(held)
        self._inquire()

    def seal_refused(self, closed: ClosedBatch, vanished: Sequence[EntryId]) -> None:
        """Expect a batch whose seal was refused, or only those of its entries that have vanished."""
        gone = set(vanished or closed.seal.all_ids)
        chunks = {entry: identity for entry, identity in closed.chunks.items() if entry in gone}
        self._losses.expect(gone - chunks.keys())
        self._losses.expect_chunks({closed.seal.conversation: chunks})

    def not_stored(self, closed: ClosedBatch, stored: StoredBlob | None) -> None:
        """Expect the chunks of a batch that are not in `stored`; None if its delivery failed."""
        covered = () if stored is None else stored.covered
        holding = self._holding(closed).without(covered)
        if stored is not None:
            self._losses.stored_beside(covered)
            if stored.orphan is not None:
                stored.orphan.holding = holding
                self._losses.orphaned(stored.orphan)
        if self._lease.lost or closed.server != self._identity.server:
            if stored is None or stored.orphan is None:
                self._inquiry.keep(holding)
        else:
            self._losses.expect(closed.seal.markers)
            self._losses.expect_chunks(holding.chunks)

    def _inquire(self) -> None:
        server, stream = self._identity.server, self._identity.stream
        chunks = self._losses.hand_over()
        self._inquiry.keep(Holding(self._lease.partition, server, stream, self._lease.renewed, chunks))

    def _holding(self, closed: ClosedBatch) -> Holding:
        """The chunks of a batch that is sealed and not stored, unless the store was found to hold them."""
        chunks = closed.chunks if closed.found is None else {}
        seal, lease = closed.seal, self._lease
        return Holding(lease.partition, closed.server, seal.stream, lease.renewed, {seal.conversation: chunks})
