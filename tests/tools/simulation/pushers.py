"""Pushers: they append numbered chunks with gaps, ends and nonsense, and retry what they are not told was accepted."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from random import Random

from codec.entry import Chunk, End, partition_of
from tests.tools.simulation.audio import numbered
from tests.tools.simulation.redis_cluster import ModelServers
from tests.tools.simulation.redis_model import parsed_id
from worker.model.ids import Conversation

RATE = 8000
SAMPLES = 80
CHUNK_SECONDS = SAMPLES / RATE
FIRST_TIMESTAMP = 1000.0


@dataclass(slots=True)
class Pushed:
    """What Redis was given: entry ids per chunk number and conversation, and how many bad entries.

    `forgotten` are the chunks, and `lost` their entries, that a failover made it forget. `times` are those of the
    pushes of each chunk.
    """

    entries: dict[Conversation, dict[int, list[str]]] = field(default_factory=lambda: defaultdict(dict))
    bad: int = 0
    forgotten: dict[Conversation, set[int]] = field(default_factory=lambda: defaultdict(set))
    lost: dict[Conversation, dict[int, set[str]]] = field(default_factory=lambda: defaultdict(dict))

    times: dict[Conversation, dict[int, list[float]]] = field(default_factory=lambda: defaultdict(dict))

    def note(self, conversation: Conversation, number: int, entry: str) -> None:
        self.entries[conversation].setdefault(number, []).append(entry)
        self.times[conversation].setdefault(number, []).append(asyncio.get_running_loop().time())


@dataclass(frozen=True, slots=True)
class Habits:
    """How a pusher behaves: chances per chunk, and seconds."""

    chunks: int
    interval: float
    duplicate: float
    short_gap: float = 0.03
    long_gap: float = 0.03
    end: float = 0.03
    bad: float = 0.01
    rest: float = 0.02
    restart: float = 0.0
    with_seq: bool = True


class Pusher:
    """One live session; it follows the slots, and waits for a server that does not answer."""

    def __init__(
        self,
        conversation: Conversation,
        habits: Habits,
        servers: ModelServers,
        pushed: Pushed,
        random: Random,
    ) -> None:
        self._conversation = conversation
        self._habits = habits
        self._servers = servers
        self._pushed = pushed
        self._random = random
        self._timestamp = FIRST_TIMESTAMP
        self._life: bytes | None = None
        self._seq = 0
        self._late: set[asyncio.Task[None]] = set()

    async def run(self, prefix: str, partitions: int) -> None:
        """Push everything, and the duplicates too."""
        key = f"{prefix}:{{{partition_of(self._conversation.conversation_id, partitions)}}}"
        for number in range(1, self._habits.chunks + 1):
            await asyncio.sleep(self._habits.interval * self._random.expovariate(1))
            await self._misbehave(key)
            chunk = self._chunk(number)
            await self._push(key, number, chunk)
            if self._happens(self._habits.duplicate):
                self._late.add(asyncio.create_task(self._push_again(key, number, chunk)))
        if self._happens(0.5):
            await self._add(key, End(*self._conversation).fields())
        if self._late:
            await asyncio.wait(self._late)

    async def _misbehave(self, key: str) -> None:
        if self._happens(self._habits.rest):
            await asyncio.sleep(2.5 * self._random.random())
        if self._happens(self._habits.end):
            await self._add(key, End(*self._conversation).fields())
        if self._happens(self._habits.bad):
            await self._add(key, {"uid": "", "conversation_id": "c", "timestamp": "never", "pcm": b"1"})
            self._pushed.bad += 1

    def _chunk(self, number: int) -> Chunk:
        if self._happens(self._habits.short_gap):
            self._timestamp += 2.5 * CHUNK_SECONDS
        if self._happens(self._habits.long_gap):
            self._timestamp += 100
        if self._happens(self._habits.restart):
            self._life, self._seq = b"life from %d" % number, 0
        chunk = Chunk(
            *(*self._conversation, self._timestamp, numbered(number, SAMPLES), RATE, "standard"),
            seq=self._seq if self._habits.with_seq else None,
            session=self._life,
        )
        self._seq += 1
        self._timestamp += CHUNK_SECONDS
        return chunk

    async def _push_again(self, key: str, number: int, chunk: Chunk) -> None:
        await asyncio.sleep(2.0 * self._random.random() ** 3)
        await self._push(key, number, chunk)

    async def _push(self, key: str, number: int, chunk: Chunk) -> None:
        self._pushed.note(self._conversation, number, await self._add(key, chunk.fields()))

    async def _add(self, key: str, fields: Mapping[str, bytes | str]) -> str:
        if (seconds := self._servers.holder(key).ailing_seconds) > 0:
            await asyncio.sleep(seconds)
            return await self._add(key, fields)
        return self._servers.push(key, fields)

    def _happens(self, chance: float) -> bool:
        return self._random.random() < chance


def forget(pushed: Pushed, servers: ModelServers, keys: dict[Conversation, str]) -> None:
    """Note what a failover made Redis forget: entries that were pushed after its replica's latest one."""
    for conversation, numbers in pushed.entries.items():
        last = servers.data.stream(keys[conversation]).last
        for number, entries in numbers.items():
            kept = [entry for entry in entries if parsed_id(entry) <= last]
            if len(kept) < len(entries):
                numbers[number] = kept
                pushed.forgotten[conversation].add(number)
                pushed.lost[conversation].setdefault(number, set()).update(set(entries) - set(kept))
