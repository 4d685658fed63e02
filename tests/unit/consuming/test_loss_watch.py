"""Whether entries are expected again, or another server is asked about them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

import pytest

from codec.metadata import BlobMetadata
from tests.support.seals import SEAL
from worker.batching.closed_batch import ClosedBatch
from worker.batching.encoder import BatchEncoder
from worker.consuming.loss_watch import LossWatch
from worker.delivery.loss_account import LossAccount
from worker.delivery.loss_inquiry import LossInquiry
from worker.model.holding import ChunksHeld, Holding
from worker.model.ids import StreamIdentity
from worker.model.stored_blob import Orphan, StoredBlob
from worker.runtime.context import Context
from worker.runtime.metrics import PREFIX
from worker.stream.leases import Lease

WHOSE = SEAL.conversation
CHUNKS = {entry: f"{entry:8}".encode() for entry in SEAL.entries}
HERE = StreamIdentity("stream", server="here")


class Watching:
    """A partition whose batch was sealed on the server `here`."""

    def __init__(self) -> None:
        self.lease = Lease(0, "token", 1, 0.0)
        self.context = Context()
        self.losses = LossAccount(0, self.context.metrics)
        self.asked: list[Holding] = []
        self.watch = LossWatch(self.lease, self.losses, cast("LossInquiry", SimpleNamespace(keep=self.asked.append)))
        self.watch.taken_over(HERE, {})
        self.asked.clear()
        encoder = cast("BatchEncoder", None)
        self.closed = ClosedBatch(0, SEAL, encoder, CHUNKS, 0.0, server="here")

    @property
    def chunks_asked(self) -> list[ChunksHeld]:
        return [holding.chunks for holding in self.asked]

    def lost(self) -> float:
        """How many entries are lost if the stream ends now."""
        self.losses.reached_end()
        return self.context.metrics.registry.get_sample_value(f"{PREFIX}_lost_entries_total") or 0.0


@pytest.fixture
def watching() -> Watching:
    return Watching()


def stored(*covered: str, orphan: Orphan | None = None) -> StoredBlob:
    return StoredBlob(SEAL.object, 1, BlobMetadata(), covered, "upload", complete=False, orphan=orphan)


def test_the_same_server_must_bring_again_what_was_in_hand(watching: Watching) -> None:
    watching.watch.taken_over(HERE, {WHOSE: CHUNKS})
    assert (watching.asked, watching.lost()) == ([], 3)


def test_another_server_is_asked_and_no_entry_is_expected_of_it(watching: Watching) -> None:
    watching.watch.taken_over(StreamIdentity("stream", server="there"), {WHOSE: CHUNKS})
    (holding,) = watching.asked
    assert (holding.server, holding.chunks, watching.lost()) == ("here", {WHOSE: CHUNKS}, 0)


def test_what_an_abandoned_partition_had_is_asked_about(watching: Watching) -> None:
    watching.watch.abandoned({WHOSE: CHUNKS})
    assert (watching.chunks_asked, watching.lost()) == ([{WHOSE: CHUNKS}], 0)


def test_of_a_refused_seal_only_what_has_vanished_is_expected(watching: Watching) -> None:
    watching.watch.seal_refused(watching.closed, ["1-1", "13-0"])
    assert watching.lost() == 2


def test_a_seal_refused_for_another_reason_makes_its_whole_batch_expected(watching: Watching) -> None:
    watching.watch.seal_refused(watching.closed, [])
    assert watching.lost() == 4


def test_of_a_batch_stored_in_part_the_rest_and_the_end_are_expected(watching: Watching) -> None:
    watching.watch.not_stored(watching.closed, stored("1-0", "1-1"))
    assert (watching.asked, watching.lost()) == ([], 2)


@pytest.mark.parametrize("lease_lost", [True, False])
def test_a_failed_delivery_is_asked_about_if_another_owner_or_server_has_the_stream(
    watching: Watching, lease_lost: bool
) -> None:
    watching.lease.lost = lease_lost
    if not lease_lost:
        watching.watch.taken_over(StreamIdentity("stream", server="there"), {})
        watching.asked.clear()
    watching.watch.not_stored(watching.closed, None)
    assert (watching.chunks_asked, watching.lost()) == ([{WHOSE: CHUNKS}], 0)


def test_an_orphan_keeps_its_chunks_until_its_fate_is_known(watching: Watching) -> None:
    watching.lease.lost = True
    orphan = Orphan(0, SEAL, stored())
    watching.watch.not_stored(watching.closed, stored("1-0", orphan=orphan))
    assert orphan.holding is not None
    assert orphan.holding.chunks == {WHOSE: {entry: CHUNKS[entry] for entry in ("1-1", "12-0")}}
    assert (watching.asked, watching.lost()) == ([], 0)
