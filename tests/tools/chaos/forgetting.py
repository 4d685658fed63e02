"""Redis is killed, and an older copy of its data is put back, again and again, while sessions talk and workers die.

Beside it sessions begin another life, conversations are deleted, and others are copied into ones that still talk. What
Redis itself has lost by that is known: entries that it had accepted, and that are not in what was put back.
"""

from __future__ import annotations

import asyncio
import shutil
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from redis import RedisError

from codec.entry import Chunk, End, Protection, partition_of
from codec.names import parse_name
from tests.tools.chaos.account import Blob, numbers_of
from tests.tools.chaos.conservation import PREFIX, World, world
from tests.tools.chaos.talks import CHUNK_SECONDS, FIRST_TIMESTAMP, PROTECTIONS, RATE, SAMPLES, UID, Talkers
from tests.tools.chaos.trouble import FEWEST, Plan
from tests.tools.simulation.audio import numbered
from tests.tools.simulation.redis_model import parsed_id
from worker.archive import Archive
from worker.errors import NothingStored, StoreError, StreamError
from worker.model.ids import entry_order
from worker.stores import open_store
from worker.stores.base import Store
from worker.stream.tombstones import open_tombstones

MOST_CHUNKS = 1000
"""Per conversation: each has its own numbers, so that copies in it can be told from its own audio."""

MOST_TALKS = 32
OLDEST_COPIES = 3


@dataclass(slots=True)
class Session:
    """A conversation. `lost` are chunks that Redis may have forgotten, `deleted` those up to which nothing may stay."""

    conversation_id: str
    base: int
    protection: Protection
    pushed: int = 0
    deleted: int = 0
    timestamp: float = FIRST_TIMESTAMP
    life: bytes | None = None
    seq: int = 0
    lives: int = 1
    entries: dict[int, list[str]] = field(default_factory=dict)
    lost: set[int] = field(default_factory=set)
    chunks: list[Chunk] = field(default_factory=list)

    def next(self) -> Chunk:
        """The next chunk of its life."""
        pcm = numbered(self.base + self.pushed + 1, SAMPLES)
        chunk = Chunk(
            *(UID, self.conversation_id, self.timestamp, pcm, RATE, self.protection), seq=self.seq, session=self.life
        )
        self.pushed, self.seq, self.timestamp = self.pushed + 1, self.seq + 1, self.timestamp + CHUNK_SECONDS
        self.chunks.append(chunk)
        return chunk

    def restart(self) -> None:
        """Begin another life, which counts from 0 again."""
        self.lives += 1
        self.life, self.seq = b"life-%d" % self.lives, 0

    def forget(self, last: tuple[int, int]) -> None:
        """Redis knows no entry after this one any more."""
        for number, entries in self.entries.items():
            kept = [entry for entry in entries if parsed_id(entry) <= last]
            if len(kept) < len(entries):
                self.lost.add(number)
                self.entries[number] = kept


class Sessions(Talkers[Session]):
    """All conversations of a run, and what may become of them."""

    def __init__(self, there: World, random: Random) -> None:
        super().__init__()
        self._there = there
        self._random = random
        self.incarnation = 0
        self.all = [
            Session(f"talk-{number:02}", number * MOST_CHUNKS, random.choice(PROTECTIONS))
            for number in range(min(there.plan.talks, MOST_TALKS))
        ]

    def key(self, session: Session) -> str:
        """Its stream."""
        return self._there.keys.stream(partition_of(session.conversation_id, self._there.plan.partitions))

    def key_for(self, session: Session, _: Chunk | End) -> str:
        """The stream that an entry goes to."""
        return self.key(session)

    async def _live(self, session: Session, stop: asyncio.Event) -> None:
        while not stop.is_set() and session.pushed < MOST_CHUNKS:
            await asyncio.sleep(self._there.plan.interval * self._random.expovariate(1))
            if self._random.random() < 0.03:
                session.restart()
            await self._push(session, None)
            if self._random.random() < 0.03 and session.pushed - session.deleted > 3:
                await self._push(session, session.pushed - self._random.randrange(3))
            if self._random.random() < 0.02:
                await self._send(session, End(UID, session.conversation_id))
        await self._send(session, End(UID, session.conversation_id))

    async def _push(self, session: Session, again: int | None) -> None:
        """Push the next chunk, or one again. What is pushed more than once over a loss may be stored twice."""
        await self._open.wait()
        chunk = session.next() if again is None else session.chunks[again - 1]
        number = session.pushed if again is None else again
        incarnation, tries = self.incarnation, 1
        with self._pushing():
            while (entry := await self._sent(session, chunk)) is None:
                tries += 1
        session.entries.setdefault(number, []).append(entry)
        if tries > 1 or incarnation != self.incarnation:
            session.lost.add(number)

    async def _send(self, session: Session, end: End) -> None:
        while await self._sent(session, end) is None:
            pass

    async def _sent(self, session: Session, content: Chunk | End) -> str | None:
        try:
            entry: Any = await self._there.client.xadd(self.key_for(session, content), dict(content.fields()))  # type: ignore[arg-type]
        except (RedisError, OSError):
            await asyncio.sleep(0.05)
            return None
        return str(entry.decode())


