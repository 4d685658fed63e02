"""The done event is read as it was written, also by versions that know more or fewer fields."""

from __future__ import annotations

from dataclasses import replace

from tests.tools.readme import CONTRACT, cells
from worker.delivery.recovery import TRIGGER_UNKNOWN
from worker.model.done_event import FIELDS, DoneEvent
from worker.model.states import Trigger

EVENT = DoneEvent(
    uid="u",
    conversation_id="c",
    object="chunks/u/c/1000.000.opus.enc",
    start=1000.0,
    samples=80_000,
    sample_rate=16_000,
    bytes=7,
    trigger="age",
    chunks=1,
    codec="opus",
    protection="enhanced",
    first_entry="1-0",
    last_entry="2-0",
    seqs="0",
    stream="5d" * 16,
    chunks_digest="0b" * 16,
    traceparent="00-1-2-01",
    tracestate="a=b",
)


def raw(event: DoneEvent) -> dict[bytes, bytes]:
    return {name.encode(): value.encode() for name, value in event.to_fields().items()}


def test_it_is_read_as_it_was_written() -> None:
    assert DoneEvent.from_fields(raw(EVENT)) == EVENT
    assert EVENT.to_fields()["start"] == "1000.000"


def test_what_it_does_not_tell_is_no_field() -> None:
    told = ("seqs", "stream", "chunks_digest", "traceparent", "tracestate")
    brief = replace(EVENT, seqs=None, stream=None, chunks_digest=None, traceparent=None, tracestate=None)
    assert {*EVENT.to_fields()} - {*brief.to_fields()} == {*told}
    assert DoneEvent.from_fields(raw(brief)) == brief


def test_other_versions_and_nonsense_are_read_all_the_same() -> None:
    found = DoneEvent.from_fields({b"object": b"x", b"samples": b"many", b"start": b"", b"later": b"1"})
    assert found == DoneEvent("", "", "x")


def test_the_contract_names_its_fields() -> None:
    told = {*cells(CONTRACT.read_text(), "## Done events")}
    assert {*FIELDS} <= told <= {*FIELDS, *Trigger, TRIGGER_UNKNOWN}
