"""Trouble by a seed: what is done to workers, connections and uploads, and when."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random

import redis.asyncio
from redis import RedisError

from tests.support.gcs.control import GcsClient
from tests.tools.chaos.fleet import Fleet, Member

FEWEST, MOST = 2, 5
"""Workers at a time."""

OTHER_OBJECT: dict[str, object] = {
    "kind": "storage#object",
    "bucket": "test-bucket",
    "name": "another/object",
    "size": "3",
    "crc32c": "AAAAAA==",
    "generation": "1",
    "metageneration": "1",
}
LIES: tuple[dict[str, object], ...] = (
    {"action": "answer", "status": 200, "body": {}},
    {"action": "answer", "status": 200, "body": {}, "done": True},
    {"action": "answer", "status": 200, "body": OTHER_OBJECT},
    {"action": "answer", "status": 200, "body": OTHER_OBJECT, "done": True},
    {"action": "answer", "status": 300, "body": OTHER_OBJECT},
    {"action": "answer", "status": 308, "body": {}},
    {"action": "answer", "status": 308, "body": OTHER_OBJECT, "done": True},
    {"action": "answer", "status": 307, "body": {}, "headers": {"Location": "/elsewhere"}},
    {"action": "answer", "status": 412, "body": {}},
    {"action": "garbage"},
    {"action": "corrupt"},
    {"action": "drop_reply"},
)
"""What a store that lies answers; `done` says that it carries the request out all the same."""

WRONG_FACTS: tuple[dict[str, object], ...] = (
    {"action": "misdescribe", "changes": {"size": "3"}},
    {"action": "misdescribe", "changes": {"crc32c": "AAAAAA=="}},
    {"action": "misdescribe", "changes": {"generation": "1", "size": "3"}},
)
"""How it describes objects that are as they should be."""

NONSENSE = {"answer", "garbage", "misdescribe"}
"""Faults by which an answer makes no sense."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How long and how much: chaos ends after `seconds` and not before `kills` workers were killed."""

    seed: int
    talks: int = 50
    interval: float = 0.25
    partitions: int = 16
    seconds: float = 20.0
    kills: int = 8
    pace: float = 1.2
    lease_ttl: float = 1.5
    codec: str = "pcm"


async def lie(bucket: GcsClient, random: Random) -> None:
    """Let the store answer some uploads, listings and look-ups with nonsense."""
    fault = {**random.choice((*LIES, *WRONG_FACTS)), "times": random.randint(1, 4)}
    await bucket.fail("insert.*", **fault)  # type: ignore[arg-type]
    if random.random() < 0.3:
        await bucket.fail("list", "answer", status=200, body={}, times=random.randint(1, 3))
    if random.random() < 0.5:
        fault = {**random.choice((*LIES, *WRONG_FACTS)), "times": random.randint(1, 3)}
        await bucket.fail("get", **fault)  # type: ignore[arg-type]


def spooling(directory: Path, random: Random) -> dict[str, object]:
    """Settings of one worker: a spool that all share, filled in one of the modes."""
    mode = random.choice(("off", "outage", "always"))
    return {"spool_dir": directory, "spool_mode": mode, "spool_after": 0.5}


class Trouble:
    """Makes it until the plan is fulfilled."""

    def __init__(self, plan: Plan, fleet: Fleet, client: redis.asyncio.Redis, bucket: GcsClient) -> None:
        self._plan = plan
        self._fleet = fleet
        self._client = client
        self._bucket = bucket
        self._random = Random(plan.seed)
        self._revision = 1
        self._under_way: set[asyncio.Task[None]] = set()

    @property
    def revision(self) -> str:
        return f"revision-{self._revision}"

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        ends = loop.time() + self._plan.seconds
        troubles: list[Callable[[], Awaitable[None]]] = [
            *6 * [self._kill],
            *2 * [self._pause, self._scale, self._cut],
            *6 * [self._spoil_uploads],
            self._roll,
        ]
        while loop.time() < ends or self._fleet.counts["killed"] < self._plan.kills:
            await asyncio.sleep(self._plan.pace * self._random.random())
            await self._random.choice(troubles)()
        if self._under_way:
            await asyncio.wait(self._under_way)
        await self._bucket.clear_faults()

    async def _kill(self) -> None:
        if member := self._anyone():
            await self._fleet.kill(member)
            await self._refill()

    async def _pause(self) -> None:
        if member := self._anyone():
            seconds = self._plan.lease_ttl * self._random.uniform(1.2, 2.5)
            self._begin(self._fleet.pause(member, seconds))

    async def _scale(self) -> None:
        member = self._anyone()
        if len(self._fleet.running) >= MOST or (self._random.random() < 0.4 and len(self._fleet.running) > FEWEST):
            if member is not None:
                self._begin(self._fleet.stop(member))
        else:
            await self._start()

    async def _roll(self) -> None:
        """All workers are replaced by ones of another revision, one after the other."""
        self._revision += 1
        self._fleet.counts["rollouts"] += 1
        for old in [member for member in self._fleet.running if not member.paused][:MOST]:
            await self._start()
            if not old.ended and not old.paused:
                self._begin(self._fleet.stop(old))
            await asyncio.sleep(0.3)

    async def _cut(self) -> None:
        self._fleet.counts["connections cut"] += 1
        with contextlib.suppress(RedisError, OSError):
            await self._client.client_kill_filter(_type="normal", skipme=True)

    async def _spoil_uploads(self) -> None:
        self._fleet.counts["upload faults"] += 1
        times = self._random.randint(1, 3)
        fault = self._random.choice(("503", "429", "reset", "drop_reply", "drop_reply", "latency"))
        if fault.isdigit():
            await self._bucket.fail("insert.*", status=int(fault), times=times, retry_after=0.2)
        else:
            await self._bucket.fail("insert.*", fault, times=times, seconds=2 * self._random.random())

    async def _start(self) -> None:
        shutdown = self._random.choice(("flush", "handoff"))
        await self._fleet.start(self.revision, shutdown=shutdown)

    async def _refill(self) -> None:
        while len(self._fleet.running) < FEWEST + self._random.randint(0, 1):
            await self._start()

    def _anyone(self) -> Member | None:
        awake = [member for member in self._fleet.running if not member.paused]
        return self._random.choice(awake) if awake else None

    def _begin(self, what: Awaitable[None]) -> None:
        task = asyncio.ensure_future(what)
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)
