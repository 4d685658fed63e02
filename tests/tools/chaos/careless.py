"""Careless pushers: they begin again and again with equal audio, hand conversations over, and miss their streams.

One process after the other pushes a conversation. Each counts from 0 in a session of its own. Many begin at the same
timestamp with the same bytes, which may be digital silence. So only the session tells their audio apart.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from random import Random

from redis import RedisError

from codec.entry import Chunk, End, Protection, partition_of
from tests.tools.chaos.account import as_read
from tests.tools.chaos.conservation import World
from tests.tools.chaos.talks import CHUNK_SECONDS, FIRST_TIMESTAMP, PROTECTIONS, RATE, SAMPLES, UID, Talkers
from tests.tools.simulation.audio import numbered

OTHER_PREFIX = "choas"
"""A prefix by mistake: it has neither workers nor a record of PARTITIONS."""

SESSION_BYTES = 8
RECENT = 30
"""A chunk is pushed again while it is one of so many latest ones."""


@dataclass(frozen=True, slots=True)
class Pushed:
    """A chunk as workers read it, and the streams that it was pushed to."""

    chunk: Chunk
    keys: set[str]


@dataclass(slots=True)
class Conversation:
    """What was pushed of a conversation so far, by identity in the order of the first pushes; and its live process.

    `timestamp` and `seq` are those of the next chunk, `latest` is the end of all audio. A muted process pushes digital
    silence. `key` is the stream that the process pushes to, the right one if it is careful.
    """

    conversation_id: str
    protection: Protection
    home: str
    key: str
    is_careful: bool
    pushed: dict[bytes, Pushed] = field(default_factory=dict)
    session: bytes | None = None
    seq: int = 0
    timestamp: float = FIRST_TIMESTAMP
    latest: float = FIRST_TIMESTAMP
    muted: bool = False
    lives: int = 1

    def next(self) -> Chunk:
        """The next chunk of its process: the same bytes as those of every other process at this place."""
        pcm = bytes(2 * SAMPLES) if self.muted else numbered(self.seq + 1, SAMPLES)
        chunk = Chunk(
            *(UID, self.conversation_id, self.timestamp, pcm, RATE, self.protection),
            seq=self.seq,
            session=self.session,
        )
        self.seq, self.timestamp = self.seq + 1, self.timestamp + CHUNK_SECONDS
        self.latest = max(self.latest, self.timestamp)
        return as_read(chunk)

    def begin_again(self, random: Random) -> None:
        """Another process pushes from here on.

        It begins where the first one began, or where the audio ends. Without a session, only the latter is new audio.
        """
        self.lives += 1
        self.session = random.choice((random.randbytes(SESSION_BYTES),) * 3 + (None,))
        self.timestamp = FIRST_TIMESTAMP if self.session and random.random() < 0.5 else self.latest
        self.seq, self.muted = 0, random.random() < 0.5


class Careless(Talkers[Conversation]):
    """Pushes all conversations; `counts` tells what was done how often."""

    def __init__(self, there: World, random: Random) -> None:
        super().__init__()
        self._there = there
        self._random = random
        self.counts: Counter[str] = Counter()
        self.all = [self._conversation(number) for number in range(there.plan.talks)]

    @property
    def wrong_keys(self) -> set[str]:
        """The streams that are no partition's to which something was pushed."""
        homes = {talk.home for talk in self.all}
        return {key for talk in self.all for pushed in talk.pushed.values() for key in pushed.keys} - homes

    def _conversation(self, number: int) -> Conversation:
        conversation_id = f"talk-{number:02}"
        home = self._there.keys.stream(partition_of(conversation_id, self._there.plan.partitions))
        return Conversation(conversation_id, self._random.choice(PROTECTIONS), home, home, is_careful=number % 3 == 0)

    def _wrong_key(self, talk: Conversation) -> str:
        """A stream without braces, beyond PARTITIONS, or under another prefix."""
        prefix, partitions = self._there.keys.prefix, self._there.plan.partitions
        partition = partition_of(talk.conversation_id, partitions)
        return self._random.choice(
            (f"{prefix}:{partition}", f"{prefix}:{{{partition + partitions}}}", f"{OTHER_PREFIX}:{{{partition}}}")
        )

    async def _live(self, talker: Conversation, stop: asyncio.Event) -> None:
        while not stop.is_set():
            await asyncio.sleep(self._there.plan.interval * self._random.expovariate(1))
            await self._open.wait()
            with self._pushing():
                await self._step(talker)
        await self._send(talker.key, End(UID, talker.conversation_id))

    async def _step(self, talk: Conversation) -> None:
        if self._random.random() < 0.03:
            talk.begin_again(self._random)
            if self._random.random() < 0.5:  # its predecessor does not know what has arrived
                await self._repeat(talk, 3)
        if not talk.is_careful and self._random.random() < 0.06:
            talk.key = self._wrong_key(talk) if talk.key == talk.home or self._random.random() < 0.2 else talk.home
        chunk = talk.next()
        pushed = talk.pushed.setdefault(chunk.identity(), Pushed(chunk, set()))
        await self._push(talk.key, pushed)
        if self._random.random() < 0.02:
            await self._repeat(talk, 1)
        if self._random.random() < 0.01:
            await self._send(talk.key, End(UID, talk.conversation_id))

    async def _repeat(self, talk: Conversation, count: int) -> None:
        """Push one of the latest chunks and those after it again, perhaps to another stream."""
        latest = list(talk.pushed.values())[-RECENT:]
        first = self._random.randrange(len(latest)) if latest else 0
        for pushed in latest[first : first + count]:
            await self._push(talk.key, pushed)
            self.counts["chunks pushed again"] += 1

    async def _push(self, key: str, pushed: Pushed) -> None:
        pushed.keys.add(key)
        await self._send(key, pushed.chunk)

    async def _send(self, key: str, content: Chunk | End) -> None:
        """Push until Redis confirms it."""
        while True:
            try:
                await self._there.client.xadd(key, dict(content.fields()))  # type: ignore[arg-type]
            except (RedisError, OSError):
                self.counts["XADDs repeated"] += 1
                await asyncio.sleep(0.05)
            else:
                break
        self.counts["entries in wrong streams"] += not self._is_home(key)

    def _is_home(self, key: str) -> bool:
        return key in {talk.home for talk in self.all}
