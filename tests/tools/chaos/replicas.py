"""Redis fails over to a replica that lags behind and whose clock is slow, again and again.

Two servers take turns as the primary. Everybody reaches the one that is it through a proxy. Beside it workers die, the
store tells lies, blobs wait in a spool, sessions begin another life, and conversations are deleted.
"""

from __future__ import annotations

import asyncio
import shutil
import subprocess
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any

import redis
from redis import RedisError

from tests.support.proxy import Proxy
from tests.support.redis_server import RedisServer
from tests.tools.chaos.conservation import PREFIX, World, around
from tests.tools.chaos.forgetting import Session, Sessions, audio_findings
from tests.tools.chaos.outage import emptied
from tests.tools.chaos.talks import UID
from tests.tools.chaos.trouble import FEWEST, Plan, lie, spooling
from tests.tools.simulation.redis_model import Id, parsed_id
from worker.archive import Archive
from worker.errors import StoreError, StreamError
from worker.stores import open_store
from worker.stream.tombstones import open_tombstones

SLOW_SECONDS = 5
CLOCK = Path(__file__).with_name("slow_clock.c")
LONGEST_LAG = 2.0
PATIENCE = 20.0
REPLICATION = {"maxclients": "500", "repl_diskless_sync": "yes", "repl_diskless_sync_delay": "0"}


class SlowServer(RedisServer):
    """A server whose clock is behind, where there is a C compiler; else it is right."""

    has_compiler = shutil.which("cc") is not None

    def _command(self) -> list[str]:
        if not self.has_compiler:
            return super()._command()
        library = self.directory / "slow_clock.so"
        if not library.exists():
            options = ["-shared", "-fPIC", f"-DSLOW_SECONDS={SLOW_SECONDS}", "-o", str(library), str(CLOCK)]
            subprocess.run(["cc", *options], check=True)
        return ["env", f"LD_PRELOAD={library}", *super()._command()]


class Front(Proxy):
    """The name under which the primary is reached."""

    def turn_to(self, port: int) -> None:
        """Another server is the primary; for connections that come from now on."""
        self._target = port


class Pair:
    """A primary, and a replica that follows it over a link that can be stalled."""

    def __init__(self, primary: RedisServer, replica: RedisServer, front: Front) -> None:
        self.primary = primary
        self.replica = replica
        self._front = front
        self._link: Proxy | None = None

    async def follow(self) -> None:
        """Let the replica follow, and wait until it has everything."""
        self._link = Proxy(self.primary.port)
        await self._link.accept()
        await asyncio.to_thread(self.replica.start)
        with self.replica.client() as client:
            await asyncio.to_thread(client.replicaof, "127.0.0.1", str(self._link.port))
            async with asyncio.timeout(PATIENCE):
                while not await asyncio.to_thread(_is_linked, client):  # noqa: ASYNC110 -- it can only be looked at
                    await asyncio.sleep(0.05)

    async def lag(self, seconds: float) -> None:
        """Let nothing more reach the replica for some seconds."""
        assert self._link is not None
        self._link.stall()
        await asyncio.sleep(seconds)

    async def down(self) -> None:
        """The primary dies."""
        await self._front.refuse()
        self.primary.kill()
        await self._cut()

    async def promote(self) -> None:
        """The replica takes its place."""
        with self.replica.client() as client:
            await asyncio.to_thread(client.replicaof, "NO", "ONE")
        self.primary, self.replica = self.replica, self.primary
        self._front.turn_to(self.primary.port)
        await self._front.accept()

    async def close(self) -> None:
        """End everything."""
        await self._cut()
        self.primary.kill()
        self.replica.kill()

    async def _cut(self) -> None:
        """Drop what is held back on the link, and end it."""
        link, self._link = self._link, None
        if link is not None:
            await link.refuse()
            link.resume()


