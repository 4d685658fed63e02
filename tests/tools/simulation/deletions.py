"""Somebody deletes conversations while all else happens; and what must be true of their audio afterwards."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from random import Random
from typing import Protocol

from tests.tools.simulation.faults import Edge, Rates
from tests.tools.simulation.loop import VirtualLoop
from tests.tools.simulation.node import Node
from tests.tools.simulation.pushers import Pushed
from tests.tools.simulation.redis_cluster import ModelServers
from tests.tools.simulation.redis_link import ModelConnector
from tests.tools.simulation.store_model import Bucket, ModelStore
from worker.archive.upkeep.deletion import Deleter
from worker.errors import StoreError, StreamError
from worker.model.ids import Conversation
from worker.model.layouts import Layouts
from worker.stream.client import Client
from worker.stream.keys import Keys
from worker.stream.tombstones import Tombstones

LONGEST_REST = 2.5
"""Seconds between two deletions."""

RATES = Rates(refused=0.02, reply_lost=0.02, late=0.01, slow=0.1)


@dataclass(frozen=True, slots=True)
class Deletion:
    """One run of `rm`, from its first request to its last; `complete` if it said that nothing comes back."""

    conversation: Conversation
    began: float
    ended: float
    complete: bool


class Surroundings(Protocol):
    """Of a `Run`, what deletions need."""

    loop: VirtualLoop
    redis: ModelServers
    bucket: Bucket
    pushed: Pushed
    keys: Keys

    def write(self, text: str) -> None:
        """Add a line to the trace."""


class Deletions:
    """Deletes one of the conversations now and then; `made` are the deletions so far."""

    def __init__(self, run: Surroundings, partitions: int, random: Random) -> None:
        self._run = run
        self._random = random
        self.made: list[Deletion] = []
        node, edge = Node("rm"), Edge(RATES, random, run.write)
        client = Client(ModelConnector(node, run.redis, edge), run.loop.time)
        self._tombstones = Tombstones(client, run.keys, Layouts.single(partitions))
        self._store = ModelStore(node, run.bucket, edge)

    async def make(self, number: int, conversations: list[Conversation]) -> None:
        """Make so many deletions."""
        for _ in range(number):
            await asyncio.sleep(LONGEST_REST * self._random.random())
            await self.delete(self._random.choice(conversations))

    async def delete(self, conversation: Conversation) -> None:
        """Run `rm` once."""
        began = self._run.loop.time()
        self._run.write(f"rm {conversation}")
        try:
            deletion = await Deleter(self._store).delete_all(*conversation, tombstones=self._tombstones)
        except (StoreError, StreamError) as error:
            complete, result = False, str(error)
        else:
            complete, result = deletion.complete, f"{len(deletion.names)} objects deleted, {len(deletion.left)} left"
        self.made.append(Deletion(conversation, began, self._run.loop.time(), complete))
        self._run.write(f"rm {conversation}: {result}")

    def deleted(self, conversation: Conversation) -> set[int]:
        """Numbers of the chunks that must not be stored: all pushes of them came before a complete deletion."""
        ends = [deletion.began for deletion in self._of(conversation) if deletion.complete]
        return {n for n, times in self._pushes(conversation).items() if any(max(times) < end for end in ends)}

    def uncertain(self, conversation: Conversation) -> set[int]:
        """Numbers of other chunks that were pushed before the end of a deletion: it may have come to them."""
        ends = [deletion.ended for deletion in self._of(conversation)]
        pushes = self._pushes(conversation)
        return {n for n, times in pushes.items() if any(min(times) <= end for end in ends)} - self.deleted(conversation)

    def _of(self, conversation: Conversation) -> list[Deletion]:
        return [deletion for deletion in self.made if deletion.conversation == conversation]

    def _pushes(self, conversation: Conversation) -> dict[int, list[float]]:
        return self._run.pushed.times[conversation]
