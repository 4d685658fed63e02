"""The number of partitions of a Redis Cluster grows and shrinks under load: 64 → 512 → 64, while workers are killed.

Pushers are of two generations. While a change is under way, each conversation goes over from the former generation to
the new one at a moment of its own. The command's last step is tried again and again: it must wait for the audio that
only the former number explains.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from random import Random

from codec.entry import partition_of
from tests.support.command import command
from tests.tools.chaos.cluster_world import ClusterWorld, cluster_world
from tests.tools.chaos.conservation import PREFIX
from tests.tools.chaos.fleet import LOOK_SECONDS
from tests.tools.chaos.talks import Talk
from tests.tools.chaos.trouble import FEWEST, Plan
from worker.stream.keys import Keys

FEW, MANY = 64, 512
"""The numbers of partitions of the long form."""

NOT_YET = 3
"""Exit code of `partitions` while audio waits that only the former number explains."""

PATIENCE = 120.0
"""Seconds for which the same audio may forbid the last step, while workers die."""

STAY = 3.0
"""Seconds between two steps of the long form, in which audio flows."""


@dataclass(frozen=True, slots=True)
class Course:
    """How often the number of partitions grows from `few` to `many` and shrinks, with `stay` seconds between steps."""

    few: int = FEW
    many: int = MANY
    rounds: int = 3
    stay: float = STAY


class Generations:
    """Which number of partitions each conversation's pusher uses; `valid` are those that some pusher may still use."""

    def __init__(self, keys: Keys, first: int) -> None:
        self._keys = keys
        self._first = first
        self._numbers: dict[str, int] = {}
        self.valid = {first}

    def key_of(self, talk: Talk) -> str:
        """The stream of a conversation now."""
        number = self._numbers.get(talk.conversation_id, self._first)
        return self._keys.stream(partition_of(talk.conversation_id, number))

    def allows(self, talk: Talk, key: str) -> bool:
        """Whether a pusher may still repeat a push to a stream."""
        return any(key == self._keys.stream(partition_of(talk.conversation_id, number)) for number in self.valid)

    def give(self, talk: Talk, number: int) -> None:
        """Another pusher continues a conversation."""
        self._numbers[talk.conversation_id] = number


class Change:
    """Changes the number of partitions there and back."""

    def __init__(self, there: ClusterWorld, generations: Generations, course: Course) -> None:
        self._there = there
        self._generations = generations
        self._course = course
        self._random = Random(there.plan.seed)
        self._numbers = [course.few]
        self._said = ""
        self._starting = asyncio.Lock()
        self.counts: Counter[str] = Counter()
        self.wrong: list[str] = []

    async def run(self) -> None:
        """Grow and shrink, and kill workers until the plan's number."""
        over = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._kill_workers(over))
            for _ in range(self._course.rounds):
                for number in (self._course.many, self._course.few):
                    if not self.wrong:
                        await self._change_to(number)
            over.set()

    async def start(self) -> None:
        """Start a worker that is told one of the numbers that count now, or none."""
        async with self._starting:
            number = self._random.choice([None, *self._numbers])
            shutdown = self._random.choice(("flush", "handoff"))
            await self._there.fleet.start("one", shutdown=shutdown, partitions=number)

    async def _change_to(self, number: int) -> None:
        former = self._numbers[0]
        await asyncio.sleep(self._course.stay)
        if (code := await self._step(number)) != 0:
            self.wrong.append(f"the first step to {number} ended with {code}")
        self._numbers = [former, number]
        await asyncio.sleep(self._course.stay)
        self._generations.valid.add(number)
        await self._hand_over(number)
        self._generations.valid = {number}
        await self._there.pushers.hold(_nothing)
        self._numbers = [number]  # for workers that start from now on; those that were told the former one live on
        await self._all_started()
        if (code := await self._step_until_drained(number)) != 0:
            self.wrong.append(f"the last step to {number} ended with {code}: {self._said}")
        self.counts[f"changes to {number}"] += 1

    async def _step_until_drained(self, number: int) -> int:
        """Try the last step until no audio is waiting that forbids it, or the same audio for too long."""
        clock, said, patience_ends = asyncio.get_running_loop().time, "", 0.0
        while (code := await self._step(number)) == NOT_YET:
            if self._said != said:
                said, patience_ends = self._said, clock() + PATIENCE
            if clock() > patience_ends:
                break
            self.counts["last steps that had to wait"] += 1
            await asyncio.sleep(self._random.random())
        return code

    async def _hand_over(self, number: int) -> None:
        talks = self._random.sample(self._there.pushers.all, len(self._there.pushers.all))
        for talk in talks:
            await asyncio.sleep(self._course.stay / len(talks))
            self._generations.give(talk, number)

    async def _all_started(self) -> None:
        """Wait until workers that may have been told the former number have compared it: later they would refuse it."""
        async with self._starting:
            starting = self._there.fleet.running
        while starting:
            await asyncio.sleep(LOOK_SECONDS)
            starting = [one for one in starting if one.process.running and not one.process.events("redis.connected")]

    async def record(self) -> None:
        """Let Redis know the first number."""
        await self._step(self._course.few)

    async def _step(self, number: int) -> int:
        settings = self._there.settings(partitions=self._numbers[0])
        result = await asyncio.to_thread(command, settings, "partitions", str(number))
        self._said = result.output
        return result.exit_code

    async def _kill_workers(self, over: asyncio.Event) -> None:
        fleet = self._there.fleet
        while not over.is_set() or fleet.counts["killed"] < self._there.plan.kills:
            await asyncio.sleep(self._there.plan.pace * self._random.expovariate(1))
            await fleet.kill_any(self._random)
            while len(fleet.running) < FEWEST + 1:
                await self.start()


async def _nothing() -> None:
    """Only let what is under way with the former number end."""


async def layouts(plan: Plan, directory: Path, course: Course) -> tuple[list[str], list[str]]:
    """One run; what is wrong, best nothing, and its figures."""
    generations = Generations(Keys(PREFIX), course.few)
    async with cluster_world(plan, directory, replicas=0, streams=generations, partitions=course.many) as there:
        change = Change(there, generations, course)
        await change.record()
        for _ in range(FEWEST + 1):
            await change.start()
        await there.pushers.talk_through(change.run)
        await there.come_to_rest()
        wrong, figures = await there.account()
        return [*wrong, *change.wrong], [*figures, f"{dict(change.counts)}"]
