"""Deletions that the bucket knows come back into a Redis that has forgotten them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import pytest

from tests.support.secret import TEST_SECRET
from worker.delivery.recovery import Recovery
from worker.model.ids import START, Conversation, EntryId
from worker.runtime.context import Context
from worker.runtime.metrics import Metrics
from worker.stores.retrying import RetryingStore
from worker.stores.tombstones import Tombstone
from worker.stream.entries import Entries

OURS, OTHER = "5d" * 16, "1b" * 16


class Bucket:
    """In the place of a store: it has one record of a deletion, of the user and of the conversation."""

    def __init__(self, streams: Mapping[str, EntryId]) -> None:
        self._streams = streams

    async def repeat(self, _: object, *, endless: bool) -> Tombstone:
        assert endless
        return Tombstone("a deletion", self._streams)


class Redis:
    """In the place of `Entries`."""

    def __init__(self) -> None:
        self.restored: dict[str, EntryId] = {}

    async def restore_tombstone(self, partition: int, name: str, last: EntryId) -> None:
        assert partition == 3
        self.restored[name] = last


@pytest.mark.parametrize(
    ("streams", "born", "last"),
    [
        pytest.param({OURS: "5-0"}, START, "5-0", id="of this stream"),
        pytest.param({OTHER: "5-0"}, START, None, id="of another stream"),
        pytest.param({OTHER: "5-0"}, "7-0", "5-0", id="of a stream whose id Redis may have forgotten"),
        pytest.param({OURS: "5-0", OTHER: "9-0"}, "7-0", "7-0", id="of both"),
        pytest.param({}, "7-0", None, id="of no stream, as there was none, or as only the store was told"),
    ],
)
async def test_deletions_come_back_for_the_entries_that_they_cover(
    streams: Mapping[str, EntryId], born: EntryId, last: EntryId | None
) -> None:
    redis = Redis()
    store = cast("RetryingStore", Bucket(streams))
    recovery = Recovery(store, None, cast("Entries", redis), [TEST_SECRET], Context(Metrics()))
    await recovery.restore_deletions(3, Conversation("u", "c"), OURS, born)
    assert redis.restored == ({} if last is None else {"u/": last, "u/c": last})
