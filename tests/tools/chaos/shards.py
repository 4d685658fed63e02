"""What an operator does to a Redis Cluster of primaries with one replica each, and what a replica has received."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

import redis
from redis.crc import key_slot

from tests.support.redis_cluster import ALL_SLOTS, RedisCluster
from tests.support.redis_server import RedisServer
from tests.tools.simulation.redis_model import Id, parsed_id

PATIENCE = 60.0
POLL_SECONDS = 0.05
ADMIN_TIMEOUT = 10.0
MIGRATE_TIMEOUT_MS = 5000
KEYS_AT_ONCE = 20


@dataclass(frozen=True, slots=True)
class Member:
    """One node as another one sees it."""

    id: str
    port: int
    is_primary: bool
    primary: str
    is_failing: bool
    slots: Sequence[tuple[int, int]]

    @classmethod
    def of(cls, line: str) -> Member:
        """Parse a line of CLUSTER NODES."""
        name, address, flags, primary, _, _, _, _, *ranges = line.split()
        kinds = flags.split(",")
        slots = [(int(text.split("-")[0]), int(text.split("-")[-1])) for text in ranges if not text.startswith("[")]
        failing = any(kind in kinds for kind in ("fail", "fail?", "handshake", "noaddr"))
        return cls(name, int(address.split("@")[0].rpartition(":")[2]), "master" in kinds, primary, failing, slots)

    def has(self, slot: int) -> bool:
        return any(first <= slot <= last for first, last in self.slots)


class Shards:
    """Asks and changes a cluster; every method but the constructor may block, so call it in a thread."""

    def __init__(self, cluster: RedisCluster) -> None:
        self._cluster = cluster
        self.servers = cluster.servers
        self._hung: set[RedisServer] = set()

    def primaries(self) -> list[RedisServer]:
        """The servers with slots, in a fixed order."""
        ports = {member.port for member in self.members() if member.is_primary and member.slots}
        return [server for server in self.servers if server.port in ports]

    def replica_of(self, primary: RedisServer) -> RedisServer:
        """The one replica of a primary."""
        members = self.members()
        own = next(member.id for member in members if member.port == primary.port)
        port = next(member.port for member in members if member.primary == own and not member.is_failing)
        return self._server(port)

    def owner(self, key: str) -> RedisServer:
        """The server that has a key's slot."""
        return self.owner_of(key_slot(key.encode()))

    def owner_of(self, slot: int) -> RedisServer:
        """The server that has a slot."""
        return self._server(next(member.port for member in self.members() if member.is_primary and member.has(slot)))

    def slots_of(self, primary: RedisServer) -> list[int]:
        """All slots of a primary."""
        own = next(member for member in self.members() if member.port == primary.port)
        return [slot for first, last in own.slots for slot in range(first, last + 1)]

    def members(self) -> list[Member]:
        """All nodes, in the eyes of one that answers."""
        return self._members(next(server for server in self.servers if server.is_running and server not in self._hung))

    def settled(self) -> None:
        """Wait until all servers run and agree, and each primary has a replica with all that it has, or none has one.

        Raises:
            TimeoutError: it does not come to that.
        """
        _until(self._is_settled, "the cluster does not settle")

    def await_primary(self, server: RedisServer) -> None:
        """Wait until a server is a primary. Raises `TimeoutError`."""
        _until(lambda: self.role(server) == "master", f"no failover to port {server.port}")

    def role(self, server: RedisServer) -> str:
        """What a server is in its own eyes; empty if it does not answer."""
        try:
            return str(self.ask(server, "ROLE")[0].decode())
        except (redis.RedisError, OSError):
            return ""

    def fail_over(self, replica: RedisServer) -> None:
        """Let a replica take over from its primary, orderly."""
        self.ask(replica, "CLUSTER", "FAILOVER")
        self.await_primary(replica)

    def cut_off(self, replica: RedisServer, primary: RedisServer) -> None:
        """Let a replica receive nothing more: its link is closed, and a login that fails keeps it from another one."""
        self.ask(replica, "CONFIG", "SET", "masterauth", "wrong")
        self.ask(primary, "CLIENT", "KILL", "TYPE", "replica")

    def let_follow(self, replica: RedisServer) -> None:
        """Undo `cut_off`."""
        self.ask(replica, "CONFIG", "SET", "masterauth", "")

    def hang(self, server: RedisServer) -> None:
        """Stop a server until `wake`."""
        self._hung.add(server)
        server.pause()

    def wake(self, server: RedisServer) -> None:
        """Let it go on."""
        server.resume()
        self._hung.discard(server)

    def move(self, slots: Iterable[int], source: RedisServer, target: RedisServer) -> None:
        """Move slots one after the other, with all keys, as `redis-cli --cluster reshard` does."""
        for slot in slots:
            self.open(slot, source, target)
            self.finish(slot, source, target)

    def open(self, slot: int, source: RedisServer, target: RedisServer) -> None:
        """Begin to move a slot."""
        names = {member.port: member.id for member in self.members()}
        self._set_slot(target, slot, "IMPORTING", names[source.port])
        self._set_slot(source, slot, "MIGRATING", names[target.port])

    def finish(self, slot: int, source: RedisServer, target: RedisServer) -> None:
        """Move all keys of an open slot, and then the slot."""
        while keys := self.ask(source, "CLUSTER", "GETKEYSINSLOT", slot, KEYS_AT_ONCE):
            self.ask(source, "MIGRATE", "127.0.0.1", target.port, "", 0, MIGRATE_TIMEOUT_MS, "KEYS", *keys)
        name = self.ask(target, "CLUSTER", "MYID")
        others = [server for server in self.primaries() if server not in (source, target)]
        for server in (target, source, *others):
            self._set_slot(server, slot, "NODE", name)

    def moves_atomically(self) -> bool:
        """Whether servers can move slots by themselves, as Valkey 9 does."""
        found = self.ask(self.servers[0], "COMMAND", "INFO", "CLUSTER|MIGRATESLOTS")
        return bool(found and found[0])

    def move_atomically(self, slots: Sequence[int], source: RedisServer, target: RedisServer) -> None:
        """Let the source move slots by itself. Raises `TimeoutError`, and RuntimeError if it gives up."""
        ranges = [part for slot in slots for part in (slot, slot)]
        name = self.ask(target, "CLUSTER", "MYID")
        self.ask(source, "CLUSTER", "MIGRATESLOTS", "SLOTSRANGE", *ranges, "NODE", name)
        _until(lambda: not self._migrating(source), "an atomic migration does not end")

    def last_ids(self, server: RedisServer, keys: Iterable[str]) -> dict[str, Id]:
        """The last id that each stream ever had at a server, also at a replica; streams that it lacks are left out."""
        with self._client(server) as client, client.pipeline(transaction=False) as pipe:
            pipe.execute_command("READONLY")
            asked = list(keys)
            for key in asked:
                pipe.execute_command("XINFO", "STREAM", key)
            _, *replies = pipe.execute(raise_on_error=False)
        found = {key: reply for key, reply in zip(asked, replies, strict=True) if not isinstance(reply, Exception)}
        return {key: parsed_id(_facts(reply)[b"last-generated-id"]) for key, reply in found.items()}

    def ask(self, server: RedisServer, *words: str | bytes | int) -> Any:  # noqa: ANN401 -- whatever Redis replies
        """Run one command; the reply is as Redis sends it."""
        with self._client(server) as client:
            return client.execute_command(*words)

    def _set_slot(self, server: RedisServer, slot: int, *words: str) -> None:
        """Change a slot. A Valkey refuses that while its replica is not linked, as on a busy machine."""
        _until(lambda: self._changes_slot(server, slot, *words), f"{server.port} has no replica for slot {slot}")

    def _changes_slot(self, server: RedisServer, slot: int, *words: str) -> bool:
        try:
            self.ask(server, "CLUSTER", "SETSLOT", slot, *words)
        except redis.ResponseError as error:
            if "NOREPLICAS" not in str(error):
                raise
            return False
        return True

    def _client(self, server: RedisServer) -> redis.Redis:
        client = server.client(timeout=ADMIN_TIMEOUT)
        client.response_callbacks.clear()
        return client

    def _server(self, port: int) -> RedisServer:
        return next(server for server in self.servers if server.port == port)

    def _members(self, server: RedisServer) -> list[Member]:
        lines = self.ask(server, "CLUSTER", "NODES").decode().splitlines()
        return [Member.of(line) for line in lines]

    def _migrating(self, source: RedisServer) -> list[bytes]:
        jobs = list(map(_facts, self.ask(source, "CLUSTER", "GETSLOTMIGRATIONS")))
        states = [job[b"state"] for job in jobs if job[b"operation"] == b"EXPORT"]
        if failed := [job for job in jobs if job[b"state"] in (b"failed", b"cancelled")]:
            raise RuntimeError(f"an atomic migration has failed: {failed[0]}")
        return [state for state in states if state != b"success"]

    def _is_settled(self) -> bool:
        try:
            views = [self._members(server) for server in self.servers]
        except (redis.RedisError, OSError):
            return False
        shapes = {tuple(sorted((m.port, m.is_primary, m.primary, tuple(m.slots)) for m in view)) for view in views}
        if len(shapes) != 1 or any(member.is_failing for view in views for member in view):
            return False
        primaries = [member for member in views[0] if member.is_primary]
        if sum(last + 1 - first for member in primaries for first, last in member.slots) != ALL_SLOTS:
            return False
        followed = {member.primary for member in views[0] if not member.is_primary}
        return followed in (set(), {member.id for member in primaries}) and all(map(self._is_linked, self.servers))

    def _is_linked(self, server: RedisServer) -> bool:
        with server.client(timeout=ADMIN_TIMEOUT) as client:
            facts = client.info("replication")
        return bool(facts["role"] == "master" or facts["master_link_status"] == "up")