class Failing:
    """Makes the trouble; `forgotten` counts entries that Redis had accepted and does not have."""

    def __init__(self, there: World, pair: Pair, sessions: Sessions, random: Random, spool: Path) -> None:
        self._there = there
        self._pair = pair
        self._sessions = sessions
        self._random = random
        self._spool = spool
        self.counts: Counter[str] = Counter()
        self.forgotten = 0

    async def run(self) -> None:
        """Until the plan's number of failovers and kills is reached."""
        plan = self._there.plan
        steps = [*4 * [self._fail_over], *4 * [self._kill], *3 * [self._lie], self._delete]
        while self.counts["failovers"] + self._there.fleet.counts["killed"] < plan.kills:
            await asyncio.sleep(plan.pace * self._random.random())
            await self._random.choice(steps)()
        await self._there.bucket.clear_faults()

    async def start(self) -> None:
        """Start a worker with any of the settings that may be mixed."""
        shutdown = self._random.choice(("flush", "handoff"))
        await self._there.fleet.start("one", shutdown=shutdown, **spooling(self._spool, self._random))

    async def _fail_over(self) -> None:
        await self._pair.lag(LONGEST_LAG * self._random.random() ** 3)
        added = await _added(self._pair.primary, self._keys())
        self._sessions.incarnation += 1
        await self._pair.down()
        last = await _last(self._pair.replica, self._keys())
        for session in self._sessions.all:
            session.forget(last[self._sessions.key(session)])
        kept = await _added(self._pair.replica, self._keys())
        self.forgotten += sum(added[key] - kept[key] for key in added)
        await self._pair.promote()
        await self._pair.follow()
        self.counts["failovers"] += 1

    def _keys(self) -> set[str]:
        return {self._sessions.key(session) for session in self._sessions.all}

    async def _kill(self) -> None:
        fleet = self._there.fleet
        if fleet.running:
            await fleet.kill(self._random.choice(fleet.running))
        while len(fleet.running) < FEWEST + 1:
            await self.start()

    async def _lie(self) -> None:
        self.counts["lies"] += 1
        await lie(self._there.bucket, self._random)

    async def _delete(self) -> None:
        session = self._random.choice(self._sessions.all)
        await self._sessions.hold(lambda: self._deleted(session))

    async def _deleted(self, session: Session) -> None:
        """Delete a conversation, which goes on talking; what was pushed before may come back if the report says so."""
        there = self._there
        store = open_store(f"gs://{there.bucket.bucket}", emulator_host=there.bucket.url)
        url = f"redis://127.0.0.1:{self._pair.primary.port}/0"
        complete = False
        try:
            async with open_tombstones(url, PREFIX, there.plan.partitions) as tombstones:
                report = await Archive(store).delete(UID, session.conversation_id, tombstones=tombstones)
                complete = report.complete
        except (StreamError, StoreError):
            self.counts["deletions failed"] += 1
        finally:
            await store.close()
        if complete:
            session.deleted = session.pushed
        else:
            session.lost.update(range(1, session.pushed + 1))
        self.counts["deleted" if complete else "deleted, perhaps not all"] += 1


async def replicas(plan: Plan, directory: Path) -> tuple[list[str], list[str]]:
    """One run; what is wrong, best nothing, and its figures."""
    spool = directory / "spool"
    spool.mkdir()
    async with _paired(plan, directory) as (there, pair):
        random = Random(plan.seed)
        sessions = Sessions(there, random)
        trouble = Failing(there, pair, sessions, random, spool)
        for _ in range(FEWEST + 1):
            await trouble.start()
        await sessions.talk_through(trouble.run)
        try:
            await there.quiet()
            await emptied(spool)
        except TimeoutError:
            there.fleet.wrong.append("after the last fault it never becomes quiet")
        await asyncio.gather(*(there.fleet.stop(member) for member in there.fleet.running))
        wrong = [*await audio_findings(there, sessions), *there.fleet.wrong, *_losses(there, trouble)]
        return wrong, _figures(there, sessions, trouble)


@asynccontextmanager
async def _paired(plan: Plan, directory: Path) -> AsyncIterator[tuple[World, Pair]]:
    for name in ("one", "two"):
        (directory / name).mkdir()
    first = RedisServer(directory / "one", **REPLICATION)
    first.start()
    async with Front(first.port) as front:
        pair = Pair(first, SlowServer(directory / "two", **REPLICATION), front)
        try:
            await pair.follow()
            async with around(plan, pair.primary, front.url) as there:
                yield there, pair
        finally:
            await pair.close()


def _is_linked(replica: redis.Redis) -> bool:
    return bool(replica.info("replication")["master_link_status"] == "up")


async def _last(server: RedisServer, keys: set[str]) -> dict[str, Id]:
    facts = await _facts(server, keys)
    return {key: parsed_id(found.get("last-generated-id", b"0-0")) for key, found in facts.items()}


async def _added(server: RedisServer, keys: set[str]) -> dict[str, int]:
    return {key: int(found.get("entries-added", 0)) for key, found in (await _facts(server, keys)).items()}


async def _facts(server: RedisServer, keys: set[str]) -> dict[str, Any]:
    def ask() -> dict[str, Any]:
        with server.client() as client:
            found: dict[str, Any] = {}
            for key in sorted(keys):
                try:
                    found[key] = client.xinfo_stream(key)
                except RedisError:  # there is none yet
                    found[key] = {}
            return found

    return await asyncio.to_thread(ask)


def _losses(there: World, trouble: Failing) -> list[str]:
    """Workers may call nothing lost but what Redis forgot."""
    told = reported_losses(there)
    return [f"{told} entries are said to be lost, {trouble.forgotten} are"] if told > trouble.forgotten else []


def reported_losses(there: World) -> int:
    """Entries that workers say vanished."""
    return sum(int(str(event["entries"])) for event in there.fleet.said("entries.lost"))


def _figures(there: World, sessions: Sessions, trouble: Failing) -> list[str]:
    conflicts = there.fleet.names_taken()
    exempt = sum(len(session.lost) for session in sessions.all)
    pushed = sum(session.pushed for session in sessions.all)
    looked_up = sum(int(str(event["conversations"])) for event in there.fleet.said("conversations.looked_up"))
    clock = f"{SLOW_SECONDS} s slow" if SlowServer.has_compiler else "right, for want of a C compiler"
    return [
        f"{pushed} chunks in {len(sessions.all)} conversations, {exempt} exempt",
        f"{sum(session.lives for session in sessions.all)} lives; the second server's clock is {clock}",
        f"Redis forgot {trouble.forgotten} entries, workers missed {reported_losses(there)} of them",
        f"{dict(trouble.counts)}",
        f"workers: {dict(there.fleet.counts)}",
        f"names found taken: {dict(conflicts)}, {looked_up} looked up",
    ]