@dataclass(frozen=True, slots=True)
class Copy:
    """What Redis held at a moment, and the last entry of each stream."""

    path: Path
    last: Mapping[str, tuple[int, int]]


class Forgetting:
    """Makes the trouble."""

    def __init__(self, there: World, sessions: Sessions, random: Random, directory: Path) -> None:
        self._there = there
        self._sessions = sessions
        self._random = random
        self._directory = directory
        self._copies: list[Copy] = []
        self.counts: Counter[str] = Counter()

    async def run(self) -> None:
        """Until the plan's number of restores and kills is reached."""
        plan = self._there.plan
        steps = [*3 * [self._restore], *3 * [self._kill], *4 * [self._take_copy], self._delete, self._copy_blobs]
        await self._take_copy()
        while self.counts["restored"] + self._there.fleet.counts["killed"] < plan.kills:
            await asyncio.sleep(plan.pace * self._random.random())
            await self._random.choice(steps)()

    async def _take_copy(self) -> None:
        await self._sessions.hold(self._save)
        self._copies = self._copies[-OLDEST_COPIES:]

    async def _save(self) -> None:
        client = self._there.client
        last = {key: await self._last(key) for key in {self._sessions.key(session) for session in self._sessions.all}}
        await client.save()
        self.counts["copies"] += 1
        path = self._directory / f"copy-{self.counts['copies']}.rdb"
        shutil.copy(self._directory / "dump.rdb", path)
        self._copies.append(Copy(path, last))

    async def _last(self, key: str) -> tuple[int, int]:
        try:
            facts: Any = await self._there.client.xinfo_stream(key)
        except RedisError:  # there is none
            return (0, 0)
        return parsed_id(facts["last-generated-id"])

    async def _restore(self) -> None:
        """Kill Redis, and start it with what it held some time ago."""
        copied = self._random.choice(self._copies)
        if self._random.random() < 0.6:  # as a replica that is only a little behind
            await self._take_copy()
            copied = self._copies[-1]
            await asyncio.sleep(self._random.random())
        self._sessions.incarnation += 1
        self._there.server.kill()
        shutil.copy(copied.path, self._directory / "dump.rdb")
        for session in self._sessions.all:
            session.forget(copied.last[self._sessions.key(session)])
        self.counts["restored"] += 1
        await asyncio.to_thread(self._there.server.start)

    async def _kill(self) -> None:
        fleet = self._there.fleet
        if fleet.running:
            await fleet.kill(self._random.choice(fleet.running))
        while len(fleet.running) < FEWEST + 1:
            await fleet.start("one", shutdown=self._random.choice(("flush", "handoff")))

    async def _delete(self) -> None:
        """Delete a conversation, which goes on talking."""
        session = self._random.choice(self._sessions.all)
        await self._sessions.hold(lambda: self._deleted(session))

    async def _deleted(self, session: Session) -> None:
        plan = self._there.plan
        async with self._store() as store:
            try:
                async with open_tombstones(self._there.server.url, PREFIX, plan.partitions) as tombstones:
                    await Archive(store).delete(UID, session.conversation_id, tombstones=tombstones)
            except (StreamError, StoreError):
                self.counts["deletions failed"] += 1
                session.lost.update(range(1, session.pushed + 1))  # some of it may have gone
                return
        session.deleted = session.pushed
        self.counts["deleted"] += 1

    @asynccontextmanager
    async def _store(self) -> AsyncIterator[Store]:
        bucket = self._there.bucket
        store = open_store(f"gs://{bucket.bucket}", emulator_host=bucket.url)
        try:
            yield store
        finally:
            await store.close()

    async def _copy_blobs(self) -> None:
        source, target = self._random.sample(self._sessions.all, 2)
        async with self._store() as store:
            try:
                report = await Archive(store).copy(UID, [source.conversation_id], target.conversation_id)
            except NothingStored:
                return
        self.counts["blobs copied"] += len(report.copies)


