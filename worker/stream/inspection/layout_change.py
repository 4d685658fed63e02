"""Changing the number of partitions while audio flows: one step at a time, and what prevents the last one.

First a second number is allowed beside the current one. Workers own the partitions of the larger number, and pushers
may use either. When no pusher uses the former number any more, only the new one stays.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

from codec.entry import partition_of_bytes
from worker.errors import BadSelection
from worker.model.layouts import Layouts
from worker.stream.client import Client
from worker.stream.inspection.overview import Inspector, PartitionView
from worker.stream.keys import Keys
from worker.stream.scripting import Call

PAGE = 25
"""Entries per script call: 25 chunks of 160 kB cost Redis a few milliseconds."""


def next_step(layouts: Layouts, wanted: int) -> Layouts:
    """The numbers after the next step towards `wanted`.

    Raises:
        BadSelection: another change is under way.
    """
    if wanted in layouts.numbers:
        return Layouts.single(wanted)
    if layouts.is_changing:
        raise BadSelection(
            f"a change between {' and '.join(str(layouts).split(','))} partitions is under way: finish it first, with"
            " one of these numbers"
        )
    return Layouts(layouts.current, frozenset({layouts.current, wanted}))


async def left_behind(client: Client, keys: Keys, layouts: Layouts, wanted: int) -> AsyncIterator[str]:
    """Say which audio only another number of partitions than `wanted` explains; a sentence for each partition.

    Raises:
        StreamError: Redis does not answer or refuses.
    """
    refusals: list[str] = []
    for view in await Inspector(client, keys).views(range(wanted, layouts.total), refusals):
        if not view.idle:
            yield f"{keys.stream(view.number)} holds {_contents(view)}"
    for refusal in refusals:
        yield refusal
    for partition in range(wanted):
        if conversation := await _foreign(client, keys.stream(partition), partition, wanted):
            name = conversation.decode(errors="replace")
            yield f"{keys.stream(partition)} holds audio of the conversation {name}, pushed with another number"


async def _foreign(client: Client, stream: str, partition: int, wanted: int) -> bytes | None:
    """The first conversation in a stream that does not belong there with this number of partitions."""
    async for (entries,) in client.pages(lambda start: Call("stray_page", [stream], [start, PAGE])):
        for _, conversation, _ in entries:
            if conversation is not None and partition_of_bytes(conversation, wanted) != partition:
                return bytes(conversation)
    return None


def _contents(view: PartitionView) -> str:
    counts = {"entries": view.entries, "sealed batches": view.sealed_batches, "dead letters": view.dead}
    return ", ".join(f"{what} {count:,}" for what, count in counts.items() if count)
