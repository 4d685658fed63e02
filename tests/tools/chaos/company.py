"""Workers are not alone: conversations come by several streams, and other programs copy, convert and delete meanwhile.

Half of the conversations move: to a wrong partition, or to another prefix with its own number of partitions and its own
workers, which store into the same bucket. The other half are deleted now and then. All are copied and converted. Beside
it workers of both prefixes die, the store tells lies, and blobs wait in a spool.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import aclosing, asynccontextmanager
from functools import partial
from itertools import pairwise
from pathlib import Path
from random import Random

from codec.blob import decode
from codec.entry import Chunk, End, partition_of
from codec.manifest import verified
from codec.names import parse_name
from tests.support.secret import TEST_SECRET
from tests.tools.chaos.account import Blob, as_read
from tests.tools.chaos.conservation import PREFIX, World, world
from tests.tools.chaos.fleet import Fleet
from tests.tools.chaos.forgetting import Session, Sessions
from tests.tools.chaos.outage import emptied
from tests.tools.chaos.talks import SAMPLES, UID
from tests.tools.chaos.trouble import FEWEST, Plan, lie, spooling
from tests.tools.simulation.audio import numbers_in
from worker.archive import Archive, Encoding
from worker.archive.blobs.provenance import COPIED, FILE
from worker.errors import NothingStored, StoreError
from worker.stores import open_store
from worker.stream.keys import Keys
from worker.stream.tombstones import open_tombstones

OTHER_PREFIX, OTHER_PARTITIONS = "other", 8
FASTEST = 1


class Movers(Sessions):
    """Sessions of which every second one pushes to one stream after the other. A chunk that is repeated stays there."""

    def __init__(self, there: World, random: Random) -> None:
        super().__init__(there, random)
        self._moved: dict[str, str] = {}
        self._homes: dict[tuple[str, bytes | None, int | None], str] = {}
        self.movers, self.stayers = self.all[::2], self.all[1::2]

    def key_for(self, session: Session, content: Chunk | End) -> str:
        """See `Sessions`."""
        now = self._moved.get(session.conversation_id, self.key(session))
        if isinstance(content, End):
            return now
        return self._homes.setdefault((session.conversation_id, content.session, content.seq), now)

    def move(self, session: Session, key: str | None) -> None:
        """Push what is new to another stream; None is the right one."""
        if key is None:
            self._moved.pop(session.conversation_id, None)
        else:
            self._moved[session.conversation_id] = key

    def stream_of(self, session: Session, number: int) -> str:
        """Where a chunk was pushed to."""
        return self.key_for(session, session.chunks[number - 1])


class Company:
    """Makes the trouble."""

    def __init__(self, there: World, others: Fleet, sessions: Movers, random: Random, spool: Path) -> None:
        self._there = there
        self._others = others
        self._sessions = sessions
        self._random = random
        self._spool = spool
        self._converting: asyncio.Task[None] | None = None
        self.counts: Counter[str] = Counter()
        self.kept: Counter[str] = Counter()

    async def run(self) -> None:
        """Until the plan's number of kills is reached."""
        plan = self._there.plan
        steps = [*4 * [self._kill], *4 * [self._move], *2 * [self._lie, self._convert], *4 * [self._copy], self._delete]
        while self._killed() < plan.kills:
            await asyncio.sleep(plan.pace * self._random.random())
            await self._random.choice(steps)()
        await self._there.bucket.clear_faults()
        if self._converting is not None:
            await asyncio.wait([self._converting])
            if not self._converting.cancelled():
                self._converting.result()
        await self._converted()

    async def start(self, fleet: Fleet) -> None:
        """Start a worker with any of the settings that may be mixed."""
        shutdown = self._random.choice(("flush", "handoff"))
        await fleet.start("one", shutdown=shutdown, **spooling(self._spool, self._random))

    def _killed(self) -> int:
        return self._there.fleet.counts["killed"] + self._others.counts["killed"]

    async def _kill(self) -> None:
        fleet = self._random.choice((self._there.fleet, self._there.fleet, self._others))
        if fleet.running:
            await fleet.kill(self._random.choice(fleet.running))
        while len(fleet.running) < FEWEST:
            await self.start(fleet)

    async def _move(self) -> None:
        session = self._random.choice(self._sessions.movers)
        wrong = self._there.keys.stream(self._random.randrange(self._there.plan.partitions))
        partition = partition_of(session.conversation_id, OTHER_PARTITIONS)
        self._sessions.move(session, self._random.choice((None, wrong, Keys(OTHER_PREFIX).stream(partition))))
        self.counts["moves"] += 1

    async def _lie(self) -> None:
        self.counts["lies"] += 1
        await lie(self._there.bucket, self._random)

    async def _copy(self) -> None:
        """Copy a conversation into one that has not come so far: names that are coming there are taken then."""
        target, *_, source = sorted(self._random.sample(self._sessions.all, 6), key=lambda session: session.timestamp)
        async with self._archive() as archive:
            try:
                report = await archive.copy(UID, [source.conversation_id], target.conversation_id)
            except (NothingStored, StoreError):
                return
        self.counts["blobs copied"] += len(report.copies)

    async def _convert(self) -> None:
        """Begin to convert all that is there, or stop that in the middle."""
        if self._converting is not None and not self._converting.done():
            if self._random.random() < 0.3:
                self._converting.cancel()
                self.counts["conversions stopped"] += 1
            return
        self._converting = asyncio.create_task(self._converted())

    async def _converted(self) -> None:
        async with self._archive() as archive:
            try:
                async with aclosing(archive.convert(Encoding(TEST_SECRET, FASTEST), UID, dry_run=False)) as found:
                    async for conversion in found:
                        self.counts[f"blobs {conversion.outcome}"] += 1
                        if conversion.reason:
                            self.kept[conversion.reason.partition(":")[0].rpartition("/")[2]] += 1
            except StoreError:
                self.counts["conversions failed"] += 1

    async def _delete(self) -> None:
        session = self._random.choice(self._sessions.stayers)
        await self._sessions.hold(partial(self._deleted, session))

    async def _deleted(self, session: Session) -> None:
        plan = self._there.plan
        try:
            async with (
                self._archive() as archive,
                open_tombstones(self._there.server.url, PREFIX, plan.partitions) as told,
            ):
                report = await archive.delete(UID, session.conversation_id, tombstones=told)
        except StoreError:
            session.lost.update(range(1, session.pushed + 1))  # some of it may have gone
            self.counts["deletions failed"] += 1
            return
        self.counts["deleted" if report.complete else "deleted, perhaps not all"] += 1
        if report.complete:
            session.deleted = session.pushed
        else:
            session.lost.update(range(1, session.pushed + 1))

    @asynccontextmanager
    async def _archive(self) -> AsyncIterator[Archive]:
        bucket = self._there.bucket
        store = open_store(f"gs://{bucket.bucket}", emulator_host=bucket.url)
        try:
            yield Archive(store, [TEST_SECRET])
        finally:
            await store.close()


