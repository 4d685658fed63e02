"""Which entries go to the dead letters, and with which reason."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any, cast

import pytest
from structlog.testing import capture_logs

from tests.support.oracle import Talk
from tests.support.seals import SEAL
from worker.batching.batcher import Batcher
from worker.batching.resumed_batch import ParsedEntry
from worker.consuming.quarantine import QUARANTINE_AFTER, Quarantine
from worker.model.ids import Conversation
from worker.model.seal import Seal
from worker.runtime.context import Context
from worker.runtime.digest import Digest
from worker.runtime.metrics import PREFIX, Metrics
from worker.stream.entries import Entries
from worker.stream.leases import Lease
from worker.stream.replies import Entry

FIELDS = {b"uid": b"u", b"conversation_id": b"c", b"pcm": b"xx"}


class RecordedEntries:
    """In the place of Redis: counts tries, and keeps what became a dead letter."""

    def __init__(self, tries: int = 1) -> None:
        self.tries = tries
        self.dead: dict[str, str] = {}
        self.cleared: list[Conversation] = []
        self.unsealed: list[Seal] = []

    async def mark_suspect(self, _: Lease, __: Conversation) -> int:
        return self.tries

    async def clear_suspect(self, _: Lease, conversation: Conversation) -> None:
        self.cleared.append(conversation)

    async def dead_letter(self, _: Lease, reasons: Mapping[str, str]) -> int:
        self.dead |= reasons
        return len(reasons)

    async def unseal(self, _: Lease, seal: Seal) -> None:
        self.unsealed.append(seal)


class Resuming:
    """In the place of a batcher that reads sealed batches again."""

    def __init__(self, *seals: Seal) -> None:
        self.batches = [SimpleNamespace(seal=seal) for seal in seals]

    def resuming(self) -> list[SimpleNamespace]:
        return list(self.batches)

    def drop_resumed(self, resumed: SimpleNamespace) -> None:
        self.batches.remove(resumed)


def quarantine(
    entries: RecordedEntries, metrics: Metrics | None = None, *seals: Seal, digest: Digest | None = None
) -> Quarantine:
    lease = Lease(0, "token", 1, 0.0)
    context = Context(metrics or Metrics(), digest=digest or Digest())
    return Quarantine(lease, cast("Batcher", Resuming(*seals)), cast("Entries", entries), context)


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        (Entry("1-0", {b"hello": b"world"}), "uid is missing"),
        (Entry("1-0", {}, 5_000_000), "the entry has 5000000 bytes, more than any chunk"),
    ],
)
async def test_entry_that_can_not_be_read_becomes_a_dead_letter_with_its_reason(entry: Entry, reason: str) -> None:
    redis, metrics = RecordedEntries(), Metrics()
    decides = quarantine(redis, metrics)
    assert decides.parse(entry) is None
    await decides.settle("1-0")
    assert redis.dead == {"1-0": reason}
    assert metrics.registry.get_sample_value(f"{PREFIX}_dead_letters_total", {"kind": "invalid"}) == 1
    await decides.settle("1-0")
    assert len(redis.dead) == 1


async def test_log_line_has_each_kind_of_reason_once_with_an_example_of_its_values() -> None:
    digest = Digest()
    decides = quarantine(RecordedEntries(), digest=digest)
    with capture_logs() as logs:
        for number in range(300):
            decides.parse(Entry(f"{number}-0", {**FIELDS, b"timestamp": f"noon {number}".encode()}))
        decides.parse(Entry("300-0", {}))
        await decides.settle("300-0")
        digest.flush()

    [line] = [line for line in logs if line["event"] == "entries.dead_lettered"]
    assert line["reasons"] == [
        {"value": "timestamp … is not Unix seconds as decimal text", "times": 300},
        {"value": "uid is missing", "times": 1},
    ]
    assert line["example"] == "timestamp 'noon 0' is not Unix seconds as decimal text"


async def test_invalid_entries_of_before_are_forgotten_when_all_is_read_again() -> None:
    redis = RecordedEntries()
    decides = quarantine(redis)
    decides.parse(Entry("1-0", {}))
    decides.begin(set())
    await decides.settle("1-0")
    assert redis.dead == {}


@pytest.mark.parametrize(("tries", "dies"), [(QUARANTINE_AFTER - 1, False), (QUARANTINE_AFTER, True)])
async def test_conversation_is_quarantined_after_it_has_killed_enough_workers(tries: int, dies: bool) -> None:
    redis, talk = RecordedEntries(tries), Talk("c", uid="u")
    decides, routed = quarantine(redis), []
    suspect = ParsedEntry("1-0", talk.say(1))
    decides.begin({"1-0"})
    assert decides.suspects(suspect)

    def route(conversation: Conversation, left_out: Any) -> list[Any]:  # noqa: ANN401 -- no encoder is at work
        routed.append((conversation, set(left_out)))
        return []

    await decides.process([suspect], route)
    assert routed == [(Conversation("u", "c"), {"1-0"} if dies else set())]
    assert bool(redis.dead) is dies
    assert bool(redis.cleared) is not dies
    await decides.settle("1-0")
    assert redis.cleared == [Conversation("u", "c")]
    assert not decides.suspects(suspect)


async def test_entries_of_a_quarantined_batch_that_stand_beside_the_suspect_are_not_routed() -> None:
    redis, talk, left_out = RecordedEntries(QUARANTINE_AFTER), Talk(SEAL.conversation_id, uid=SEAL.uid), []
    decides = quarantine(redis, None, SEAL)
    decides.begin({SEAL.entries[0]})

    def route(_: Conversation, dead: Any) -> list[Any]:  # noqa: ANN401 -- no encoder is at work
        left_out.extend(dead)
        return []

    await decides.process([ParsedEntry(SEAL.entries[0], talk.say(1))], route)
    assert set(left_out) == set(redis.dead) == set(SEAL.all_ids)
    assert redis.unsealed == [SEAL]
