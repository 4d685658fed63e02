"""A pusher's client for a Redis Cluster in a few lines: it follows redirections, and knows nothing of the worker's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from random import Random
from typing import Any, NamedTuple

import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.crc import key_slot
from redis.exceptions import AskError, MovedError, RedisError

TIMEOUT = 1.0
MOST_REDIRECTIONS = 5
WAIT_MS = 500

Words = Sequence[Any]


class Answer(NamedTuple):
    """Replies to commands, and the port of the node that gave them."""

    port: int
    replies: Sequence[Any]


class NoAnswer(Exception):
    """The commands may have run or not; they can be sent again."""


class PlainClient:
    """Sends commands about one key to the node that has it, over one connection, each of them once."""

    def __init__(self, ports: Sequence[int], random: Random) -> None:
        self._random = random
        self._nodes = {
            port: redis.asyncio.Redis(
                host="127.0.0.1",
                port=port,
                protocol=2,
                retry=Retry(NoBackoff(), 0),
                socket_timeout=TIMEOUT,
                socket_connect_timeout=TIMEOUT,
            )
            for port in ports
        }
        self._places: dict[int, int] = {}

    async def close(self) -> None:
        for node in self._nodes.values():
            await node.aclose()

    async def xadd(self, key: str, fields: Mapping[str, str | bytes], *, wait: int = 0) -> tuple[int, bytes]:
        """Append an entry; returns the port of the node that has confirmed it, and its id.

        Raises:
            NoAnswer: it did not, or fewer than `wait` replicas have the entry.
        """
        words = ["XADD", key, "*", *(part for pair in fields.items() for part in pair)]
        port, replies = await self.send(key, words, *[["WAIT", wait, WAIT_MS]] * bool(wait))
        if wait and (isinstance(replies[1], Exception) or replies[1] < wait):
            raise NoAnswer("too few replicas")
        return port, replies[0]

    async def send(self, key: str, *commands: Words) -> Answer:
        """Run commands at the node that has the key. Raises `NoAnswer` if one of them is refused, or all get lost."""
        slot, asking = key_slot(key.encode()), False
        port = self._places.get(slot) or self._random.choice([*self._nodes])
        for _ in range(MOST_REDIRECTIONS):
            replies, was_asking = await self._ask(slot, port, commands, asking=asking), asking
            first = replies[0]
            if not isinstance(first, AskError):  # a MovedError is one, too
                break
            port, asking = first.port, not isinstance(first, MovedError)
        if isinstance(first, Exception):
            self._places.pop(slot, None)
            raise NoAnswer(type(first).__name__)
        if not was_asking:
            self._places[slot] = port
        return Answer(port, replies)

    async def _ask(self, slot: int, port: int, commands: Sequence[Words], *, asking: bool) -> list[Any]:
        try:
            async with self._nodes[port].pipeline(transaction=False) as pipe:
                pipe.response_callbacks = {}
                for words in ([["ASKING"]] if asking else []) + [*commands]:
                    pipe.execute_command(*words)
                replies: list[Any] = await pipe.execute(raise_on_error=False)
        except (RedisError, OSError) as error:
            self._places.pop(slot, None)
            raise NoAnswer(type(error).__name__) from error
        return replies[1:] if asking else replies
