"""The reading side of the worker: one reader for each server, and what these share."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog

from worker.batching.memory import MemoryBudget
from worker.consuming.node_reader import NodeReader
from worker.consuming.partition import Partition
from worker.coordination.ownership import Ownership
from worker.errors import StreamError
from worker.model.causes import RewindCause
from worker.runtime.context import Context
from worker.runtime.tasks import end
from worker.stream.entries import Entries
from worker.stream.leases import Lease
from worker.stream.servers.node import Node

log = structlog.get_logger()


class Consumer:
    """Works on the partitions whose leases `ownership` holds.

    Each partition belongs to the reader of the server that has its stream. If another server has it now, its reader
    gives it away between two turns, and the other one takes it over again.
    """

    def __init__(
        self,
        entries: Entries,
        ownership: Ownership,
        begin: Callable[[Lease], Partition],
        budget: MemoryBudget,
        context: Context,
    ) -> None:
        self._entries = entries
        self._ownership = ownership
        self._begin = begin
        self.budget = budget
        self._context = context
        self._metrics = context.metrics
        self._clock = context.clock
        self._paused = False
        self._moving: dict[int, Partition] = {}
        self._changes: dict[Node, int] = {}
        self._moves: dict[int, int] = {}
        self.readers: dict[Node, NodeReader] = {}
        self.abandoned: list[Partition] = []
        self.last_turn = self._clock()

    @property
    def partitions(self) -> dict[int, Partition]:
        """All partitions that are being worked on, by their numbers."""
        read = {n: partition for reader in self.readers.values() for n, partition in reader.partitions.items()}
        return self._moving | read

    @property
    def surplus(self) -> set[int]:
        """Partitions that others should have."""
        return self._ownership.surplus

    @property
    def hurries(self) -> bool:
        """Whether batches must close by the real time, because memory must become free."""
        return self.budget.exhausted

    async def run(self, stop: asyncio.Event, *, drains: bool = False) -> None:
        """Read until `stop` is set, with one task for each server; with `drains`, close batches as soon as possible."""
        tasks: dict[Node, asyncio.Task[None]] = {}
        async with asyncio.TaskGroup() as group:
            while not stop.is_set():
                for node in self._entries.client.known_nodes:
                    if node not in tasks or tasks[node].done():
                        reader = self._reader(node, drains=drains)
                        tasks[node] = group.create_task(self._read(reader, stop), name=f"reader of {node.name}")
                self._progressed()
                await pause(stop, self._context.timing.reading.poll)

    def exchange(self, reader: NodeReader) -> None:
        """Give a reader the partitions that are its own now, and take those that are not."""
        for here in (reader.partitions, self._moving):
            for number, partition in list(here.items()):
                if self._ownership.leases.get(number) is not partition.lease or partition.lease.lost:
                    self._abandon(here.pop(number))
        self._follow_moves(reader)
        for number in self._unread():
            lease = self._ownership.leases[number]
            if self._entries.node_of(number) is reader.node and not lease.lost:
                reader.partitions[number] = self._adopted(lease)
        self.abandoned = [partition for partition in self.abandoned if partition.deliveries]

    def _follow_moves(self, reader: NodeReader) -> None:
        """Let go of the partitions that are at other servers now, and doubt those that have left and come back.

        The other server may have failed meanwhile, and have forgotten what deliveries did there.
        """
        changes = self._entries.client.changes
        if self._changes.get(reader.node) == changes:
            return
        self._changes[reader.node] = changes
        for number, partition in list(reader.partitions.items()):
            if self._entries.node_of(number) is not reader.node:
                self._moving[number] = reader.partitions.pop(number)
            elif self._has_moved(number):
                self._entries.distrust(number)
                partition.rewind(RewindCause.MOVED)

    def _has_moved(self, number: int) -> bool:
        """Whether a partition has changed its server since the last call."""
        before = self._moves.get(number)
        self._moves[number] = self._entries.moves_of(number)
        return before is not None and before != self._moves[number]

    def must_wait(self) -> bool:
        """Whether reading must wait, because it would only fill memory.

        Reading goes on if memory can't become free without it: resumed batches need their missing entries.
        """
        paused = self.budget.exhausted and self._frees_memory()
        if paused != self._paused:
            log.warning("reading.paused" if paused else "reading.resumed", held=self.budget.used)
        self._paused = paused
        self._metrics.paused.set(paused)
        return paused or self.budget.behind

    def _frees_memory(self) -> bool:
        here = [*self.partitions.values(), *self.abandoned]
        return any(partition.frees_memory for partition in here)

    async def settle(self) -> bool:
        """Let every partition carry out its decisions in Redis, when no reader runs any more.

        Returns whether all servers have answered.
        """
        return all(await asyncio.gather(*map(self._settle, self.readers.values())))

    async def _settle(self, reader: NodeReader) -> bool:
        try:
            await reader.settle()
        except StreamError as error:
            await reader.rest(error)
            return False
        return True

    def caught_up(self) -> bool:
        """Whether all entries of the owned streams have been read."""
        return not self._moving and all(reader.caught_up() for reader in self.readers.values())

    def taken_over(self) -> list[Partition]:
        """Usable partitions that need no new take-over."""
        return [partition for reader in self.readers.values() for partition in reader.taken_over()]

    def close_all(self) -> None:
        """Close every open batch, because the worker stops now."""
        for reader in self.readers.values():
            reader.close_all()

    async def stored(self, within: float) -> bool:
        """Wait up to `within` seconds for the deliveries; returns whether all of them have ended."""
        deliveries = [delivery for partition in self.partitions.values() for delivery in partition.deliveries]
        if not deliveries:
            return True
        _, unfinished = await asyncio.wait(deliveries, timeout=within)
        return not unfinished

    async def release(self, partition: Partition) -> None:
        """Release a partition; uploads still under way are left to the next owner."""
        partition.abandon()
        await end(list(partition.deliveries))
        for here in (self._moving, *(reader.partitions for reader in self.readers.values())):
            here.pop(partition.number, None)
        await self._ownership.release(partition.number)

    async def _read(self, reader: NodeReader, stop: asyncio.Event) -> None:
        while not stop.is_set():
            if await reader.turn():
                continue
            if not reader.partitions and reader.node not in self._entries.client.nodes:
                del self.readers[reader.node]
                return
            await pause(stop, self._context.timing.reading.poll)

    def _reader(self, node: Node, *, drains: bool) -> NodeReader:
        self.readers[node] = NodeReader(node, self._entries, self, self._context, drains=drains)
        return self.readers[node]

    def _abandon(self, partition: Partition) -> None:
        partition.abandon()
        self.abandoned.append(partition)

    def _unread(self) -> list[int]:
        """Partitions that no reader has; that of another server gives one away only when its turn has ended."""
        unread = set(self._ownership.leases)
        for reader in self.readers.values():
            unread -= reader.partitions.keys()
        return sorted(unread)

    def _adopted(self, lease: Lease) -> Partition:
        """The partition of a lease, for another reader or for the first time."""
        self._moves[lease.partition] = self._entries.moves_of(lease.partition)
        if lease.partition in self._moving:
            partition = self._moving.pop(lease.partition)
            partition.rewind(RewindCause.MOVED)
            return partition
        return self._begin(lease)

    def _progressed(self) -> None:
        """Note that all readers make progress: those of a server that hangs do, by their time-outs."""
        self.last_turn = min([self._clock(), *(reader.last_turn for reader in self.readers.values())])


async def pause(stop: asyncio.Event, seconds: float) -> None:
    """Wait until it is time for the next turn, or to stop."""
    try:
        await asyncio.wait_for(stop.wait(), seconds)
    except TimeoutError:
        return