async def forgetting(plan: Plan, directory: Path) -> tuple[list[str], list[str]]:
    """One run; what is wrong, best nothing, and its figures."""
    async with world(plan, directory) as there:
        random = Random(plan.seed)
        sessions = Sessions(there, random)
        trouble = Forgetting(there, sessions, random, directory)
        for _ in range(FEWEST + 1):
            await there.fleet.start("one")
        await sessions.talk_through(trouble.run)
        try:
            await there.quiet()
        except TimeoutError:
            there.fleet.wrong.append("after the last fault it never becomes quiet")
        await asyncio.gather(*(there.fleet.stop(member) for member in there.fleet.running))
        return [*await audio_findings(there, sessions), *there.fleet.wrong], _figures(there, sessions, trouble)


async def audio_findings(there: World, sessions: Sessions) -> list[str]:
    """What is wrong with what is stored, one sentence each."""
    objects = await there.bucket.objects()
    names = [name for name in objects if name.startswith("chunks/")]
    blobs = [Blob(name, await there.bucket.data(name), objects[name].get("metadata", {})) for name in names]
    return [sentence for session in sessions.all for sentence in _audio(session, blobs)]


def _audio(session: Session, blobs: Sequence[Blob]) -> Iterator[str]:
    folder = f"chunks/{UID}/{session.conversation_id}/"
    own = sorted((blob for blob in blobs if blob.name.startswith(folder)), key=_by_entry if session.lost else _by_start)
    try:
        found = [number - session.base for blob in own for number in numbers_of(blob)]
    except ValueError as error:
        yield f"{session.conversation_id}: {error}"
        return
    stored = [number for number in found if 0 < number <= MOST_CHUNKS and number not in session.lost]
    expected = [number for number in range(session.deleted + 1, session.pushed + 1) if number not in session.lost]
    if missing := sorted(set(expected) - set(stored)):
        yield f"{session.conversation_id}: {missing} of {session.pushed} are missing"
    if back := sorted(set(stored) - set(expected)):
        yield f"{session.conversation_id}: {back} came back, though all up to {session.deleted} was deleted"
    if doubled := sorted(number for number, count in Counter(stored).items() if count > 1):
        yield f"{session.conversation_id}: {doubled} are doubled"
    if stored != sorted(stored):
        yield f"{session.conversation_id}: the order is wrong: {_out_of_order(session, own)}"


def _by_start(blob: Blob) -> float:
    return parse_name(blob.name).start


def _by_entry(blob: Blob) -> tuple[int, int]:
    """A chunk that Redis forgot may be pushed again after later ones; then the stream tells the order."""
    return entry_order(blob.metadata["first-entry"])


def _out_of_order(session: Session, own: Sequence[Blob]) -> list[str]:
    """The blobs where it is, with a star at what Redis may have forgotten."""
    told, last, before = [], 0, ""
    for blob in own:
        numbers = [number - session.base for number in numbers_of(blob) if 0 < number - session.base <= MOST_CHUNKS]
        certain = [number for number in numbers if number not in session.lost]
        shown = " ".join(f"{number}{'*' if number in session.lost else ''}" for number in numbers)
        shown = f"{blob.name.rpartition('/')[2]} {blob.metadata.get('first-entry')}: {shown}"
        if certain and [last, *certain] != sorted([last, *certain]):
            told.append(f"{shown} after {before}")
        if certain and certain[-1] > last:
            last, before = certain[-1], shown
    return told


def _figures(there: World, sessions: Sessions, trouble: Forgetting) -> list[str]:
    pushed = sum(session.pushed for session in sessions.all)
    lost = sum(len(session.lost) for session in sessions.all)
    conflicts = there.fleet.names_taken()
    looked_up = sum(int(str(event["conversations"])) for event in there.fleet.said("conversations.looked_up"))
    return [
        f"{pushed} chunks in {len(sessions.all)} conversations with {sum(s.lives for s in sessions.all)} lives",
        f"{lost} chunks that Redis forgot, or that were pushed over its death",
        f"{dict(trouble.counts)}",
        f"workers: {dict(there.fleet.counts)}",
        f"names found taken: {dict(conflicts)}, {looked_up} conversations looked up",
    ]