async def company(plan: Plan, directory: Path) -> tuple[list[str], list[str]]:
    """One run; what is wrong, best nothing, and its figures."""
    spool = directory / "spool"
    spool.mkdir()
    async with world(plan, directory) as there, _others(there) as others:
        random = Random(plan.seed)
        sessions = Movers(there, random)
        trouble = Company(there, others, sessions, random, spool)
        for fleet in (there.fleet, others) * FEWEST:
            await trouble.start(fleet)
        await sessions.talk_through(trouble.run)
        try:
            await there.quiet()
            await there.quiet(Keys(OTHER_PREFIX), OTHER_PARTITIONS)
            await emptied(spool)
        except TimeoutError:
            there.fleet.wrong.append("after the last fault it never becomes quiet")
        for fleet in (there.fleet, others):
            await asyncio.gather(*(fleet.stop(member) for member in fleet.running))
        wrong = [*await audio_findings(there, sessions), *_complaints(there.fleet), *_complaints(others)]
        return wrong, _figures(there, others, sessions, trouble)


@asynccontextmanager
async def _others(there: World) -> AsyncIterator[Fleet]:
    """Workers of the other prefix."""
    settings = partial(there.settings, stream_prefix=OTHER_PREFIX, partitions=OTHER_PARTITIONS)
    async with Fleet(settings, there.client) as fleet:
        yield fleet


async def audio_findings(there: World, sessions: Movers) -> list[str]:
    """What is wrong with what is stored, one sentence each."""
    objects = await there.bucket.objects()
    names = [name for name in objects if name.startswith("chunks/")]
    blobs = [Blob(name, await there.bucket.data(name), objects[name].get("metadata", {})) for name in names]
    return [sentence for session in sessions.all for sentence in _audio(sessions, session, blobs)]


