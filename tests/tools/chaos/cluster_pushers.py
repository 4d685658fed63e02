"""Conversations that are pushed into a Redis Cluster with plain XADDs; what was acknowledged must be stored."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from random import Random
from typing import Protocol

from codec.entry import Chunk, End, partition_of
from tests.tools.chaos.plain_client import NoAnswer, PlainClient
from tests.tools.chaos.receipts import Receipts
from tests.tools.chaos.talks import PROTECTIONS, Talk, Talkers
from tests.tools.chaos.trouble import Plan
from tests.tools.simulation.redis_model import parsed_id
from worker.stream.keys import Keys

RETRY_SECONDS = 0.05
AGAIN = 0.02
MOST_BACK = 30
"""How often a chunk is pushed again without need, and how far back."""


class Streams(Protocol):
    """Where conversations go."""

    def key_of(self, talk: Talk) -> str:
        """The stream that a conversation goes to now."""

    def allows(self, talk: Talk, key: str) -> bool:
        """Whether a pusher may still repeat a push of a conversation to a stream."""


class FixedStreams:
    """One number of partitions, for ever."""

    def __init__(self, keys: Keys, partitions: int) -> None:
        self._keys = keys
        self._partitions = partitions

    def key_of(self, talk: Talk) -> str:
        """The stream of a conversation."""
        return self._keys.stream(partition_of(talk.conversation_id, self._partitions))

    def allows(self, talk: Talk, key: str) -> bool:
        """Only one stream is asked for."""
        return key == self.key_of(talk)


class ClusterPushers(Talkers[Talk]):
    """All conversations of a run; `wait` is how many replicas must have each entry before it counts as pushed."""

    def __init__(self, plan: Plan, client: PlainClient, streams: Streams, random: Random, *, wait: int) -> None:
        super().__init__()
        self._interval = plan.interval
        self._client = client
        self._streams = streams
        self._random = random
        self._wait = wait
        self._first_keys: dict[str, list[str]] = defaultdict(list)
        self.receipts = Receipts()
        self.counts: Counter[str] = Counter()
        self.all = [
            Talk(f"user-{number % 7}", f"talk-{number:03}", random.choice(PROTECTIONS)) for number in range(plan.talks)
        ]

    async def _live(self, talk: Talk, stop: asyncio.Event) -> None:
        while not stop.is_set():
            await asyncio.sleep(self._interval * self._random.expovariate(1))
            await self._open.wait()
            with self._pushing():
                await self._say(talk, talk.next(0.0))
        await self._push(self._streams.key_of(talk), End(talk.uid, talk.conversation_id, seq=talk.pushed))

    async def _say(self, talk: Talk, chunk: Chunk) -> None:
        key = self._streams.key_of(talk)
        self._first_keys[talk.conversation_id].append(key)
        port, entry = await self._push(key, chunk)
        talk.pushed += 1
        self.receipts.note(port, key, parsed_id(entry), talk, talk.pushed)
        if self._random.random() < AGAIN:
            number = self._random.randint(max(1, talk.pushed - MOST_BACK), talk.pushed)
            first_key = self._first_keys[talk.conversation_id][number - 1]
            if self._streams.allows(talk, first_key):  # a repeated push goes to the stream of its first try
                await self._push(first_key, talk.chunks[number - 1])
                talk.duplicates += 1

    async def _push(self, key: str, content: Chunk | End) -> tuple[int, bytes]:
        while True:
            try:
                return await self._client.xadd(key, content.fields(), wait=self._wait)
            except NoAnswer as error:
                self.counts[str(error)] += 1
                await asyncio.sleep(RETRY_SECONDS)
