"""Which server has which key: one server has all of them, or each node of a Redis Cluster has some slots.

The library's own cluster client is not used. It breaks off requests of other tasks when slots move, fails at a slot
that is being moved, repeats commands that may have run, and can't bound the size of replies.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from itertools import islice
from typing import Any, Protocol

import structlog
from redis.asyncio import Redis
from redis.crc import REDIS_CLUSTER_HASH_SLOTS, key_slot
from redis.exceptions import NoPermissionError, RedisError, ResponseError

from worker.errors import StreamError
from worker.model.causes import StreamCause
from worker.runtime.tasks import end
from worker.stream.servers.address import Place
from worker.stream.servers.failures import stream_error
from worker.stream.servers.node import Command, Node

SLOTS: Command = (("CLUSTER", "SLOTS"), {})
ASKED_AT_ONCE = 3
"""Nodes that are asked for the slots together, so that one that hangs delays none of the others."""

LEAST_REST = 0.5
"""Seconds between two questions for the slots; a redirection needs none."""

log = structlog.get_logger()


class NoCluster(RedisError):
    """Several servers were given, and the first that answers is a single one."""


class Servers(Protocol):
    """Opens clients of servers, see `Connector`."""

    @property
    def seeds(self) -> Sequence[Place]:
        """The places to begin with."""

    def open(self, place: Place) -> Redis:
        """A client of one server."""


class Topology:
    """The nodes and their slots, as they were told last.

    A redirection corrects single slots at once. A failed request, or a redirection, lets the next request ask again.
    `changes` counts how often slots have changed their nodes.
    """

    def __init__(self, servers: Servers, clock: Callable[[], float]) -> None:
        self._servers = servers
        self._clock = clock
        self._nodes: dict[Place, Node] = {}
        self._owners: list[Node | None] = []
        self._alone: Node | None = None  # the server that has answered without telling slots
        self._serving: list[Node] | None = None  # the different nodes in `_owners`, unless these have changed since
        self._is_known = False
        self._is_outdated = False
        self._asked_at = 0.0
        self._asking = asyncio.Lock()
        self._moves: Counter[int] = Counter()
        self.changes = 0

    @property
    def is_cluster(self) -> bool:
        """Whether a command may only name keys of one slot."""
        return bool(self._owners)

    @property
    def is_known(self) -> bool:
        """Whether a server has told the slots, or that it has none; before that, `nodes` is only where to begin."""
        return self._is_known

    @property
    def nodes(self) -> list[Node]:
        """All nodes that have slots, each once; a single server is the only node."""
        if not self._owners:
            return [self._alone or self._at(self._servers.seeds[0])]
        if self._serving is None:  # every request asks for the nodes, and there are 16384 slots
            self._serving = [node for node in dict.fromkeys(self._owners) if node is not None]
        return [*self._serving]

    def node_of(self, key: str | bytes) -> Node:
        """The node that has a key; if no node has its slot, any node, which will say so."""
        if not self._owners:
            return self.nodes[0]
        return self._owners[slot_of(key)] or self.nodes[0]

    def moves_of(self, key: str | bytes) -> int:
        """How often the slot of a key has changed its node."""
        return self._moves[slot_of(key)]

    async def refresh(self) -> None:
        """Ask for the slots, if they are not known or may have changed.

        Raises:
            StreamError: they are not known, and no server can be reached.
        """
        if not self._is_due():
            return
        async with self._asking:
            if self._is_due():
                await self._ask()

    def doubt(self) -> None:
        """Let the next request ask for the slots: a node of a cluster may have failed."""
        self._is_outdated = True

    def redirected(self, slot: int, asked: Node, place: Place) -> Node:
        """Note that `asked` has named another node for a slot; returns this node."""
        self.doubt()
        node = self._at(self._completed(place, asked))
        if not self._owners:  # the first answer came from a user who may not ask for the slots
            self._owners = [asked] * REDIS_CLUSTER_HASH_SLOTS
        if self._owners[slot] is not node:
            self._note_changes([slot])
        self._owners[slot], self._serving = node, None
        return node

    def asks(self, asked: Node, place: Place) -> Node:
        """The node that takes a slot over from `asked`, for one command."""
        return self._at(self._completed(place, asked))

    async def close(self) -> None:
        """Close all connections."""
        for node in self._nodes.values():
            await node.close()

    def _is_due(self) -> bool:
        return not self._is_known or (self._is_outdated and self._clock() >= self._asked_at + LEAST_REST)

    async def _ask(self) -> None:
        self._asked_at = self._clock()
        candidates = iter(self._candidates())
        failure: StreamError | None = None
        while some := list(islice(candidates, ASKED_AT_ONCE)):
            reply = await _first_answer(some)
            if not isinstance(reply, StreamError):
                self._learn(*reply)
                return
            failure = failure or reply
        if not self._is_known and failure is not None:
            raise failure

    def _candidates(self) -> Iterable[Node]:
        """All nodes that may know the slots: those that answered last come first."""
        known = [*self.nodes, *(self._at(seed) for seed in self._servers.seeds)]
        return sorted(dict.fromkeys(known), key=lambda node: node.must_recheck)

    def _learn(self, answering: Node, reply: Any) -> None:
        if len(self._servers.seeds) > 1 and _is_no_cluster(reply):
            text = f"REDIS_URL names several servers, but {answering.name} belongs to no cluster: {reply}"
            raise StreamError(text, cause=StreamCause.REFUSED) from NoCluster(text)
        self._is_known, self._is_outdated = True, False
        if isinstance(reply, Exception):  # a single server: it has no slots, or it may not be asked
            self._alone = answering
            if isinstance(reply, NoPermissionError):
                log.warning("redis.slots_refused", error=str(stream_error(reply)))
            return
        owners: list[Node | None] = [None] * REDIS_CLUSTER_HASH_SLOTS
        for first, last, primary, *_ in reply:
            node = self._at(self._completed(_place(primary), answering))
            owners[first : last + 1] = [node] * (last + 1 - first)
        if owners != self._owners:
            self._note_changes(slot for slot, node in enumerate(self._owners) if node is not owners[slot])
        before, self._owners, self._serving = self.nodes if self._owners else None, owners, None
        if before not in (None, now := self.nodes):
            log.warning("redis.nodes_changed", nodes=[node.name for node in now])

    def _note_changes(self, slots: Iterable[int]) -> None:
        self._moves.update(slots)
        self.changes += 1

    def _completed(self, place: Place, told_by: Node) -> Place:
        """A node that does not know its own name means the host that was asked."""
        if place.host:
            return place
        host = next(known.host for known, node in self._nodes.items() if node is told_by)
        return Place(host, place.port)

    def _at(self, place: Place) -> Node:
        if place not in self._nodes:
            self._nodes[place] = Node(str(place), self._servers.open(place), self._clock)
        return self._nodes[place]


@lru_cache(maxsize=65536)
def slot_of(key: str | bytes) -> int:
    """The slot of a key, by its hash tag."""
    return key_slot(key if isinstance(key, bytes) else key.encode())


def _is_no_cluster(reply: Any) -> bool:
    """Whether a server refuses to tell slots for a reason other than our credentials."""
    return isinstance(reply, ResponseError) and not isinstance(reply, NoPermissionError)


def _place(facts: Sequence[Any]) -> Place:
    host, port = facts[0], facts[1]
    name = host.decode() if host else ""
    return Place("" if name == "?" else name, int(port))


async def _first_answer(nodes: Sequence[Node]) -> tuple[Node, Any] | StreamError:
    """The first answer of several nodes, and the node it is from; the first failure if all fail."""

    async def ask(node: Node) -> tuple[Node, Any] | StreamError:
        try:
            (reply,) = await node.execute([SLOTS], {})
        except StreamError as error:
            return error
        return node, reply

    if len(nodes) == 1:
        return await ask(nodes[0])
    tasks = [asyncio.create_task(ask(node)) for node in nodes]
    failure: StreamError | None = None
    try:
        for answer in asyncio.as_completed(tasks):
            reply = await answer
            if not isinstance(reply, StreamError):
                return reply
            failure = failure or reply
    finally:
        await end(tasks)
    return failure or StreamError("Redis: no node is known", cause=StreamCause.CONNECTION)