class Received:
    """What a replica has got when its primary dies: it is looked at until it is a primary itself."""

    def __init__(self, shards: Shards, replica: RedisServer, keys: Sequence[str]) -> None:
        self._shards = shards
        self._replica = replica
        self._keys = keys
        self._over = False
        self.last: Mapping[str, Id] = {}
        self.promoted = False

    async def look(self) -> None:
        """Look until `end`."""
        while not self._over and not self.promoted:
            await asyncio.to_thread(self._look)
            await asyncio.sleep(POLL_SECONDS)

    def end(self) -> None:
        self._over = True

    def _look(self) -> None:
        try:
            last = self._shards.last_ids(self._replica, self._keys)
            role = self._shards.role(self._replica)
        except (redis.RedisError, OSError):
            return
        if role == "slave":
            self.last = last
        self.promoted = role == "master"


def some(random: Random, items: Sequence[int], most: int) -> list[int]:
    """Some of the items, in any order."""
    return random.sample(items, min(most, len(items)))


def _facts(reply: Any) -> dict[bytes, Any]:  # noqa: ANN401 -- whatever Redis replies
    """A map as Redis sends it, by either of its protocols."""
    return reply if isinstance(reply, dict) else dict(zip(reply[::2], reply[1::2], strict=True))


def _until(holds: Callable[[], bool], complaint: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not holds():
        if time.monotonic() > deadline:
            raise TimeoutError(complaint)
        time.sleep(POLL_SECONDS)