def _audio(sessions: Movers, session: Session, blobs: Sequence[Blob]) -> Iterator[str]:
    folder = f"chunks/{UID}/{session.conversation_id}/"
    own = _once([blob for blob in blobs if blob.name.startswith(folder) and COPIED not in blob.metadata])
    try:
        found = [_numbers(session, blob) for blob in sorted(own, key=lambda blob: parse_name(blob.name).start)]
    except ValueError as error:
        yield f"{session.conversation_id}: {error}"
        return
    stored = [number for numbers in found for number in numbers if number not in session.lost]
    expected = [number for number in range(session.deleted + 1, session.pushed + 1) if number not in session.lost]
    if missing := sorted(set(expected) - set(stored)):
        yield f"{session.conversation_id}: {missing} of {session.pushed} are missing"
    if back := sorted(set(stored) - set(expected)):
        yield f"{session.conversation_id}: {back} came back, though all up to {session.deleted} was deleted"
    if doubled := sorted(number for number, count in Counter(stored).items() if count > 1):
        yield f"{session.conversation_id}: {doubled} are doubled"
    yield from _order(sessions, session, found)


def _order(sessions: Movers, session: Session, found: Sequence[Sequence[int]]) -> Iterator[str]:
    """Chunks of one stream are in order, and a blob holds chunks of one stream."""
    by_stream: dict[str, list[int]] = {}
    for numbers in found:
        streams = {sessions.stream_of(session, number) for number in numbers}
        if len(streams) > 1:
            yield f"{session.conversation_id}: a blob holds {numbers}, of {streams}"
        for number in numbers:
            by_stream.setdefault(sessions.stream_of(session, number), []).append(number)
    for stream, numbers in by_stream.items():
        certain = [number for number in numbers if number not in session.lost]
        for before, number in pairwise(certain):
            if number < before:
                yield f"{session.conversation_id}: {number} comes after {before} of {stream}"


def _once(own: Sequence[Blob]) -> list[Blob]:
    """Without those that a conversion made and left beside their sources: such audio does not sound like itself.

    Readers take the two for one.
    """
    held = {(blob.name, blob.metadata.get("chunks-digest")) for blob in own}
    return [blob for blob in own if (_source(blob), blob.metadata.get("chunks-digest")) not in held]


def _source(blob: Blob) -> str:
    """The blob that another one was made from."""
    return f"{blob.name.rpartition('/')[0]}/{blob.metadata.get(FILE, '')}"


def _numbers(session: Session, blob: Blob) -> list[int]:
    """The chunks in a blob: told by its manifest, and by each sample of what is still PCM."""
    manifest = verified(blob.metadata, UID, session.conversation_id, all_secrets=[TEST_SECRET])
    audio = decode(blob.data, blob.name, blob.metadata, secrets=[TEST_SECRET])
    if manifest is None or manifest.size != len(blob.data):
        raise ValueError(f"{blob.name} has no manifest that is true: {blob.metadata}")
    pushed = {as_read(chunk).identity(): number for number, chunk in enumerate(session.chunks, start=1)}
    if unknown := [identity.hex() for identity in manifest.listed() if identity not in pushed]:
        raise ValueError(f"{blob.name} holds {unknown}, which nobody has pushed")
    numbers = [pushed[identity] for identity in manifest.listed()]
    if len(audio.pcm) // 2 < len(numbers) * SAMPLES:
        raise ValueError(f"{blob.name} holds {len(audio.pcm) // 2} samples for {len(numbers)} chunks")
    if blob.metadata["codec"] == "pcm":
        told = [number - session.base for number in numbers_in(audio.pcm, SAMPLES)]
        if told != numbers:
            raise ValueError(f"{blob.name} holds the chunks {told}, its manifest says {numbers}")
    return numbers


def _complaints(fleet: Fleet) -> list[str]:
    lost = fleet.said("entries.lost")
    return [*fleet.wrong, *([f"workers report lost entries: {lost[:3]}"] if lost else [])]


def _figures(there: World, others: Fleet, sessions: Movers, trouble: Company) -> list[str]:
    fleets = (there.fleet, others)
    conflicts = there.fleet.names_taken() + others.names_taken()
    pushed = sum(session.pushed for session in sessions.all)
    refused = sum(int(str(event["times"])) for fleet in fleets for event in fleet.said("store.refused"))
    return [
        f"{pushed} chunks in {len(sessions.all)} conversations, {sum(len(s.lost) for s in sessions.all)} exempt",
        f"{sum(session.lives for session in sessions.all)} lives",
        f"{dict(trouble.counts)}",
        f"blobs that were not converted, by reason: {dict(trouble.kept)}",
        f"workers: {dict(there.fleet.counts)}, of the other prefix: {dict(others.counts)}",
        f"names found taken: {dict(conflicts)}, {refused} requests refused",
    ]
