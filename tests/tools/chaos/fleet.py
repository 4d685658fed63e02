"""Worker processes that come and go, and who owns which partition meanwhile."""

from __future__ import annotations

import asyncio
import itertools
import signal
from collections import Counter
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from random import Random
from typing import Self

import redis.asyncio
from redis import RedisError

from tests.support.process import Process, environment
from worker.settings import Settings
from worker.stream.keys import Keys
from worker.stream.leases import owner_of

LOOK_SECONDS = 0.02
STOP_SECONDS = 60.0
"""Patience with a worker that is to stop: more than its grace time, on a machine that is busy."""


@dataclass(eq=False, slots=True)
class Member:
    """One worker process."""

    name: str
    process: Process
    revision: str
    ended: bool = False
    paused: bool = False


@dataclass(slots=True)
class Watch:
    """What is seen of the leases: how often a partition changed hands, and how long it took, in seconds."""

    owners: list[str | None]
    moves: int = 0
    after_kill: list[float] = field(default_factory=list)
    after_stop: list[float] = field(default_factory=list)
    killed_at: dict[str, float] = field(default_factory=dict)
    _stopping: set[str] = field(default_factory=set)
    _last: dict[int, str] = field(default_factory=dict)
    _free_since: dict[int, float] = field(default_factory=dict)

    def stopping(self, name: str) -> None:
        self._stopping.add(name)

    def see(self, owners: list[str | None], now: float) -> None:
        for partition, owner in enumerate(owners):
            if owner is None:
                self._free_since.setdefault(partition, now)
                continue
            before = self._last.get(partition)
            if before is not None and before != owner:
                self._moved(partition, before, now)
            self._last[partition] = owner
            self._free_since.pop(partition, None)
        self.owners = owners

    def shares(self) -> list[int]:
        """Partitions per owner, the largest first."""
        return sorted(Counter(owner for owner in self.owners if owner).values(), reverse=True)

    def _moved(self, partition: int, before: str, now: float) -> None:
        self.moves += 1
        if before in self.killed_at:
            self.after_kill.append(now - self.killed_at[before])
        elif before in self._stopping:
            self.after_stop.append(now - self._free_since.get(partition, now))


class Fleet:
    """Starts and ends workers; leaving the context kills what is left. Without a client, leases are not watched."""

    def __init__(self, settings: Callable[..., Settings], client: redis.asyncio.Redis | None = None) -> None:
        self._settings = settings
        self._client = client
        self._partitions = settings().partitions
        self._keys = Keys(settings().stream_prefix)
        self._numbers = itertools.count(1)
        self._stack = AsyncExitStack()
        self.members: list[Member] = []
        self.watch = Watch([None] * self._partitions)
        self.counts: Counter[str] = Counter()
        self.wrong: list[str] = []

    async def __aenter__(self) -> Self:
        self._watching = None if self._client is None else asyncio.create_task(self._look(self._client))
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._watching is not None:
            self._watching.cancel()
        for member in self.members:
            if member.paused:
                member.process.signal(signal.SIGCONT)
        await self._stack.aclose()

    @property
    def running(self) -> list[Member]:
        return [member for member in self.members if not member.ended]

    async def start(self, revision: str, **changes: object) -> Member:
        name = f"w{next(self._numbers)}"
        variables = environment(self._settings(worker_id=name, revision=revision, **changes))
        process = await self._stack.enter_async_context(Process(variables, "run"))
        member = Member(name, process, revision)
        self.members.append(member)
        self.counts["started"] += 1
        return member

    async def kill(self, member: Member) -> None:
        member.ended = True
        self.watch.killed_at[member.name] = asyncio.get_running_loop().time()
        await member.process.kill()
        self.counts["killed"] += 1

    async def kill_any(self, random: Random) -> None:
        """Kill a worker while two are at work: else a busy machine would do nothing but start workers."""
        working = [member for member in self.running if member.process.events("redis.connected")]
        if len(working) > 1:
            await self.kill(random.choice(self.running))

    async def pause(self, member: Member, seconds: float) -> None:
        member.paused = True
        member.process.signal(signal.SIGSTOP)
        self.counts["paused"] += 1
        await asyncio.sleep(seconds)
        if not member.ended:
            member.process.signal(signal.SIGCONT)
        member.paused = False

    async def stop(self, member: Member) -> None:
        """SIGTERM, and whatever it takes to end well; before it has started, the signal's own effect."""
        started = bool(member.process.lines)
        member.ended = True
        self.watch.stopping(member.name)
        member.process.signal(signal.SIGTERM)
        self.counts["stopped"] += 1
        status = await member.process.ended(STOP_SECONDS)
        if status != 0 and not (status == -signal.SIGTERM and not started):
            self.wrong.append(f"{member.name} ended with status {status}: {member.process.lines[-3:]}")

    def said(self, event: str) -> list[dict[str, object]]:
        """What all workers logged under that name."""
        return [fields for member in self.members for fields in member.process.events(event)]

    def names_taken(self) -> Counter[str]:
        """What uploads found under their names: the batch itself, a part of it, or something else."""
        found = Counter(str(event["verdict"]) for event in self.said("store.conflict"))
        return found + Counter(same=len(self.said("store.recognised")))

    async def _look(self, client: redis.asyncio.Redis) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                async with client.pipeline(transaction=False) as pipe:
                    for partition in range(self._partitions):
                        pipe.get(self._keys.lease(partition))
                    tokens = await pipe.execute()
                self.watch.see(list(map(owner_of, tokens)), loop.time())
            except (RedisError, OSError):
                self.counts["looks failed"] += 1
            await asyncio.sleep(LOOK_SECONDS)
