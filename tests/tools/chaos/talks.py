"""Live conversations: numbered audio, pushed with plain XADDs and repeated whenever a reply is lost."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from random import Random
from typing import Generic, TypeVar

import redis.asyncio
from redis import RedisError

from codec.entry import Chunk, End, Protection, partition_of
from tests.tools.simulation.audio import numbered
from worker.stream.keys import Keys

UID = "user"
RATE = 8000
SAMPLES = 800
CHUNK_SECONDS = SAMPLES / RATE
FIRST_TIMESTAMP = 1_700_000_000.0
PROTECTIONS: tuple[Protection, ...] = ("standard", "enhanced", "e2ee")
QUIET_AFTER = 3.0

T = TypeVar("T")


@dataclass(slots=True)
class Talk:
    """One conversation: chunks 1 to `pushed` are in Redis or in the store; `duplicates` of them were pushed again."""

    uid: str
    conversation_id: str
    protection: Protection
    pushed: int = 0
    duplicates: int = 0
    timestamp: float = FIRST_TIMESTAMP
    chunks: list[Chunk] = field(default_factory=list)

    def next(self, gap: float) -> Chunk:
        """The next chunk, `gap` seconds after the last one's end."""
        self.timestamp += gap
        number = len(self.chunks) + 1
        chunk = Chunk(
            *(self.uid, self.conversation_id, self.timestamp, numbered(number, SAMPLES), RATE, self.protection),
            seq=number - 1,
        )
        self.timestamp += CHUNK_SECONDS
        self.chunks.append(chunk)
        return chunk


class Pusher:
    """Keeps many conversations going until it is told to stop."""

    def __init__(self, client: redis.asyncio.Redis, keys: Keys, partitions: int, random: Random) -> None:
        self._client = client
        self._keys = keys
        self._partitions = partitions
        self._random = random
        self.talks: list[Talk] = []
        self.resent = 0

    async def run(self, talks: int, stop: asyncio.Event, *, interval: float, gaps: bool) -> None:
        self.talks = [
            Talk(f"user-{number % 7}", f"talk-{number:03}", self._random.choice(PROTECTIONS)) for number in range(talks)
        ]
        async with asyncio.TaskGroup() as group:
            for talk in self.talks:
                group.create_task(self._live(talk, stop, interval, gaps=gaps))

    async def _live(self, talk: Talk, stop: asyncio.Event, interval: float, *, gaps: bool) -> None:
        while not stop.is_set():
            await asyncio.sleep(interval * self._random.expovariate(1))
            chunk = talk.next(self._gap() if gaps else 0.0)
            await self._push(talk, chunk)
            talk.pushed += 1
            if self._random.random() < 0.02:
                await self._push(talk, self._random.choice(talk.chunks[-30:]))
                talk.duplicates += 1
            if self._random.random() < 0.01:
                await self._push(talk, End(talk.uid, talk.conversation_id))
        await self._push(talk, End(talk.uid, talk.conversation_id))

    async def _push(self, talk: Talk, content: Chunk | End) -> None:
        key = self._keys.stream(partition_of(talk.conversation_id, self._partitions))
        while True:
            try:
                await self._client.xadd(key, dict(content.fields()))  # type: ignore[arg-type]
            except (RedisError, OSError):
                self.resent += 1
                await asyncio.sleep(0.05)
            else:
                return

    def _gap(self) -> float:
        chance = self._random.random()
        return 0.35 if chance < 0.01 else 100.0 if chance < 0.015 else 0.0


class Talkers(ABC, Generic[T]):
    """Conversations of any kind, pushing until told to stop; `hold` lets nothing be under way."""

    all: Sequence[T]

    def __init__(self) -> None:
        self._under_way = 0
        self._open = asyncio.Event()
        self._open.set()

    async def talk_through(self, trouble: Callable[[], Awaitable[None]]) -> None:
        """Talk while there is trouble and a moment longer, then come to an end."""
        stop = asyncio.Event()
        talking = asyncio.create_task(self._run(stop))
        try:
            await trouble()
            await asyncio.sleep(QUIET_AFTER)
        finally:
            stop.set()
            await talking

    async def hold(self, work: Callable[[], Awaitable[None]]) -> None:
        """Do something while nobody pushes."""
        self._open.clear()
        while self._under_way:  # noqa: ASYNC110 -- pushes end at once
            await asyncio.sleep(0.01)
        try:
            await work()
        finally:
            self._open.set()

    @abstractmethod
    async def _live(self, talker: T, stop: asyncio.Event) -> None:
        """Push one conversation until `stop` is set, and its end then."""

    @contextmanager
    def _pushing(self) -> Iterator[None]:
        """Surround a push, which `hold` waits for."""
        self._under_way += 1
        try:
            yield
        finally:
            self._under_way -= 1

    async def _run(self, stop: asyncio.Event) -> None:
        async with asyncio.TaskGroup() as group:
            for talker in self.all:
                group.create_task(self._live(talker, stop))
