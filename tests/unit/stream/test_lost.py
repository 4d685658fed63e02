"""Which entries are lost, as the server says that has the partition now: each is one inquiry's to count."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.support.partition_owner import PartitionOwner, Raw, sealed
from worker.model.ids import Conversation
from worker.stream.losses import LossQuestion

CONVERSATION = Conversation("u", "c")
GONE, LATER = "9999999999999-0", "9999999999999-1"


@pytest.fixture
def question(owner: PartitionOwner) -> LossQuestion:
    """About two chunks that another server had."""
    chunks = {GONE: b"identity", LATER: b"another."}
    return LossQuestion("one", 0, "another server", owner.identity.stream, CONVERSATION, chunks)


async def lost(owner: PartitionOwner, question: LossQuestion) -> list[str] | None:
    (answer,) = await owner.entries.losses.lost([question])
    assert not isinstance(answer, Exception)
    return answer


async def test_nothing_is_lost_while_server_and_stream_are_the_same(
    owner: PartitionOwner, question: LossQuestion
) -> None:
    assert await lost(owner, replace(question, server=owner.identity.server)) is None


async def test_another_server_or_stream_has_lost_what_it_does_not_know(
    owner: PartitionOwner, question: LossQuestion
) -> None:
    assert await lost(owner, question) == [GONE, LATER]
    flushed = replace(question, token="two", server=owner.identity.server, stream="another", chunks={"8-0": b"."})
    assert await lost(owner, flushed) == ["8-0"]


async def test_each_entry_is_one_inquirys_to_count_also_if_it_asks_again(
    owner: PartitionOwner, question: LossQuestion
) -> None:
    assert await lost(owner, replace(question, chunks={GONE: b"identity"})) == [GONE]
    assert await lost(owner, replace(question, token="two")) == [LATER]
    assert await lost(owner, question) == [GONE]


async def test_what_was_counted_without_an_inquiry_is_not_counted_again(
    owner: PartitionOwner, question: LossQuestion
) -> None:
    await owner.entries.losses.record_lost(0, [GONE])
    assert await lost(owner, question) == [LATER]


async def test_entries_in_the_stream_are_their_owners(owner: PartitionOwner, question: LossQuestion) -> None:
    read, unread = await owner.accepted(1), await owner.push(1)
    chunks = {read[0]: b"identity", unread[0]: b"another.", LATER: b"a third."}
    assert await lost(owner, replace(question, chunks=chunks)) == [LATER]


async def test_id_that_a_chunk_of_another_conversation_has_is_no_proof(
    owner: PartitionOwner, question: LossQuestion, raw: Raw
) -> None:
    await raw.xadd(owner.keys.stream(0), {"uid": "u", "conversation_id": "other", "pcm": "1"}, id=GONE)
    assert await lost(owner, question) == [GONE, LATER]


async def test_chunks_that_were_stored_since_are_not_lost(owner: PartitionOwner, question: LossQuestion) -> None:
    seal = sealed(await owner.accepted(1))
    await owner.entries.seal(owner.lease, [seal])
    assert await owner.done(seal, b"identity") == "done"
    assert await lost(owner, question) == [LATER]


@pytest.mark.parametrize("deleted", ["u/", "u/c"])
async def test_deleted_chunks_are_not_lost(
    owner: PartitionOwner, question: LossQuestion, raw: Raw, deleted: str
) -> None:
    await raw.hset(owner.keys.deleted(0), deleted, GONE)
    assert await lost(owner, question) == [LATER]


async def test_dead_letters_are_not_lost(owner: PartitionOwner, question: LossQuestion) -> None:
    (entry,) = await owner.accepted(1)
    await owner.entries.dead_letter(owner.lease, {entry: "poison"})
    assert await lost(owner, replace(question, chunks={entry: b"identity", LATER: b"another."})) == [LATER]


async def test_losses_are_forgotten_after_a_day(owner: PartitionOwner, question: LossQuestion, raw: Raw) -> None:
    await lost(owner, question)
    assert 86_000 < await raw.ttl(owner.keys.lost(0)) <= 86_400
