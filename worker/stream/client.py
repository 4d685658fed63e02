"""Requests to Redis: scripts by name, each command to the node that has its key, the library's errors translated."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from typing import Any, NamedTuple, Self, TypeVar, cast

from redis.asyncio.client import Pipeline
from redis.exceptions import AskError, ClusterDownError, MovedError, NoScriptError

from worker.errors import StreamError
from worker.model.causes import StreamCause
from worker.stream.keys import expected_type
from worker.stream.scripting import Call
from worker.stream.servers.address import Place
from worker.stream.servers.failures import is_wrong_type, stream_error, wrong_type
from worker.stream.servers.node import Callbacks, Command, Node
from worker.stream.servers.topology import Servers, Topology

T = TypeVar("T")

MAX_REDIRECTIONS = 5
"""A slot moves once. More redirections than these mean that nodes of a cluster disagree."""

FIRST_KEY = {"EVALSHA": 3, "EVAL": 3, "EVAL_RO": 3}
"""Where a command's first key stands, unless it comes right after the command."""


class Target(NamedTuple):
    """Where a command is sent, and whether that node is still receiving the slot."""

    node: Node
    asking: bool = False


class Client:
    """Runs scripts and commands; `async with` closes it.

    One server is a cluster with one node. A failure of a node comes back as a `StreamError` in the places of its
    commands; other nodes' replies are complete.
    """

    def __init__(self, servers: Servers, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self._topology = Topology(servers, clock)

    @property
    def nodes(self) -> list[Node]:
        """The nodes that have slots, as far as they are known."""
        return self._topology.nodes

    @property
    def known_nodes(self) -> list[Node]:
        """The same, and none before a server has told them.

        Until then `nodes` has the address in REDIS_URL. If it is a service's, each request may reach another server.
        """
        return self._topology.nodes if self._topology.is_known else []

    def node_of(self, key: str) -> Node:
        """The node that has a key, as far as it is known."""
        return self._topology.node_of(key)

    @property
    def changes(self) -> int:
        """How often slots have changed their nodes: as long as it stays, `node_of` answers the same."""
        return self._topology.changes

    def moves_of(self, key: str) -> int:
        """How often a key has changed its node, as far as it is known."""
        return self._topology.moves_of(key)

    async def find_nodes(self) -> list[Node]:
        """Ask for the nodes unless they are known. Raises `StreamError`."""
        await self._topology.refresh()
        return self._topology.nodes

    async def observe_nodes(self) -> None:
        """Learn every server's time, and whether it is still the same process with the same data.

        Raises:
            StreamError: none answers.
        """
        nodes = await self.find_nodes()
        replies = await asyncio.gather(*(node.observe() for node in nodes), return_exceptions=True)
        failures = [reply for reply in replies if isinstance(reply, StreamError)]
        if unforeseen := [reply for reply in replies if reply is not None and reply not in failures]:
            raise unforeseen[0]
        if failures:
            self._topology.doubt()
        if len(failures) == len(nodes):
            raise failures[0]

    def now_ms(self, key: str = "") -> int:
        """The time in ms since 1970 of the node that has a key."""
        return self._topology.node_of(key).now_ms()

    async def redis_ms(self) -> int:
        """Ask a node for its time in ms since 1970. Raises `StreamError`."""
        seconds, micros = await (await self.find_nodes())[0].command(lambda pipe: pipe.time())
        return int(seconds) * 1000 + int(micros) // 1000

    async def reconnect(self) -> None:
        """Drop all idle connections: the same names may lead to other primaries by now."""
        for node in self._topology.nodes:
            await node.reconnect()

    async def close(self) -> None:
        """Close all connections."""
        await self._topology.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def together(self, items: Sequence[T], most: int) -> list[Sequence[T]]:
        """Divide partitions, or requests for them, into groups that one command may name: a matter of speed only.

        A group has at most `most` items, and only one where partitions are slots of a cluster.
        """
        step = 1 if self._topology.is_cluster else most
        return [items[first : first + step] for first in range(0, len(items), step)]

    async def run(self, call: Call) -> Any:
        """Run one script. Raises `StreamError`, `LeaseLost`."""
        return (await self.run_all([call]))[0]

    async def pages(self, call: Callable[[str], Call], start: str = "-") -> AsyncIterator[list[Any]]:
        """Run a script page by page, until the end; yields its reply for each page.

        `call` makes the call for the page that begins at a given id. Raises `StreamError`, `LeaseLost`.
        """
        while start:
            following, *found = await self.run(call(start))
            yield found
            start = following.decode()

    async def run_all(self, calls: Sequence[Call]) -> list[Any]:
        """Run scripts in one round trip; raises the first failure, though other calls may have succeeded."""
        replies = await self.gather(calls)
        for reply in replies:
            if isinstance(reply, Exception):
                raise reply
        return replies

    async def gather(self, calls: Sequence[Call]) -> list[Any]:
        """Run scripts in one round trip; failures come back as `StreamError` values in their places.

        A server that does not know a script has not run it. It gets the script once, and runs the calls then.
        """
        replies: list[Any] = [None] * len(calls)
        await self._run_some(calls, range(len(calls)), (), replies)
        if missing := _unknown(replies):
            await self._run_some(calls, missing, self._first_at_each_node(calls, missing), replies)
        if missing := _unknown(replies):  # a slot has moved meanwhile, to a server that did not get the script
            await self._run_some(calls, missing, missing, replies)
        return [await self._translated(reply, call) for reply, call in zip(replies, calls, strict=True)]

    async def _run_some(
        self, calls: Sequence[Call], places: Sequence[int], whole: Collection[int], replies: list[Any]
    ) -> None:
        """Run the calls in `places`, those in `whole` with the text of their scripts, and put their replies there."""

        def queue(pipe: Pipeline) -> None:
            for place in places:
                way = Call.queue_whole if place in whole else Call.queue_cached
                way(calls[place], pipe)

        for place, reply in zip(places, await self.pipeline(queue), strict=True):
            replies[place] = reply

    def _first_at_each_node(self, calls: Sequence[Call], places: Sequence[int]) -> Collection[int]:
        firsts: dict[tuple[str, Node], int] = {}
        for place in places:
            firsts.setdefault((calls[place].script, self.node_of(calls[place].keys[0])), place)
        return set(firsts.values())

    async def command(self, queue: Callable[[Pipeline], object], key: str) -> Any:
        """Run one plain command that is about `key`; a key of a wrong type is named in the error.

        Raises:
            StreamError: Redis does not answer, or refuses.
        """
        (reply,) = await self.pipeline(queue)
        if is_wrong_type(reply) and (sentence := await self.wrong_types([key])):
            raise StreamError(sentence, cause=StreamCause.REFUSED) from reply
        if isinstance(reply, Exception):
            raise stream_error(reply) from (reply.__cause__ if isinstance(reply, StreamError) else reply)
        return reply

    async def hashes(self, keys: Sequence[str]) -> list[dict[bytes, bytes] | StreamError]:
        """Read whole hashes in one round trip; failures come back in their places, as `command` raises them."""
        replies = await self.pipeline(lambda pipe: [pipe.hgetall(key) for key in keys])
        return [await self._explained(reply, key) for reply, key in zip(replies, keys, strict=True)]

    async def _explained(self, reply: Any, key: str) -> Any:
        if is_wrong_type(reply) and (sentence := await self.wrong_types([key])):
            return StreamError(sentence, cause=StreamCause.REFUSED)
        return stream_error(reply) if isinstance(reply, Exception) else reply

    async def pipeline(self, queue: Callable[[Pipeline], object]) -> list[Any]:
        """Run any commands that name a key, in one round trip for each node, not in a transaction.

        Errors of commands and failures of nodes come back as values.

        Raises:
            StreamError: no server can be reached, so that their number is not known.
        """
        await self._topology.refresh()
        recorded = self._topology.nodes[0].redis.pipeline(transaction=False)
        queue(recorded)
        commands = cast("list[Command]", recorded.command_stack)
        waiting = {i: Target(self._topology.node_of(_key_of(command))) for i, command in enumerate(commands)}
        replies: list[Any] = [None] * len(commands)
        for _ in range(1 + MAX_REDIRECTIONS):
            await self._send(waiting, commands, cast("Callbacks", recorded.response_callbacks), replies)
            waiting = {i: target for i in waiting if (target := self.redirection(replies[i], waiting[i].node))}
            if not waiting:
                break
        return replies

    async def connect_to(self, node: Node) -> None:
        """Connect to one node, see `Node.connect`. Raises `StreamError`."""
        await self._doubting(node.connect())

    async def pipeline_at(self, node: Node, queue: Callable[[Pipeline], object]) -> list[Any]:
        """Run any commands at one node, in one round trip over one connection, not in a transaction.

        Errors of commands come back as values, also those that `redirection` explains.

        Raises:
            StreamError: the node can't be reached.
        """
        return await self._doubting(node.pipeline(queue))

    async def command_at(self, node: Node, queue: Callable[[Pipeline], object]) -> Any:
        """Run one command at one node. Raises `StreamError`, also if the node refuses."""
        (reply,) = await self.pipeline_at(node, queue)
        if isinstance(reply, Exception):
            raise stream_error(reply) from reply
        return reply

    async def _send(
        self,
        targets: dict[int, Target],
        commands: Sequence[Command],
        callbacks: Callbacks,
        replies: list[Any],
    ) -> None:
        """Send commands to their targets, and put their replies into their places."""
        groups: dict[Target, list[int]] = defaultdict(list)
        for i, target in targets.items():
            groups[target].append(i)

        async def send(target: Target, places: Sequence[int]) -> None:
            try:
                found = await target.node.execute([commands[i] for i in places], callbacks, asking=target.asking)
            except StreamError as error:
                self._topology.doubt()
                found = [error] * len(places)
            for i, reply in zip(places, found, strict=True):
                replies[i] = reply

        await _together([send(target, places) for target, places in groups.items()])

    async def _doubting(self, request: Awaitable[T]) -> T:
        """The reply of a node; if it fails, slots may be elsewhere by now."""
        try:
            return await request
        except StreamError:
            self._topology.doubt()
            raise

    def redirection(self, reply: Any, asked: Node) -> Target | None:
        """Where a command must be sent again, because the node that was asked has not run it; None if it need not."""
        if isinstance(reply, MovedError):
            return Target(self._topology.redirected(reply.slot_id, asked, Place(reply.host, reply.port)))
        if isinstance(reply, AskError):
            return Target(self._topology.asks(asked, Place(reply.host, reply.port)), asking=True)
        if isinstance(reply, ClusterDownError):
            self._topology.doubt()
        return None

    async def _translated(self, reply: Any, call: Call) -> Any:
        if is_wrong_type(reply) and (sentence := await self.wrong_types(call.keys)):
            return StreamError(sentence, cause=StreamCause.REFUSED)
        return call.translate(reply)

    async def wrong_types(self, keys: Sequence[str]) -> str:
        """Say which of these keys hold what does not belong there; empty if none does, or Redis does not tell."""
        try:
            types = await self.pipeline(lambda pipe: [pipe.type(key) for key in keys])
        except StreamError:
            return ""
        found = [(key, kind.decode()) for key, kind in zip(keys, types, strict=True) if isinstance(kind, bytes)]
        return "; ".join(wrong_type(key, kind) for key, kind in found if kind not in ("none", expected_type(key)))


def _unknown(replies: Sequence[Any]) -> list[int]:
    """The places of calls whose script the server does not know."""
    return [place for place, reply in enumerate(replies) if isinstance(reply, NoScriptError)]


def _key_of(command: Command) -> str | bytes:
    """The first key of a command; all its keys are in one slot."""
    words = command[0]
    key: str | bytes = words[words.index(b"STREAMS") + 1 if words[0] == "XREAD" else FIRST_KEY.get(words[0], 1)]
    return key


async def _together(sendings: Sequence[Awaitable[None]]) -> None:
    """Wait for all; a single one needs no task of its own."""
    if len(sendings) == 1:
        await sendings[0]
    else:
        await asyncio.gather(*sendings)
