"""Stop for good: store open batches or leave them to the next owners, then release every partition."""

from __future__ import annotations

import asyncio

import structlog

from worker.consuming.consumer import Consumer
from worker.consuming.partition import Partition
from worker.coordination.ownership import Ownership
from worker.errors import StreamError
from worker.runtime.tasks import end

log = structlog.get_logger()


async def shut_down(consumer: Consumer, ownership: Ownership, *, flush: bool, grace: float) -> None:
    """Store open batches (`flush`) or leave them pending for the next owners, then release every partition.

    Each partition is released as soon as its deliveries have ended, so that others go on with it at once. Batches that
    are not stored within `grace` seconds are left to these others.
    """
    deadline = asyncio.get_running_loop().time() + grace
    try:
        async with asyncio.timeout_at(deadline):
            await ownership.leave()
            if flush:
                await _seal_everything(consumer, deadline)
    except (TimeoutError, StreamError) as error:
        log.warning("worker.flush_failed", error=str(error))
    left = await asyncio.gather(
        *(_release_when_stored(consumer, partition, deadline) for partition in list(consumer.partitions.values())),
        *(_end_when_stored(partition, deadline) for partition in consumer.abandoned),
    )
    if any(left):
        log.warning("partitions.left", partitions=sum(map(bool, left)), batches=sum(left))
    for number in list(ownership.leases):  # taken since the last turn
        await ownership.release(number)


async def _seal_everything(consumer: Consumer, deadline: float) -> None:
    """Close and seal all batches.

    Batches that are held back behind earlier ones follow these. Those that can't be sealed are left to the next owner.
    """
    consumer.close_all()
    while closing := [partition for partition in consumer.taken_over() if partition.unsealed]:
        if asyncio.get_running_loop().time() > deadline:  # the library may have swallowed the time-out
            raise TimeoutError
        if not await consumer.settle():
            continue
        held_back = [partition for partition in closing if partition.unsealed]
        before_them = [delivery for partition in held_back for delivery in partition.deliveries]
        if held_back and not before_them:
            return
        if held_back:
            await asyncio.wait(before_them, return_when=asyncio.FIRST_COMPLETED)


async def _release_when_stored(consumer: Consumer, partition: Partition, deadline: float) -> int:
    left = await _left_after_deliveries(partition, deadline)
    await consumer.release(partition)
    return left


async def _end_when_stored(abandoned: Partition, deadline: float) -> int:
    left = await _left_after_deliveries(abandoned, deadline)
    await end(list(abandoned.deliveries))
    return left


async def _left_after_deliveries(partition: Partition, deadline: float) -> int:
    """Wait for the deliveries; returns how many batches have not ended in time."""
    try:
        async with asyncio.timeout_at(deadline):
            await partition.in_flight.finished()
    except TimeoutError:
        return len(partition.in_flight.batches)
    return 0
