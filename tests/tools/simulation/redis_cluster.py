"""A model of all servers of Redis: one alone, or a cluster in which each server has some slots, and slots move.

`test_redis_cluster.py` compares its redirections with those of a real cluster.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from random import Random
from typing import Any

from redis.crc import REDIS_CLUSTER_HASH_SLOTS as ALL_SLOTS
from redis.exceptions import AskError, ClusterCrossSlotError, MovedError, ResponseError, TryAgainError

from tests.tools.simulation.redis_model import Argument, Database, ModelRedis, Reply, Script, Stream
from worker.stream.servers.address import Place
from worker.stream.servers.topology import slot_of

SERVICE = Place("redis", 6379)
"""The name that REDIS_URL has; it leads to any server."""

PROCESSES = 1000
"""Numbers of processes that each server may use up."""


class Slots:
    """Which server has which slot: first each an even share, then some moved ones."""

    def __init__(self, servers: Sequence[ClusterServer]) -> None:
        self._servers = servers
        self._moved: dict[int, ClusterServer] = {}

    def owner(self, slot: int) -> ClusterServer:
        return self._moved.get(slot) or self._servers[slot * len(self._servers) // ALL_SLOTS]

    def give(self, slot: int, server: ClusterServer) -> None:
        self._moved[slot] = server

    def told(self) -> Reply:
        """The reply to CLUSTER SLOTS."""
        shares = {-(-number * ALL_SLOTS // len(self._servers)) for number in range(len(self._servers))}
        starts = sorted(shares | {slot + after for slot in self._moved for after in (0, 1)} - {ALL_SLOTS})
        return [
            [first, following - 1, [place.host.encode(), place.port, b"id"]]
            for first, following in pairwise([*starts, ALL_SLOTS])
            for place in [self.owner(first).place]
        ]


class ClusterServer(ModelRedis):
    """A primary of a cluster.

    `slots` is what it knows of all slots. `leaving` and `arriving` are its slots that are open for a migration. It has
    two places: that of its primary, and that of the replica which takes over from it, and has a replica there then.
    """

    def __init__(self, clock: Callable[[], float], scripts: Mapping[str, Script], number: int) -> None:
        super().__init__(clock, scripts, number * PROCESSES)
        self.place, self._other_place = Place(f"redis-{number}-a", 6379), Place(f"redis-{number}-b", 6379)
        self.slots = Slots(())
        self.leaving: dict[int, ClusterServer] = {}
        self.arriving: set[int] = set()

    def change_places(self) -> None:
        """Let its replica answer elsewhere, when it takes over."""
        self.place, self._other_place = self._other_place, self.place

    def execute_all(self, commands: Sequence[Sequence[Argument]]) -> list[Reply]:
        """Run the commands of one pipeline, each at a slot that this server has; ASKING is for the next one."""
        replies: list[Reply] = []
        asking = False
        for name, *args in commands:
            refusal = self.redirection(keys_of(name, args), asking=asking)
            asking = name == "ASKING"
            replies.append(b"OK" if asking else refusal or self.execute(name, *args))
        return replies

    def redirection(self, keys: Sequence[str], *, asking: bool) -> ResponseError | None:
        """Why a command must be sent to another server, or again; None if it may run here."""
        if not keys:
            return None
        slot = slot_of(keys[0])
        if any(slot_of(key) != slot for key in keys):
            return ClusterCrossSlotError("Keys in request don't hash to the same slot")
        self.tick()
        missing = [key for key in keys if not self.data.has(key)]
        if slot in self.leaving and missing:
            if len(missing) < len(keys):
                return _try_again()
            return AskError(_address(slot, self.leaving[slot].place))
        if slot in self.arriving and asking:
            return _try_again() if missing and len(set(keys)) > 1 else None
        owner = self.slots.owner(slot)
        return None if owner is self else MovedError(_address(slot, owner.place))

    def keys_in(self, slot: int) -> list[str]:
        """CLUSTER GETKEYSINSLOT."""
        self.tick()
        return [key for key in self.data.known_keys() if slot_of(key) == slot]

    def _cluster(self, _slots: str) -> Reply:
        return self.slots.told()


class Everywhere:
    """The data of all servers: each key is looked up where it is."""

    def __init__(self, at: Callable[[str], ModelRedis]) -> None:
        self._at = at

    def stream(self, key: str) -> Stream:
        return self._at(key).data.stream(key)

    def hash(self, key: str) -> dict[str, bytes]:
        return self._at(key).data.hash(key)


class ModelServers:
    """All servers. `data` is what they hold together.

    Whoever holds `reshaping` may open a slot, or let a server fail over: in a real cluster, too, an operator does not
    do both at once.
    """

    def __init__(
        self, clock: Callable[[], float], scripts: Mapping[str, Script], number: int, random: Random | None = None
    ) -> None:
        self._random = random or Random(0)
        self._cluster = [ClusterServer(clock, scripts, n) for n in range(number)] if number > 1 else []
        self.all: Sequence[ModelRedis] = self._cluster or [ModelRedis(clock, scripts)]
        self.slots = Slots(self._cluster)
        for server in self._cluster:
            server.slots = Slots(self._cluster)
        self.data = Everywhere(self.holder)
        self.reshaping = asyncio.Lock()

    @property
    def is_cluster(self) -> bool:
        return bool(self._cluster)

    @property
    def read(self) -> set[tuple[str, str]]:
        """Streams and entries that any worker was given, by whatever server."""
        return set().union(*(server.read for server in self.all))

    def listening_at(self, place: Place) -> ModelRedis | None:
        """The server that listens at a place."""
        if not self._cluster:
            return self.all[0]
        if place == SERVICE:
            return self._random.choice(self._cluster)
        return next((server for server in self._cluster if server.place == place), None)

    def owner(self, key: str) -> ClusterServer:
        """The server of a cluster that has a key's slot."""
        return self.slots.owner(slot_of(key))

    def holder(self, key: str) -> ModelRedis:
        """The server that has a key, or would get it: the one to which its slot moves, if the key is not behind."""
        if not self._cluster:
            return self.all[0]
        owner, target = self.owner(key), self.owner(key).leaving.get(slot_of(key))
        owner.tick()
        return owner if target is None or owner.data.has(key) else target

    def push(self, key: str, fields: Mapping[str, bytes | str]) -> str:
        """XADD by a pusher that follows all redirections; returns the id."""
        return self.holder(key).push(key, fields)

    def is_open(self, key: str) -> bool:
        """Whether a key's slot moves key by key now."""
        return slot_of(key) in self.owner(key).leaving

    def others(self, server: ModelRedis | None) -> list[ClusterServer]:
        """All servers of a cluster but this one."""
        return [other for other in self._cluster if other is not server]

    def move(self, key: str, target: ClusterServer, spread: float) -> None:
        """Move a key's slot with all that is in it in one moment; other servers know it `spread` seconds later."""
        slot, source = slot_of(key), self.owner(key)
        target.tick()
        for stale in target.keys_in(slot):
            target.data.drop(stale)
        for found in source.keys_in(slot):
            source.data.hand_over(found, target.data)
        self._settle(slot, source, target, spread)

    def open(self, key: str, target: ClusterServer) -> ClusterServer:
        """Open a key's slot for its migration; returns where it comes from."""
        slot, source = slot_of(key), self.owner(key)
        for stale in target.keys_in(slot):
            target.data.drop(stale)
        target.arriving.add(slot)
        source.leaving[slot] = target
        return source

    def migrate_one(self, key: str, target: ClusterServer) -> bool:
        """Move one key of the slot; whether there was one left."""
        source = self.owner(key)
        left = source.keys_in(slot_of(key))
        if not left:
            return False
        target.tick()
        source.data.hand_over(self._random.choice(left), target.data)
        return True

    def close(self, key: str, target: ClusterServer, spread: float) -> None:
        """End the migration of a key's slot; what is left of it moves too."""
        slot, source = slot_of(key), self.owner(key)
        while self.migrate_one(key, target):
            pass
        target.arriving.discard(slot)
        source.leaving.pop(slot)
        self._settle(slot, source, target, spread)

    def fail_over(self, server: ModelRedis, replica: Database, behind: float) -> None:
        """See `ModelRedis.fail_over`; what the replica held of slots that have moved meanwhile is dropped."""
        server.fail_over(replica, behind)
        if isinstance(server, ClusterServer):
            server.tick()
            for key in server.data.known_keys():
                if self.owner(key) is not server:
                    server.data.drop(key)

    def _settle(self, slot: int, source: ClusterServer, target: ClusterServer, spread: float) -> None:
        self.slots.give(slot, target)
        source.slots.give(slot, target)
        target.slots.give(slot, target)
        asyncio.get_running_loop().call_later(spread, self._tell, slot)

    def _tell(self, slot: int) -> None:
        """Let all servers know who has a slot."""
        for server in self._cluster:
            server.slots.give(slot, self.slots.owner(slot))


def keys_of(name: str, args: Sequence[Any]) -> list[str]:
    """The keys that a command names."""
    if name in ("EVAL", "EVALSHA"):
        return [str(key) for key in args[2 : 2 + args[1]]]
    if name == "XREAD":
        rest = args[args.index(b"STREAMS") + 1 :]
        return list(rest[: len(rest) // 2])
    if name == "MGET":
        return list(args)
    return [args[0]] if name in ("HGETALL", "HMGET", "HDEL", "GET", "SET", "XADD") else []


def _try_again() -> TryAgainError:
    return TryAgainError("Multiple keys request during rehashing of slot")


def _address(slot: int, place: Place) -> str:
    return f"{slot} {place}"
