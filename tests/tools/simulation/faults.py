"""What goes wrong, where: at every request of a worker, by the seed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum
from random import Random
from typing import TypeVar

from tests.tools.simulation.node import Node

T = TypeVar("T")


class Fate(StrEnum):
    """What becomes of one request."""

    FINE = "fine"
    REFUSED = "refused"  # nothing happens, and the worker is told so
    REPLY_LOST = "reply lost"  # it happens, and the worker sees an error
    TORN = "torn"  # the connection breaks after some of a pipeline's commands
    LATE = "late"  # the worker gives up; it happens some time after
    SLOW = "slow"  # it takes long, either way
    KILLED_BEFORE = "killed before"
    KILLED_AFTER = "killed after"
    PAUSED_BEFORE = "paused before"
    PAUSED_AFTER = "paused after"


FATES = list(Fate)
KILLS = (Fate.KILLED_BEFORE, Fate.KILLED_AFTER)


@dataclass(frozen=True, slots=True)
class Rates:
    """Chance of each fate per request, and how long things take, in seconds."""

    refused: float = 0.0
    reply_lost: float = 0.0
    torn: float = 0.0
    late: float = 0.0
    slow: float = 0.0
    kill: float = 0.0
    pause: float = 0.0
    longest_slow: float = 0.5
    longest_pause: float = 6.0
    timeout: float = 1.0

    def weights(self) -> list[float]:
        """In the order of `Fate`."""
        wrong = [self.refused, self.reply_lost, self.torn, self.late, self.slow]
        wrong += [self.kill / 2, self.kill / 2, self.pause / 2, self.pause / 2]
        return [1 - sum(wrong), *wrong]


class Edge:
    """The way of requests from the workers to one server and back."""

    def __init__(self, rates: Rates, random: Random, trace: Callable[[str], None] | None) -> None:
        self.rates = rates
        self._random = random
        self._trace = trace
        self.kills_left = 0

    def calm(self) -> None:
        """Nothing goes wrong any more."""
        self.rates = Rates()

    async def cross(
        self, node: Node, what: Callable[[], str], act: Callable[[float], T], error: Callable[[str], Exception]
    ) -> T:
        """Let `node` make one request. `act` makes it happen, up to the share (0 to 1) of it that is given."""
        await node.awake()
        fate = self._draw()
        if self._trace is not None:
            self._trace(f"{what()}: {fate}")
        await self._before(node, fate)
        if fate is Fate.REFUSED:
            raise error(fate)
        if fate is Fate.LATE:
            await self._late(act)
            raise error(fate)
        value = act(self._random.random() if fate is Fate.TORN else 1.0)
        await self._after(node, fate)
        if fate in (Fate.REPLY_LOST, Fate.TORN):
            raise error(fate)
        return value

    def _draw(self) -> Fate:
        fate = self._random.choices(FATES, self.rates.weights())[0]
        if fate in KILLS:
            if self.kills_left == 0:
                return Fate.FINE
            self.kills_left -= 1
        return fate

    async def _before(self, node: Node, fate: Fate) -> None:
        slow = fate is Fate.SLOW and self._random.random() < 0.5
        await asyncio.sleep(self._random.random() * (self.rates.longest_slow if slow else 0.003))
        if fate is Fate.KILLED_BEFORE:
            node.crash()
        if fate is Fate.PAUSED_BEFORE:
            node.pause(self._random.random() * self.rates.longest_pause)
        await node.awake()

    async def _after(self, node: Node, fate: Fate) -> None:
        if fate is Fate.SLOW:
            await asyncio.sleep(self._random.random() * self.rates.longest_slow)
        if fate is Fate.KILLED_AFTER:
            node.crash()
        if fate is Fate.PAUSED_AFTER:
            node.pause(self._random.random() * self.rates.longest_pause)
        await node.awake()

    async def _late(self, act: Callable[[float], object]) -> None:
        delay = self._random.random() * 2 * self.rates.timeout
        asyncio.get_running_loop().call_later(delay, act, 1.0)
        await asyncio.sleep(self.rates.timeout)


def scaled(rates: Rates, factor: float) -> Rates:
    """The same mixture, more or less of it."""
    chances = ("refused", "reply_lost", "torn", "late", "slow", "kill", "pause")
    return replace(rates, **{name: getattr(rates, name) * factor for name in chances})
