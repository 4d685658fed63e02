"""Which closed batches may be sealed: the first of each conversation, unless an earlier one is in question."""

from __future__ import annotations

from dataclasses import replace
from typing import cast

from tests.support.seals import SEAL
from worker.batching.closed_batch import ClosedBatch
from worker.batching.encoder import BatchEncoder
from worker.consuming.sealing_order import in_question, next_to_seal
from worker.model.ids import Conversation


def closed(entry: str, conversation_id: str = "c", *, recovered: bool = False) -> ClosedBatch:
    seal = replace(SEAL, conversation_id=conversation_id, entries=(entry,), markers=())
    return ClosedBatch(0, seal, cast("BatchEncoder", None), {entry: b"identity"}, 0.0, recovered=recovered)


def test_batches_of_a_conversation_are_sealed_one_by_one_and_those_of_others_beside_them() -> None:
    first, second, other = closed("1-0"), closed("2-0"), closed("1-1", "d")
    assert {batch.seal.id for batch in next_to_seal([first, second, other], set())} == {"1-0", "1-1"}


def test_nothing_of_a_conversation_is_sealed_while_an_earlier_batch_is_in_question() -> None:
    batches = [closed("1-0"), closed("1-1", "d")]
    held_back = {batches[0].seal.conversation}
    assert [batch.seal.id for batch in next_to_seal(batches, held_back)] == ["1-1"]


def test_a_batch_on_its_way_is_in_question_if_it_may_have_been_sealed_before() -> None:
    new, recovered, sealed = closed("1-0", "new"), closed("2-0", "recovered", recovered=True), closed("3-0", "sealed")
    found = in_question([new, recovered, sealed], {"3-0"})
    assert {Conversation(*conversation).conversation_id for conversation in found} == {"recovered", "sealed"}
