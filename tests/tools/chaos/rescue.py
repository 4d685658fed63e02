"""An operator who finds streams that no worker reads by the commands, and moves their audio home."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from random import Random

from redis import RedisError

from tests.support.process import environment, outcome
from tests.tools.chaos.careless import Careless
from tests.tools.chaos.conservation import World
from worker.operations.diagnosis import NAMED

LONGEST_MOVE = 4.0
"""Seconds after which a move that shall not finish is killed; most of them go by until it begins."""

TRIES = 20


class Rescue:
    """Lists and moves; `wrong` is what the commands say or do wrongly, `counts` what was done how often."""

    def __init__(self, there: World, pushers: Careless, random: Random) -> None:
        self._there = there
        self._pushers = pushers
        self._random = random
        self._variables = environment(there.settings())
        self.counts: Counter[str] = Counter()
        self.wrong: list[str] = []

    async def look(self) -> None:
        """Compare what the commands say with what is there, while nobody pushes."""
        await self._pushers.hold(self._look)

    async def move(self) -> None:
        """Move all while everybody goes on; connections to Redis may be cut."""
        status, output, errors = await outcome(self._variables, "streams", "move", "--all", "--json")
        if status == 0:
            self._count(output)
        elif status == 1:  # the next one moves the rest
            self.counts["moves that lost Redis"] += 1
        else:
            self.wrong.append(f"a move ended with status {status}: {output[-300:]} {errors[-300:]}")

    async def move_a_little(self) -> None:
        """Kill a move wherever it is by then."""
        await outcome(
            self._variables, "streams", "move", "--all", kill_after=LONGEST_MOVE * self._random.random() ** 0.5
        )
        self.counts["moves killed"] += 1

    async def bring_home(self) -> None:
        """Move what is left, when nobody pushes any more, and make sure that nothing is."""
        await self._look()
        await self.move()
        if left := await self._there_are():
            self.wrong.append(f"after the last move there are {left}")
        await self._look()

    async def _look(self) -> None:
        expected = await self._there_are()
        status, output = await self._asked("streams", "ls", "--json")
        listed = {stray["key"]: stray["entries"] for stray in json.loads(output)}
        if (listed, status) != (expected, 3 if expected else 0):
            self.wrong.append(f"streams ls shows {listed} and ends with status {status}; there are {expected}")
        status, output = await self._asked("status", "--check")
        told = {key for key in expected if f"no worker reads the stream {key} ({expected[key]:,} entries)" in output}
        more = f"no worker reads {len(expected) - NAMED} more streams"
        if len(told) != min(NAMED, len(expected)) or (more in output) != (len(expected) > NAMED):
            self.wrong.append(f"status tells of {told}, there are {expected}: {output[:2000]}")
        if expected and status != 4:
            self.wrong.append(f"status --check ends with status {status}, there are {expected}")
        self.counts["looks"] += 1
        self.counts["looks that found some"] += bool(expected)

    async def _asked(self, *arguments: str) -> tuple[int, str]:
        """Ask until Redis answers: somebody may cut connections."""
        for _ in range(TRIES):
            status, output, errors = await outcome(self._variables, *arguments)
            if status != 1:
                return status, output
        raise AssertionError(f"{arguments} failed {TRIES} times: {errors}")

    async def _there_are(self) -> dict[str, int]:
        """Entries in wrong streams."""
        lengths = {key: await self._length(key) for key in self._pushers.wrong_keys}
        return {key: length for key, length in lengths.items() if length}

    async def _length(self, key: str) -> int:
        while True:
            try:
                return int(await self._there.client.xlen(key))
            except (RedisError, OSError):
                await asyncio.sleep(0.05)

    def _count(self, output: str) -> None:
        for stream in json.loads(output)["streams"]:
            self.counts["entries moved by whole moves"] += stream["moved"]
            if stream["left"] or stream.get("refused"):
                self.wrong.append(f"a move left something: {stream}")
        self.counts["whole moves"] += 1
