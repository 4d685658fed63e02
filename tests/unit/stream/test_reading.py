"""Reading changes nothing; accepting makes pending what was read; the backlog is what the streams hold."""

from __future__ import annotations

from tests.support.partition_owner import PartitionOwner, Raw, pending
from worker.errors import StreamError
from worker.model.ids import START
from worker.stream.pages import PAGES_TOGETHER, ReadRequest


async def test_reading_changes_nothing_and_may_be_repeated(owner: PartitionOwner, raw: Raw) -> None:
    ids = await owner.push(5)
    request = ReadRequest(0, START, 3)
    first, again = await owner.entries.pages.read([request, request])
    assert isinstance(first, list)
    assert first == again
    assert [entry.id for entry in first] == ids[:3]
    assert first[0].fields[b"uid"] == b"u"
    rest, nothing = await owner.entries.pages.read([ReadRequest(0, ids[2], 3), ReadRequest(3, START, 3)])
    assert isinstance(rest, list)
    assert [entry.id for entry in rest] == ids[3:]
    assert nothing == []
    assert await pending(raw, owner) == {}


async def test_one_stream_may_be_read_from_several_places(owner: PartitionOwner) -> None:
    ids = await owner.push(5)
    requests = [ReadRequest(0, cursor, 1) for cursor in (START, ids[2], ids[4], START)]
    pages = await owner.entries.pages.read(requests)
    assert [[entry.id for entry in page] for page in pages if isinstance(page, list)] == [
        [ids[0]],
        [ids[3]],
        [],
        [ids[0]],
    ]


async def test_more_streams_than_one_command_asks_for_are_read(owner: PartitionOwner, raw: Raw) -> None:
    """Whole pages and looks in turn."""
    count = 12 * PAGES_TOGETHER + 1
    ids = [(await raw.xadd(owner.keys.stream(number), {"a": "1"})).decode() for number in range(count)]
    pages = await owner.entries.pages.read(
        [ReadRequest(number, START, 1, (1.0, 0.25)[number % 2]) for number in range(count)]
    )
    assert [[entry.id for entry in page] for page in pages if isinstance(page, list)] == [[id_] for id_ in ids]


async def test_key_of_a_wrong_type_spoils_only_its_own_page(owner: PartitionOwner, raw: Raw) -> None:
    await raw.set(owner.keys.stream(1), "no stream")
    ids = await owner.push(1)
    wrong, right = await owner.entries.pages.read([ReadRequest(1, START, 1), ReadRequest(0, START, 1)])
    assert isinstance(wrong, StreamError)
    assert wrong.cause == "refused"
    assert isinstance(right, list)
    assert [entry.id for entry in right] == ids


async def test_accepted_entries_are_pending_once_however_often_they_are_accepted(
    owner: PartitionOwner,
    raw: Raw,
) -> None:
    ids = await owner.push(3)
    for _ in range(3):
        assert await owner.accept(ids) == set(ids)
    assert await pending(raw, owner) == dict.fromkeys(ids, ("one", 1))


async def test_only_what_still_exists_is_accepted(owner: PartitionOwner, raw: Raw) -> None:
    ids = await owner.push(3)
    await raw.xdel(owner.keys.stream(0), ids[1])
    assert await owner.accept(ids) == {ids[0], ids[2]}
    assert set(await pending(raw, owner)) == {ids[0], ids[2]}


async def test_group_that_a_person_looks_at_has_been_delivered_what_was_accepted_but_shows_no_lag(
    owner: PartitionOwner,
    raw: Raw,
) -> None:
    """XCLAIM moves the cursor and does not count: the backlog is XLEN, not the group's lag."""
    ids = await owner.push(5)
    await owner.accept(ids[:3])
    (group,) = await raw.xinfo_groups(owner.keys.stream(0))
    assert group["last-delivered-id"].decode() == ids[2]
    assert group["pending"] == 3
    assert group["entries-read"] is None
    assert group["lag"] is None
    assert (await owner.entries.backlog([0, 1])).entries == {0: 5, 1: 0}


async def test_backlog_bytes_grow_with_the_audio(owner: PartitionOwner) -> None:
    await owner.push(20, pcm=bytes(100_000))
    backlog = await owner.entries.backlog([0, 1])
    assert 1_000_000 < backlog.bytes[0] < 6_000_000
    assert backlog.bytes[1] == 0
    assert (await owner.entries.backlog([])).bytes == {}
