"""Sends entries from the buffer to Redis, with one task for each node: one that fails delays only its own part."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, cast

from worker.producer.agreement import Agreement
from worker.producer.losses import Losses
from worker.producer.node_sender import Counts, NodeSender, SendRules, Shared
from worker.producer.trouble import Troubles

if TYPE_CHECKING:
    from worker.producer.buffer import Buffer
    from worker.producer.trouble import Trouble
    from worker.stream.client import Client
    from worker.stream.keys import Keys
    from worker.stream.servers.node import Node


class Sender:
    """Keeps a task for each node to which something may be sent, and tells the buffer which node has which lanes.

    A single Redis is one node.
    """

    def __init__(self, client: Client, keys: Keys, partitions: int, buffer: Buffer, rules: SendRules) -> None:
        self._client = client
        self._buffer = buffer
        self._agreement = Agreement(client, keys, partitions)
        self._losses = Losses(client, keys)
        self._troubles = Troubles(rules.on_trouble)
        self.counts = Counts()
        self._shared = Shared(
            client,
            keys,
            buffer,
            self._agreement,
            self._losses,
            self._troubles,
            self.counts,
            rules,
            self._follow,
        )
        self._changes: int | None = None

    @property
    def troubles(self) -> tuple[Trouble, ...]:
        """The troubles of all nodes that have any, the oldest first."""
        return self._troubles.all

    @property
    def lost_entries(self) -> int:
        """Entries that Redis had confirmed and has lost."""
        return self._losses.entries

    async def check(self) -> None:
        """Make sure that Redis answers, and records the same settings. Raises `SettingsError`, `StreamError`."""
        await self._agreement.compare()

    async def run(self) -> None:
        """Send until cancelled. Raises `SettingsError` if Redis turns out to record other settings."""
        tasks: dict[Node, asyncio.Task[None]] = {}
        try:
            async with asyncio.TaskGroup() as group:
                while True:
                    for node in cast("list[Node]", [*self._buffer.places]):
                        if node not in tasks or tasks[node].done():
                            sender = NodeSender(node, self._shared)
                            tasks[node] = group.create_task(sender.run(), name=f"producer: {node.name}")
                    await self._buffer.placed()
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from None

    async def _follow(self) -> None:
        """Let every lane be at the node that has its partition now. Raises `StreamError`."""
        nodes = await self._client.find_nodes()
        if self._changes != self._client.changes:
            self._changes = self._client.changes
            self._buffer.rearrange(nodes)
