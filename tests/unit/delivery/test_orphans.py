"""What becomes of an object whose seal was gone: it is removed only if no event can mean it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import cast

import pytest
from structlog.testing import capture_logs

from codec.metadata import BlobMetadata
from tests.support.clock import Clock
from tests.support.seals import SEAL
from worker.delivery.loss_inquiry import LossInquiry
from worker.delivery.orphans import Orphans
from worker.delivery.sink import BlobSink
from worker.errors import StoreError
from worker.model.causes import OrphanFate, StoreCause
from worker.model.stored_blob import Orphan, StoredBlob
from worker.runtime.context import Context
from worker.stream.entries import Entries

STORED = StoredBlob("its name", 7, BlobMetadata(chunks_digest="its chunks"), SEAL.entries, "its upload")


class Told:
    """In the place of Redis: events name these objects, which have the orphan's chunks."""

    def __init__(self, names: Sequence[str]) -> None:
        self._names = names

    async def abandon(self, _: Orphan, others: Sequence[str]) -> tuple[OrphanFate, str]:
        left = [name for name in self._names if name not in others]
        return (OrphanFate.COUNTED, left[0]) if left else (OrphanFate.UNCOUNTED, "")


class Stored:
    """In the place of the store: the uploads that have made its objects."""

    def __init__(self, uploads: Mapping[str, str]) -> None:
        self._uploads = uploads
        self.erased: list[StoredBlob] = []

    async def made(self, upload: str, name: str) -> bool | None:
        return self._uploads[name] == upload if name in self._uploads else None

    async def erase(self, stored: StoredBlob) -> None:
        self.erased.append(stored)


class Holding(Stored):
    """A store that forbids to remove one object for some tries."""

    def __init__(self, held: StoredBlob, tries: int) -> None:
        super().__init__({})
        self._held = held
        self.tries = tries
        self.asked = 0

    async def erase(self, stored: StoredBlob) -> None:
        if stored is self._held:
            self.asked += 1
            if self.asked <= self.tries:
                raise StoreError("HTTP 403: under a hold", cause=StoreCause.HELD)
        await super().erase(stored)


async def test_object_that_the_store_keeps_is_asked_for_ever_more_rarely_and_hinders_no_other() -> None:
    clock = Clock()
    other = replace(STORED, name="other", upload="other upload")
    store, held = Holding(STORED, 20), Orphan(0, SEAL, STORED)
    inquiry = LossInquiry(cast("Entries", None), Context())
    orphans = Orphans(cast("Entries", Told([])), cast("BlobSink", store), inquiry, Context(clock=clock))
    orphans.add(held)
    orphans.add(Orphan(0, SEAL, other))

    with capture_logs() as logs:
        for _ in range(1800):  # an hour, a look every two seconds
            await orphans.settle()
            clock.now += 2.0

    assert store.erased == [other]
    assert (held.fate, 10 < store.asked < 20) == (OrphanFate.WAITING, True)
    kept = [line for line in logs if line["event"] == "delivery.kept_by_store"]
    assert [(line["object"], line["cause"], line["error"]) for line in kept] == [
        ("its name", "held", "HTTP 403: under a hold")
    ]
    store.tries = 0
    clock.now += 600.0
    await orphans.settle()
    assert (held.fate, store.erased) == (OrphanFate.UNCOUNTED, [other, STORED])


@pytest.mark.parametrize(
    ("told", "objects", "fate"),
    [
        pytest.param(["its name"], {}, OrphanFate.COUNTED, id="its own name"),
        pytest.param(["b"], {"b": "its upload"}, OrphanFate.COUNTED, id="another name of its own"),
        pytest.param(["b"], {"b": "another upload"}, OrphanFate.UNCOUNTED, id="an object of another upload"),
        pytest.param(["b", "c"], {"b": "another", "c": "its upload"}, OrphanFate.COUNTED, id="both"),
        pytest.param(["b"], {}, OrphanFate.UNKNOWN, id="an object that is gone"),
        pytest.param([], {}, OrphanFate.UNCOUNTED, id="none"),
    ],
)
async def test_object_goes_only_if_no_event_means_it(
    told: list[str], objects: dict[str, str], fate: OrphanFate
) -> None:
    store, orphan = Stored(objects), Orphan(0, SEAL, STORED)
    inquiry = LossInquiry(cast("Entries", None), Context())
    orphans = Orphans(cast("Entries", Told(told)), cast("BlobSink", store), inquiry, Context())
    orphans.add(orphan)
    await orphans.settle()
    assert orphan.fate is fate
    assert store.erased == ([STORED] if fate is OrphanFate.UNCOUNTED else [])
