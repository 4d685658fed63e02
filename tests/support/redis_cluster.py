"""A real Redis Cluster of child processes on this machine, whose slots and primaries tests move."""

from __future__ import annotations

import time
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from redis.crc import key_slot

from tests.support.certificates import tls_options
from tests.support.redis_server import RedisServer, free_port

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    import redis

ALL_SLOTS = 16384
PATIENCE = 20.0
LOOK_SECONDS = 0.05
"""Between two looks at all nodes, which take some connections each."""

OPTIONS = {
    "cluster_enabled": "yes",
    "cluster_node_timeout": "1000",
    "cluster_require_full_coverage": "no",
    "cluster_replica_validity_factor": "0",
}


class RedisCluster:
    """`primaries` nodes that share all slots evenly, and `replicas` more nodes, one for each of the first primaries.

    With `tls`, a file with a certificate and its key, nodes speak TLS to each other and to clients of `url`.
    """

    def __init__(
        self, directory: Path, primaries: int = 3, replicas: int = 0, *, tls: Path | None = None, **options: str
    ) -> None:
        self.servers: list[RedisServer] = []
        for number in range(primaries + replicas):
            place = directory / f"node{number}"
            place.mkdir(parents=True)
            encrypted = {**tls_options(tls), "tls_cluster": "yes", "tls_port": str(free_port())} if tls else {}
            self.servers.append(RedisServer(place, **OPTIONS | encrypted | options))
        self._primaries = primaries

    @property
    def url(self) -> str:
        """Where a client begins, by TLS if the nodes speak it."""
        tls_port = self.servers[0].options.get("tls-port")
        return f"rediss://127.0.0.1:{tls_port}/0" if tls_port else self.servers[0].url

    def start(self) -> None:
        """Return when all nodes agree that all slots are served."""
        for server in self.servers:
            server.start()
        first = self.servers[0]
        for server in self.servers[1:]:
            self.ask(first, "CLUSTER", "MEET", "127.0.0.1", server.port, server.bus_port)
        share = ALL_SLOTS / self._primaries
        for number, server in enumerate(self.servers[: self._primaries]):
            last = round((number + 1) * share) - 1
            self.ask(server, "CLUSTER", "ADDSLOTSRANGE", round(number * share), last)
        self._until(lambda: all(len(self._nodes(server)) == len(self.servers) for server in self.servers))
        for primary, replica in zip(self.servers, self.servers[self._primaries :], strict=False):
            self.ask(replica, "CLUSTER", "REPLICATE", self.id_of(primary))
        self._until(self._is_whole)

    def stop(self) -> None:
        for server in self.servers:
            server.kill()

    def owner(self, key: str) -> RedisServer:
        """The server that has a key's slot now, as the other servers see it."""
        for first, last, primary, *_ in self._slots():
            if first <= key_slot(key.encode()) <= last:
                return next(server for server in self.servers if server.port == primary[1])
        raise LookupError(key)

    def move(self, key: str, target: RedisServer) -> None:
        """Move a key's slot, with all that is in it, as `redis-cli --cluster reshard` does."""
        with self.moving(key, target):
            pass

    @contextmanager
    def moving(self, key: str, target: RedisServer) -> Iterator[None]:
        """Hold a key's slot open for its migration, and move it when the block is left."""
        slot, source = key_slot(key.encode()), self.owner(key)
        self.ask(target, "CLUSTER", "SETSLOT", slot, "IMPORTING", self.id_of(source))
        self.ask(source, "CLUSTER", "SETSLOT", slot, "MIGRATING", self.id_of(target))
        yield
        port = int(target.options.get("tls-port", target.port))
        while keys := self.ask(source, "CLUSTER", "GETKEYSINSLOT", slot, 10):
            self.ask(source, "MIGRATE", "127.0.0.1", port, "", 0, 5000, "KEYS", *keys)
        for server in (target, source, *self.servers):
            if server.is_running:
                self.ask(server, "CLUSTER", "SETSLOT", slot, "NODE", self.id_of(target))

    def fail_over(self, replica: RedisServer) -> None:
        """Let a replica take over from its primary, orderly."""
        self.ask(replica, "CLUSTER", "FAILOVER")
        self.await_primary(replica)

    def cut_replication(self, primary: RedisServer, replica: RedisServer) -> None:
        """Hang a replica, so that from now on it gets nothing from its primary, not even what is in a socket."""
        replica.pause()
        self.ask(primary, "CLIENT", "KILL", "TYPE", "replica")

    def synchronised(self) -> None:
        """Wait until each replica has what its primary had."""
        for server in self.servers[: len(self.servers) - self._primaries]:
            with server.client() as client:
                self._until(partial(self._has_replica_up_to_date, client))

    def await_primary(self, server: RedisServer) -> None:
        """Wait until a server has slots in the eyes of all that run."""
        self._until(
            lambda: all(
                any(primary[1] == server.port for _, _, primary, *_ in self.ask(other, "CLUSTER", "SLOTS"))
                for other in self.servers
                if other.is_running
            )
        )

    def id_of(self, server: RedisServer) -> str:
        return str(self.ask(server, "CLUSTER", "MYID").decode())

    def ask(self, server: RedisServer, *words: str | bytes | int) -> Any:  # noqa: ANN401 -- whatever Redis replies
        with server.client() as client:
            client.response_callbacks.clear()
            return client.execute_command(*words)

    @staticmethod
    def _has_replica_up_to_date(client: redis.Redis) -> bool:
        facts = client.info("replication")
        return bool(facts.get("slave0", {}).get("offset") == facts["master_repl_offset"])

    def _slots(self) -> Sequence[Any]:
        asked = next(server for server in self.servers if server.is_running)
        found: Sequence[Any] = self.ask(asked, "CLUSTER", "SLOTS")
        return found

    def _nodes(self, server: RedisServer) -> Sequence[bytes]:
        lines: Sequence[bytes] = self.ask(server, "CLUSTER", "NODES").splitlines()
        return lines

    def _is_whole(self) -> bool:
        return all(
            b"cluster_state:ok" in self.ask(server, "CLUSTER", "INFO")
            and not any(b"handshake" in line for line in self._nodes(server))
            and sum(len(place) - 2 for place in self.ask(server, "CLUSTER", "SLOTS")) == len(self.servers)
            for server in self.servers
        )

    def _until(self, holds: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE
        while not holds():
            if time.monotonic() > deadline:
                raise RuntimeError("the cluster does not agree: " + self.servers[0].log[-2000:])
            time.sleep(LOOK_SECONDS)
