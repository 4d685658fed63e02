"""What a partition knows of its batches that are closed, and neither sealed nor being delivered."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

import pytest

from tests.support.seals import SEAL
from worker.batching.batcher import Batcher
from worker.batching.closed_batch import ClosedBatch
from worker.batching.decisions import Decisions
from worker.batching.encoder import BatchEncoder
from worker.consuming.partition import Partition
from worker.delivery.delivery import Delivery
from worker.delivery.recovery import Recoveries
from worker.model.ids import Conversation
from worker.runtime.context import Context
from worker.stream.entries import Entries
from worker.stream.leases import Lease

CONVERSATION = SEAL.conversation
STORED, HELD = b"stored..", b"held...."


class Batching:
    """In the place of a batcher: it has decided to close one batch, and holds no other."""

    def __init__(self) -> None:
        encoder = cast("BatchEncoder", SimpleNamespace(release=lambda: None))
        self.decided = Decisions(closed=[ClosedBatch(0, SEAL, encoder, {SEAL.id: HELD}, 0.0)])
        self.remembered: dict[Conversation, bytes] = {}
        self.open: dict[Conversation, object] = {}

    def clock(self) -> float:
        return 0.0

    def close_all(self) -> None:
        """Its decision is made already."""

    def decisions(self) -> Decisions:
        decided, self.decided = self.decided, Decisions()
        return decided

    def is_deleted(self, *_: object) -> bool:
        return False

    def remember(self, conversation: Conversation, identities: bytes) -> None:
        self.remembered[conversation] = identities

    def held(self, _: Conversation) -> dict[str, bytes]:
        return {}

    def all_held(self) -> list[tuple[Conversation, dict[str, bytes]]]:
        return []

    def drop(self) -> None:
        """It holds nothing."""


class Stored:
    """In the place of Redis: it remembers one chunk of each conversation."""

    async def seen(self, _: int, conversations: list[Conversation]) -> list[bytes]:
        return [STORED for _ in conversations]


@pytest.fixture
def batching() -> Batching:
    return Batching()


@pytest.fixture
def partition(batching: Batching) -> Partition:
    delivery = SimpleNamespace(timed=None, inquiry=SimpleNamespace(record=None))
    recoveries = SimpleNamespace(stop=lambda: None)
    made = Partition(
        Lease(0, "token", 1, 0.0),
        cast("Batcher", batching),
        cast("Entries", Stored()),
        cast("Delivery", delivery),
        cast("Recoveries", recoveries),
        Context(),
    )
    made.close_all()
    return made


async def test_history_that_is_loaded_again_has_the_chunks_that_wait_for_their_seal(
    partition: Partition, batching: Batching
) -> None:
    await partition._remember([CONVERSATION])
    assert batching.remembered == {CONVERSATION: STORED + HELD}


def test_closed_batch_counts_as_held_and_pending_until_it_is_dropped(partition: Partition) -> None:
    assert partition.held() == {CONVERSATION: {SEAL.id: HELD}}
    assert partition._identities(CONVERSATION) == {SEAL.id: HELD}
    assert partition.unsealed == 1
    partition.drop()
    assert partition.held() == {}
    assert partition._identities(CONVERSATION) == {}
    assert partition.unsealed == 0
