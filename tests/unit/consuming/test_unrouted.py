"""What is known of chunks between their reading and their routing."""

from __future__ import annotations

from codec.entry import Chunk, End
from worker.batching.resumed_batch import ParsedEntry
from worker.consuming.unrouted import MAX_LEFT_OUT, Unrouted, chunks_among
from worker.model.ids import Conversation
from worker.stream.replies import Entry

WHOSE = Conversation("u", "c")
CHUNK = Chunk("u", "c", 1000.0, b"\x01\x00" * 160)


def as_read(fields: dict[str, bytes | str]) -> dict[bytes, bytes]:
    return {name.encode(): value.encode() if isinstance(value, str) else value for name, value in fields.items()}


PAGE = [
    Entry("1-0", as_read(CHUNK.fields())),
    Entry("2-0", {b"no": b"chunk"}),
    Entry("3-0", as_read(End("u", "c").fields())),
]


def test_of_a_page_only_the_chunks_are_held_until_it_ends() -> None:
    unrouted = Unrouted()
    unrouted.begin_page(PAGE)
    assert unrouted.held() == {WHOSE: {"1-0": CHUNK.identity()}} == chunks_among(PAGE)
    unrouted.end_page()
    assert unrouted.held() == {}


def test_the_latest_entries_that_were_left_out_are_held_until_they_are_forgotten() -> None:
    unrouted = Unrouted()
    for number in range(MAX_LEFT_OUT + 2):
        unrouted.leave_out(ParsedEntry(f"{number}-0", CHUNK))
    unrouted.leave_out(ParsedEntry("9999-0", End("u", "c")))
    held = unrouted.held()[WHOSE]
    assert (len(held), next(iter(held))) == (MAX_LEFT_OUT, "2-0")
    unrouted.end_page()
    assert unrouted.held() == {WHOSE: held}
    unrouted.clear()
    assert unrouted.held() == {}
